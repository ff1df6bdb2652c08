"""`servable shadow`, and a canary's look at answers: nginx mirrors, two versions are asked."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from tests.conftest import NAME, SHIPPED, free_port, only_sentence
from tests.forked import servable
from tests.functional.gateway.gateway import gateway
from tests.functional.gateway.stage import load
from tests.functional.gateway.stage import stage as run_stage
from tests.functional.serving.calls import eventually

from servable_serving.repository.shadow import Shadow, write_shadow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.conftest import RunningServer
    from tests.functional.gateway.stage import Asked, Stage

    from servable_trainer.data.dataset import Dataset

GOOD, MISLABELLED = 2, 3
# The machine that tests run on may have other work: latencies say nothing here.
LENIENT = ("--max-latency-ratio", "100", "--max-errors", "20%", "--min-requests", "20")


@pytest.fixture(scope="module")
def stage(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    sources = {1: SHIPPED, GOOD: SHIPPED, MISLABELLED: small_models / "mislabelled"}
    with run_stage(tmp_path_factory.mktemp("stage"), NAME, sources) as running:
        yield running


def loaded(
    stage: Stage, dataset: Dataset, *schemes: str, label: str | None = None
) -> AbstractContextManager[Asked]:
    """Callers with four test images each time."""

    def images(number: int) -> dict[str, Any]:
        return {"image": dataset.test.images[4 * number % 1000 :][:4]}

    return load(stage, images, *schemes, label=label)


def test_a_mislabelled_version_fails_in_the_shadow(stage: Stage, dataset: Dataset) -> None:
    with loaded(stage, dataset, "grpc", "http") as asked:
        done = servable(
            "shadow", MISLABELLED, "--share", "50%", "--for", "5m", *LENIENT, *stage.arguments
        )
    assert "rows differently from stable" in only_sentence(done)
    assert (set(asked.versions), asked.failed) == ({1}, [])
    assert stage.labels() == {"stable": 1}
    assert not (stage.root / "models.shadow").exists()
    eventually(lambda: not served_aside(stage))
    found, page = stage.report("shadow", MISLABELLED)
    assert found["outcome"] == "failed"
    assert found["seconds"] < 290  # it did not take the five minutes to find out
    answers = found["answers"]
    assert answers["transports"].keys() == {"grpc", "rest"}
    assert answers["differ"] == answers["rows"] == 4 * answers["requests"]
    example = answers["examples"][0]
    assert example["against"] != example["version"]
    assert f"| {example['against']} | {example['version']} |" in page


def served_aside(stage: Stage) -> bool:
    url = f"{stage.server.http}/v1/models/{NAME}.shadow"
    return "AVAILABLE" in requests.get(url, timeout=60).text


def test_a_good_version_passes_and_is_unloaded(stage: Stage, dataset: Dataset) -> None:
    with loaded(stage, dataset, "grpc", "http") as asked:
        done = servable("shadow", GOOD, "--for", "6s", *LENIENT, *stage.arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert (set(asked.versions), asked.failed) == ({1}, [])
    trial = json.loads(done.stdout)
    assert trial["outcome"] == "passed"
    answers = trial["answers"]
    assert min(answers["transports"]["grpc"], answers["transports"]["rest"]) >= 5
    assert (answers["differ"], answers["shifts"][0]["psi"]) == (0, 0)
    assert answers["version"]["errors"] == answers["against"]["errors"] == 0
    assert answers["version"]["seconds"]["p95"] > 0
    eventually(lambda: not served_aside(stage))
    history = servable("history", "--repository", stage.root / NAME, "--json")
    (event,) = [
        e for e in json.loads(history.stdout) if (e["what"], e["version"]) == ("shadow", GOOD)
    ]
    assert event["why"].startswith("passed: version 2 answers as version 1 does")


def test_nothing_is_mirrored_afterwards(stage: Stage, dataset: Dataset) -> None:
    def mirrored() -> int:
        found = requests.get(f"{stage.mirror}/comparisons", timeout=60).json()
        return sum(one["requests"] + one["dropped"] for one in found)

    def quiet() -> bool:
        """Whether the worker processes that mirrored have ended."""
        before = mirrored()
        for _ in range(20):
            stage.gateway.ask(
                f"{NAME}:predict", json={"instances": dataset.test.images[:1].tolist()}
            )
        return mirrored() == before

    eventually(lambda: "mirror" not in (stage.gateway.folder / "run" / "nginx.conf").read_text())
    eventually(quiet)
    before = mirrored()
    with loaded(stage, dataset, "grpc", "http") as asked:
        seen = len(asked.versions)
        eventually(lambda: len(asked.versions) > seen + 40)
    assert asked.failed == []
    assert mirrored() == before


@pytest.mark.parametrize("schemes", [("http",), ("grpc",)])
def test_a_canary_with_wrong_answers_is_withdrawn(
    stage: Stage, dataset: Dataset, schemes: tuple[str, ...]
) -> None:
    # Over gRPC, requests without a label get the highest version.
    label = "stable" if "grpc" in schemes else None
    with loaded(stage, dataset, *schemes, label=label) as asked:
        done = servable(
            "canary", MISLABELLED, "--share", "30%", "--for", "5m", *LENIENT,
            *stage.arguments, "--metrics", stage.metrics,
        )  # fmt: skip
    assert "differently from stable" in only_sentence(done)
    assert asked.failed == []
    assert stage.labels() == {"stable": 1}
    found, page = stage.report("canary", MISLABELLED)
    assert found["outcome"] == "rolled back"
    assert found["canary"]["errors"] == 0
    assert found["answers"]["differ"] > 0.9 * found["answers"]["rows"]
    assert "## The answers to the same requests" in page


def test_too_few_requests_are_no_verdict(stage: Stage) -> None:
    done = servable("shadow", GOOD, "--for", "1s", *stage.arguments)
    assert "mirrored 0 requests, and a verdict requires at least 100" in only_sentence(done)


def test_a_shadow_without_a_mirror_changes_nothing(stage: Stage) -> None:
    done = servable("shadow", GOOD, *stage.arguments, "--mirror", "http://127.0.0.1:9")
    assert "cannot read the mirrored requests at http://127.0.0.1:9" in only_sentence(done)
    assert "--upstream" in done.stderr
    assert not (stage.root / "models.shadow").exists()


def test_clients_do_not_notice_that_the_mirror_is_gone(
    backend: RunningServer, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    shadow = Shadow(version=2, name="linear", against=1, percent=100, until=int(time.time()) + 3600)
    write_shadow(tmp_path / "models", "linear", shadow)
    with (
        gateway(
            tmp_path,
            grpc_port=backend.port,
            rest_port=backend.rest_port,
            SERVABLE_METRICS_SYSLOG=f"127.0.0.1:{free_port()}",
            SERVABLE_MIRROR_PORT=free_port(),
        ) as running,
    ):
        assert "mirror" in (tmp_path / "run" / "nginx.conf").read_text()
        for scheme in ("grpc", "http", "grpcs", "https"):
            with running.client(scheme) as client:
                for _ in range(20):
                    client.predict({"x": np.ones((1, 3), np.float32)})


def test_a_good_canary_over_grpc_alone_is_promoted(stage: Stage, dataset: Dataset) -> None:
    with loaded(stage, dataset, "grpc", label="stable") as asked:
        done = servable(
            "canary", GOOD, "--share", "50%", "--for", "8s", *LENIENT,
            *stage.arguments, "--metrics", stage.metrics, "--json",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert asked.failed == []
    trial = json.loads(done.stdout)
    assert trial["canary"]["requests"] == 0  # of REST
    assert trial["answers"]["transports"]["grpc"] >= 20
    assert stage.labels()["stable"] == GOOD
