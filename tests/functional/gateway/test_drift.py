"""`servable drift`: a share of the requests is mirrored, and compared with the manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
from tests.conftest import NAME, SHIPPED
from tests.forked import servable
from tests.functional.gateway.stage import stage
from tests.functional.serving.calls import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from tests.functional.gateway.gateway import Gateway

    from servable_trainer.data.dataset import Dataset


@dataclass
class Watched:
    """A gateway all of whose requests are observed, and where that is told."""

    gateway: Gateway
    metrics: str
    mirror: str

    def ask(self, images: NDArray[np.uint8]) -> None:
        """Ask a tenth of them each by gRPC and by REST, in turn; wait until they are observed."""
        before = self.rows()
        with (
            self.gateway.client("grpc", model=NAME, label="stable") as grpc,
            self.gateway.client("http", model=NAME) as rest,
        ):
            for place, batch in enumerate(np.array_split(images, 10)):
                (grpc, rest)[place % 2].predict({"image": batch})
        eventually(lambda: self.rows() == before + len(images))

    def rows(self) -> int:
        found = requests.get(f"{self.mirror}/drift", timeout=60).json()
        return sum(one["rows"] for one in found)

    def answers(self) -> float:
        text = requests.get(self.metrics, timeout=60).text
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("servable_answers_total")
        )


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with stage(tmp_path, NAME, {1: SHIPPED}, "--window", "1h", observe=100) as running:
        yield Watched(running.gateway, running.metrics, running.mirror)


def test_inverted_images_are_a_drift_and_test_images_are_not(
    watched: Watched, dataset: Dataset
) -> None:
    at = ("--mirror", watched.mirror)
    done = servable("drift", *at)
    assert done.returncode == 0
    assert "no request was observed" in done.stderr
    for first in range(0, 1000, 200):  # five windows, each with the rows of those before
        watched.ask(dataset.test.images[first : first + 200])
        done = servable("drift", *at)
        assert done.returncode == 0, done.stdout
    assert "1000 rows" in done.stdout
    watched.ask(255 - dataset.test.images[1000:2000])
    done = servable("drift", *at)
    assert done.returncode == 1
    assert "brightness of version 1 of fashion_mnist" in done.stderr
    assert "classes of version 1" in done.stderr
    (found,) = json.loads(servable("drift", *at, "--json").stdout)
    assert found["rows"] == 2000
    assert {one["of"] for one in found["shifts"] if one["drifted"]} >= {"classes", "brightness"}
    assert watched.answers() == 2000
    assert servable("drift", *at, "--model", "another").returncode == 0


def test_a_gateway_that_is_not_observed_says_how(watched: Watched) -> None:
    done = servable("drift", "--mirror", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "--upstream" in done.stderr
    assert watched.rows() == 0
