"""`servable shadow` and `canary` of a repository behind a URL, which gateway and server follow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import requests
from tests.conftest import only_sentence
from tests.forked import servable
from tests.functional.gateway.stage import load, stage
from tests.functional.gateway.test_shadow_values import (
    LENIENT,
    OTHER_LEVEL,
    OTHER_SLOPE,
    RETRAINED,
    rows,
)
from tests.functional.serving.calls import eventually

from servable_serving.repository.remote import Remote
from servable_serving.repository.shadow import read_shadows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.functional.gateway.stage import Stage


@pytest.fixture(scope="module")
def bucket(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("bucket")
    sources = {version: small_models / "heads" / str(version) for version in range(1, 5)}
    with stage(folder, "heads", sources, url=f"file://{folder}/remote") as running:
        yield running


def labels(bucket: Stage) -> dict[str, int]:
    assert bucket.url is not None
    return Remote(bucket.url).labels("heads")


@pytest.mark.parametrize(("version", "passed"), [(OTHER_SLOPE, False), (RETRAINED, True)])
def test_a_shadow(bucket: Stage, version: int, passed: bool, tmp_path: Path) -> None:
    report = ("--report", tmp_path)
    with load(bucket, rows, "grpc", "http", label="stable") as asked:
        done = servable("shadow", version, "--for", "4s", *LENIENT, *bucket.arguments, *report)
    assert done.returncode == (0 if passed else 1), done.stderr
    assert (set(asked.versions), asked.failed) == ({1}, [])
    assert labels(bucket) == {"stable": 1}
    assert len(list(tmp_path.glob(f"shadow-{version}-*.md"))) == 1

    def withdrawn() -> bool:
        url = f"{bucket.server.http}/v1/models/heads.shadow"
        return "AVAILABLE" not in requests.get(url, timeout=60).text

    eventually(withdrawn)
    eventually(lambda: read_shadows(bucket.root) == {})


def test_a_canary_that_differs_is_withdrawn(bucket: Stage, tmp_path: Path) -> None:
    with load(bucket, rows, "http") as asked:
        done = servable(
            "canary", OTHER_LEVEL, "--share", "40%", "--for", "5m", *LENIENT, *bucket.arguments,
            "--metrics", bucket.metrics, "--report", tmp_path,
        )  # fmt: skip
        assert "output level, by 100.0% of its variance" in only_sentence(done)
        eventually(lambda: bucket.labels() == {"stable": 1})
        eventually(lambda: bucket.shares() == {"stable": 100})
    assert asked.failed == []
    assert labels(bucket) == {"stable": 1}
    history = servable("history", "--repository", str(bucket.url), "--model", "heads", "--json")
    last = json.loads(history.stdout)[-1]
    assert last["version"] == OTHER_LEVEL
    assert last["why"].startswith("rolled back: it differs from stable in output level")


def test_a_good_canary_is_promoted(bucket: Stage, tmp_path: Path) -> None:
    with load(bucket, rows, "http") as asked:
        done = servable(
            "canary", RETRAINED, "--share", "40%", "--for", "6s", *LENIENT, *bucket.arguments,
            "--metrics", bucket.metrics, "--report", tmp_path, "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        eventually(lambda: asked.versions[-20:] == [RETRAINED] * 20)
    assert asked.failed == []
    trial = json.loads(done.stdout)
    assert trial["canary"]["requests"] > 0
    # Gateways that have not followed yet may still ask for the label `canary`.
    assert labels(bucket) == {"canary": RETRAINED, "stable": RETRAINED}
    eventually(lambda: bucket.shares() == {"canary": 0, "stable": 100})
