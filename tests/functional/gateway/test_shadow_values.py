"""`servable shadow` and `canary` of models whose answers are numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import only_sentence
from tests.forked import servable
from tests.functional.gateway.stage import load, stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from tests.functional.gateway.stage import Stage

RETRAINED, OTHER_SLOPE, OTHER_LEVEL = 2, 3, 4
LENIENT = ("--max-latency-ratio", "100", "--max-errors", "20%", "--min-requests", "20")


@pytest.fixture(scope="module")
def heads(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    sources = {version: small_models / "heads" / str(version) for version in range(1, 5)}
    with stage(tmp_path_factory.mktemp("heads"), "heads", sources) as running:
        yield running


@pytest.fixture(scope="module")
def linear(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Version 2 has another slope than 1: 3 x + 1 in place of 2 x + 1."""
    sources = {version: small_models / "linear" / str(version) for version in (1, 2)}
    with stage(tmp_path_factory.mktemp("linear"), "linear", sources) as running:
        yield running


def rows(number: int) -> dict[str, NDArray[np.float32]]:
    draw = np.random.default_rng(number)
    return {"x": draw.normal(0, 1, (4, 3)).astype(np.float32)}


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_another_slope_fails_in_the_shadow(linear: Stage, scheme: str) -> None:
    label = "stable" if scheme == "grpc" else None
    with load(linear, rows, scheme, label=label) as asked:
        done = servable("shadow", 2, "--for", "4s", *LENIENT, *linear.arguments)
    # A quarter but for chance: the difference is x, and the values are twice that.
    assert "it differs from stable in column " in only_sentence(done)
    assert asked.failed == []
    found, page = linear.report("shadow", 2)
    assert 0.22 < found["answers"]["outputs"][""]["apart"] < 0.28
    assert "column" in page
    assert "of the output differ by 2" in page


def test_another_slope_is_not_promoted(linear: Stage) -> None:
    with load(linear, rows, "http") as asked:
        done = servable(
            "canary", 2, "--share", "50%", "--for", "6s", *LENIENT, *linear.arguments,
            "--metrics", linear.metrics,
        )  # fmt: skip
    assert "it differs from stable in column " in only_sentence(done)
    assert asked.failed == []
    assert linear.labels() == {"stable": 1}


def test_numbers_that_are_hardly_other_pass(heads: Stage) -> None:
    with load(heads, rows, "grpc", "http", label="stable"):
        done = servable("shadow", RETRAINED, "--for", "4s", *LENIENT, *heads.arguments)
    assert done.returncode == 0, done.stderr
    outputs = heads.report("shadow", RETRAINED)[0]["answers"]["outputs"]
    assert outputs.keys() == {"y", "level"}
    # Two and one percent of the values, squared, are each a ten-thousandth of the variance.
    assert all(0.5e-4 < one["apart"] < 2e-4 for one in outputs.values())


@pytest.mark.parametrize(
    ("version", "said"),
    [(OTHER_SLOPE, r"of output y"), (OTHER_LEVEL, r"in output level, by 100.0% of its variance")],
)
def test_labels_alone_are_not_enough(heads: Stage, version: int, said: str) -> None:
    with load(heads, rows, "grpc", "http", label="stable"):
        done = servable("shadow", version, "--for", "5m", *LENIENT, *heads.arguments)
    assert said in only_sentence(done)
    found, _ = heads.report("shadow", version)
    assert (found["answers"]["differ"], found["seconds"] < 290) == (0, True)
    assert found["answers"]["decided"] > 0


def test_an_output_can_be_left_out(heads: Stage) -> None:
    with load(heads, rows, "grpc", label="stable"):
        done = servable(
            "shadow", OTHER_LEVEL, "--for", "4s", "--ignore", "level", *LENIENT, *heads.arguments
        )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    (watch,) = [line for line in lines if line.startswith("watch") and " s  " in line]
    assert watch.endswith(done.stdout.strip())
