"""`servable canary` with everything real: nginx, two versions, its companion, and load."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import NAME, SHIPPED, servable
from tests.functional.gateway.gateway import companion, gateway, patient_server
from tests.functional.serving.calls import config_of, eventually

from servable_serving.canary.watch import Watch
from servable_serving.repository.models_config import ModelsConfig
from servable_serving.repository.traffic import read_traffic, write_traffic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer
    from tests.functional.gateway.gateway import Gateway

PICTURE = {"instances": [[[0] * 28] * 28]}
GOOD, FAILING, LATE = 2, 3, 4
# The machine that tests run on may have other work: only what is far beyond that counts here.
LENIENT = ("--max-latency-ratio", "50", "--max-errors", "5%", "--min-requests", "30")
STRICT = ("--max-latency-ratio", "2", "--max-errors", "5%", "--min-requests", "15")


@dataclass
class Stage:
    """A repository, its server, the gateway before it and the companion beside that."""

    root: Path
    server: RunningServer
    gateway: Gateway
    metrics: str

    @property
    def arguments(self) -> list[object]:
        return [
            "--repository", self.root / NAME, "--server", self.server.grpc,
            "--metrics", self.metrics,
        ]  # fmt: skip

    def labels(self) -> dict[str, int]:
        return ModelsConfig(self.root).labels(NAME)

    def shares(self) -> dict[str, float]:
        return {route.label: route.percent for route in read_traffic(self.root)[NAME]}


@pytest.fixture(scope="module")
def stage(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    root = folder / "models"
    for version, source in {1: SHIPPED, GOOD: SHIPPED, FAILING: "failing", LATE: "late"}.items():
        shutil.copytree(small_models / source, root / NAME / str(version))
    (root / "models.config").write_text(
        config_of(
            {NAME: root / NAME}, labels={"stable": 1}, policy="specific { versions: 1 }"
        ).replace(str(root), "/models")
    )
    write_traffic(root, {})
    with (
        companion() as (metrics, syslog),
        patient_server(
            folder,
            f"--model_config_file={root / 'models.config'}",
            f"--model_repository_path={root}",
            "--model_config_file_poll_wait_seconds=1",
            "--allow_version_labels_for_unavailable_models",
            model=NAME,
        ) as server,
        gateway(
            folder,
            grpc_port=server.port,
            rest_port=server.rest_port,
            SERVABLE_RATE=0,
            SERVABLE_METRICS_SYSLOG=syslog,
        ) as running,
    ):
        yield Stage(root, server, running, metrics)


@contextmanager
def load(gateway: Gateway) -> Iterator[list[int]]:
    """Four callers that name no version; the statuses that they get."""
    stop = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        while not stop.is_set():
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


def reports(stage: Stage, version: int) -> list[dict[str, Any]]:
    folder = stage.root / NAME / ".reports"
    return [
        json.loads(path.read_text()) for path in sorted(folder.glob(f"canary-{version}-*.json"))
    ]


@pytest.mark.parametrize(
    ("version", "rules", "why"),
    [(FAILING, LENIENT, "INVALID_ARGUMENT"), (LATE, STRICT, "95 % of its")],
)
def test_a_bad_one_is_taken_out(
    stage: Stage, version: int, rules: tuple[str, ...], why: str
) -> None:
    before = stage.labels()["stable"]
    with load(stage.gateway) as statuses:
        done = servable(
            "canary", version, "--share", "30%", "--for", "5m", *rules, *stage.arguments
        )
        asked = len(statuses)
        eventually(lambda: len(statuses) > asked + 20)
        afterwards = statuses[asked:]
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"version {version} of {NAME} is out of service" in done.stderr
    assert f"the share of version {version} is back to 0" in done.stderr
    assert stage.labels() == {"stable": before}
    assert stage.shares() == {"stable": 100}
    # From the moment that the command has ended, nobody meets it any more.
    assert set(afterwards) == {200}
    report = reports(stage, version)[-1]
    assert report["outcome"] == "rolled back"
    assert why in report["reason"]
    # It did not take the five minutes to find out.
    assert report["seconds"] < 290
    assert report["canary"]["requests"] >= (15 if version == LATE else 2)
    page = next((stage.root / NAME / ".reports").glob(f"canary-{version}-*.md")).read_text()
    assert f"# Version {version} of {NAME}: rolled back" in page


def test_ctrl_c_leaves_no_traffic_to_it(stage: Stage) -> None:
    before = len(stage.gateway.lines())
    with load(stage.gateway):
        process = subprocess.Popen(
            [
                # A shell that runs the tests in the background has them ignore Ctrl-C.
                "env", "--default-signal=INT", sys.executable, "-m", "servable_client", "canary",
                str(GOOD), "--share", "0.25", "--for", "10m", *LENIENT,
                *map(str, stage.arguments),
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
    assert reports(stage, GOOD)[-1]["outcome"] == "broken off"
    # The file says so at once; the gateway looks at it each second.
    watch = Watch(stage.metrics, model=NAME)
    eventually(lambda: watch.share("canary") == 0)


def test_a_good_one_is_promoted(stage: Stage) -> None:
    share = 0.3
    before = len(stage.gateway.lines())
    with load(stage.gateway) as statuses:
        done = servable(
            "canary", GOOD, "--share", "30%", "--for", "30s", *LENIENT, *stage.arguments, "--json"
        )
    assert done.returncode == 0, done.stderr
    assert set(statuses) == {200}
    trial = json.loads(done.stdout)
    assert trial["outcome"] == "promoted"
    assert stage.labels()["stable"] == GOOD
    assert stage.shares()["stable"] == 100
    # From the first to the last of its requests it had its share, but for chance: five standard
    # deviations. Requests pinned by the release's own smoke test name a version.
    lines = [
        line["label"]
        for line in stage.gateway.lines()[before:]
        if line["method"] == "predict" and line["label"]
    ]
    first, last = lines.index("canary"), len(lines) - lines[::-1].index("canary")
    during = lines[first + 1 : last - 1]
    assert len(during) > 100
    expected = share * len(during)
    deviation = math.sqrt(share * (1 - share) * len(during))
    assert abs(during.count("canary") - expected) < 5 * deviation
    # The companion counted what the log has, for both.
    assert trial["canary"]["requests"] == pytest.approx(lines.count("canary"), rel=0.2)


def test_too_few_requests_prove_nothing(stage: Stage) -> None:
    version = 1 if stage.labels()["stable"] == GOOD else GOOD
    stable = stage.labels()["stable"]
    done = servable("canary", version, "--for", "2s", *stage.arguments)
    assert done.returncode == 1
    assert "it got 0 requests, and fewer than 100 prove nothing" in done.stderr
    assert stage.labels()["stable"] == stable


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["99"], 1, "there is no version 99"),
        (["{stable}"], 1, "is stable already"),
        ([str(GOOD), "--metrics", "http://127.0.0.1:9/metrics"], 1, "no metrics of the gateway"),
        ([str(GOOD), "--share", "200%"], 2, "is no share"),
        ([str(GOOD), "--for", "soon"], 2, "is no time"),
        ([str(GOOD), "--max-errors", "many"], 2, "is no share"),
    ],
)
def test_what_is_no_trial(stage: Stage, arguments: list[str], status: int, said: str) -> None:
    before = (stage.labels(), stage.shares())
    stable = stage.labels()["stable"]
    if arguments[0] == str(stable):
        arguments = [str(LATE), *arguments[1:]]
    given = [argument.format(stable=stable) for argument in arguments]
    done = servable("canary", *(a for a in [*stage.arguments, *given]))
    assert done.returncode == status, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert (stage.labels(), stage.shares()) == before
