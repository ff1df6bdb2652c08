"""`servable canary` with everything real: nginx, two versions, its companion, and load."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import typer
from tests.conftest import NAME, SHIPPED
from tests.forked import servable
from tests.functional.gateway.stage import stage as run_stage
from tests.functional.serving.calls import eventually
from typer.testing import CliRunner

from servable_serving.canary.traffic_meter import NoMetrics, TrafficMeter
from servable_serving.cli.canary import register
from servable_serving.core.errors import FolderError
from servable_serving.release.server_group import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.functional.gateway.gateway import Gateway
    from tests.functional.gateway.stage import Stage

PICTURE = {"instances": [[[0] * 28] * 28]}
GOOD, FAILING, LATE = 2, 3, 4
# The machine that tests run on may have other work: only what is far beyond that counts here.
LENIENT = ("--max-latency-ratio", "50", "--max-errors", "5%", "--min-requests", "10")
STRICT = ("--max-latency-ratio", "2", "--max-errors", "5%", "--min-requests", "15")


@pytest.fixture(scope="module")
def stage(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    sources = {
        1: SHIPPED, GOOD: SHIPPED, FAILING: small_models / "failing", LATE: small_models / "late"
    }  # fmt: skip
    with run_stage(tmp_path_factory.mktemp("stage"), NAME, sources) as running:
        yield running


def flags(stage: Stage) -> list[object]:
    # Not by answers: those that are late here are wrong, too.
    return [*stage.arguments, "--metrics", stage.metrics, "--mirror", "http://127.0.0.1:9"]


@contextmanager
def load(gateway: Gateway) -> Iterator[list[int]]:
    """Four callers that name no version and leave the machine some time; the statuses they get."""
    stop = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        while not stop.wait(0.02):
            # Each over a connection of its own: one that rests while nginx is reloaded is closed,
            # and this caller, unlike the SDK, does not ask again.
            statuses.append(gateway.ask(f"{NAME}:predict", json=PICTURE).status_code)

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        eventually(lambda: len(statuses) > 20)
        yield statuses
    finally:
        stop.set()
        for caller in callers:
            caller.join()


# A latency must be too long at five looks, of which there are 30: the time that is planned decides
# how soon that is noticed.
@pytest.mark.parametrize(
    ("version", "rules", "planned"),
    [(FAILING, LENIENT, "5m"), (LATE, STRICT, "30s")],
)
def test_a_bad_one_is_withdrawn(
    stage: Stage, version: int, rules: tuple[str, ...], planned: str
) -> None:
    before = stage.labels()["stable"]
    with load(stage.gateway) as statuses:
        done = servable(
            "canary", version, "--share", "30%", "--for", planned, *rules, *flags(stage)
        )
        asked = len(statuses)
        eventually(lambda: len(statuses) > asked + 20)
        afterwards = statuses[asked:]
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"version {version} of {NAME} was withdrawn" in done.stderr
    assert f"the share of version {version} is back to 0" in done.stderr
    assert stage.labels() == {"stable": before}
    assert stage.shares() == {"stable": 100}
    # From the moment that the command has ended, nobody meets it any more.
    assert set(afterwards) == {200}
    report, page = stage.report("canary", version)
    assert report["outcome"] == "rolled back"
    if version == FAILING:
        assert report["canary"]["statuses"].keys() == {"INVALID_ARGUMENT"}
        # It did not take the five minutes to find out.
        assert report["seconds"] < 290
    else:
        assert report["canary"]["errors"] == 0
        assert report["canary"]["requests"] >= 15
        assert report["canary"]["seconds"]["p95"] > 2 * report["stable"]["seconds"]["p95"]
    assert f"# Version {version} of {NAME}: rolled back" in page


def test_ctrl_c_leaves_no_traffic_to_it(stage: Stage) -> None:
    before = len(stage.gateway.lines())
    with load(stage.gateway):
        process = subprocess.Popen(
            [
                # A shell that runs the tests in the background has them ignore Ctrl-C.
                "env", "--default-signal=INT", sys.executable, "-m", "servable_client", "canary",
                str(GOOD), "--share", "0.25", "--for", "10m", *LENIENT,
                *map(str, flags(stage)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        eventually(lambda: stage.shares().get("canary") == 25, 120)
        # Were it killed outright, the gateway would end the trial at its planned time.
        assert f"# {NAME} until " in (stage.root / "models.traffic").read_text()
        eventually(
            lambda: any(line["label"] == "canary" for line in stage.gateway.lines()[before:])
        )
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode not in {0, 2}
    assert f"the share of version {GOOD} is back to 0" in said
    assert stage.shares() == {"canary": 0, "stable": 100}
    assert stage.report("canary", GOOD)[0]["outcome"] == "interrupted"
    # The file says so at once; the gateway looks at it each second.
    meter = TrafficMeter(stage.metrics, model=NAME)
    eventually(lambda: meter.share("canary") == 0)


def test_a_good_one_is_promoted(stage: Stage) -> None:
    share = 0.4
    before = len(stage.gateway.lines())
    with load(stage.gateway) as statuses:
        done = servable(
            "canary", GOOD, "--share", "40%", "--for", "8s", *LENIENT, *flags(stage), "--json"
        )
    assert done.returncode == 0, done.stderr
    assert set(statuses) == {200}
    trial = json.loads(done.stdout)
    assert trial["outcome"] == "promoted"
    assert stage.labels()["stable"] == GOOD
    assert stage.shares()["stable"] == 100
    # It had its share, but for chance: five standard deviations. Requests pinned by the release's
    # own smoke test name a version. A worker of nginx that is being replaced may answer a last one
    # after the trial: so the middle half of its requests counts.
    lines = [
        line["label"]
        for line in stage.gateway.lines()[before:]
        if line["method"] == "predict" and line["label"]
    ]
    places = [place for place, label in enumerate(lines) if label == "canary"]
    quarter = len(places) // 4
    during = lines[places[quarter] + 1 : places[-quarter - 1]]
    assert len(during) > 30
    expected = share * len(during)
    deviation = math.sqrt(share * (1 - share) * len(during))
    assert abs(during.count("canary") - expected) < 5 * deviation
    # The companion counted what the log has, for both.
    assert trial["canary"]["requests"] == pytest.approx(lines.count("canary"), rel=0.2)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["99"], ReleaseError, "there is no version 99"),
        (["{stable}"], ReleaseError, "is stable already"),
        ([str(LATE), "--metrics", "http://127.0.0.1:9/metrics"], NoMetrics, "127.0.0.1:9"),
        ([str(LATE), "--repository", "/nonexistent/models"], FolderError, "/nonexistent/models"),
    ],
)
def test_what_cannot_be_tried_changes_nothing(
    stage: Stage, arguments: list[str], error: type[Exception], said: str
) -> None:
    before = (stage.labels(), stage.shares())
    stable = stage.labels()["stable"]
    given = ["canary", *map(str, flags(stage)), *(a.format(stable=stable) for a in arguments)]
    app = typer.Typer()
    register(app)
    found = CliRunner().invoke(app, given).exception
    assert isinstance(found, error)
    assert said in str(found)
    assert (stage.labels(), stage.shares()) == before
