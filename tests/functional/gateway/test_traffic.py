"""models.traffic: what is written, and what the gateway makes of it."""

from __future__ import annotations

import math
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.functional.gateway.gateway import ROWS, gateway, slope_of
from tests.functional.serving.calls import config_of, eventually

from servable_serving.repository.traffic import Route, TrafficError, read_traffic, write_traffic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer
    from tests.functional.gateway.gateway import Gateway


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a models.config: linear has stable, canary and an old version."""
    folder = tmp_path / "models"
    folder.mkdir()
    labels(folder, stable=1, canary=2)
    return folder


def labels(folder: Path, **versions: int) -> None:
    config = config_of({"linear": folder / "linear", "other": folder / "other"}, labels=versions)
    (folder / "models.config").write_text(config)


def shares(folder: Path) -> dict[str, float]:
    return {route.label: route.percent for route in read_traffic(folder).get("linear", [])}


def test_stable_has_what_nobody_else_gets(root: Path) -> None:
    write_traffic(root, {})
    assert shares(root) == {"canary": 0, "stable": 100}
    write_traffic(root, {"linear": {"canary": 12.5}})
    assert shares(root) == {"canary": 12.5, "stable": 87.5}
    text = (root / "models.traffic").read_text()
    assert "\nlinear canary 2 12.5\nlinear stable 1 87.5\n" in text
    # A label that moves takes its share along.
    labels(root, stable=2, canary=3)
    write_traffic(root, {})
    assert read_traffic(root)["linear"] == [
        Route(label="canary", version=3, percent=12.5),
        Route(label="stable", version=2, percent=87.5),
    ]
    # One that is taken away gives it back.
    labels(root, stable=2)
    write_traffic(root, {})
    assert shares(root) == {"stable": 100}


def test_what_is_asked_for_now_wins(root: Path) -> None:
    labels(root, stable=1, canary=2, trial=3)
    write_traffic(root, {"linear": {"canary": 60}})
    write_traffic(root, {"linear": {"trial": 70}})
    assert shares(root) == {"canary": 0, "stable": 30, "trial": 70}


def test_a_model_without_labels_has_no_lines(root: Path) -> None:
    write_traffic(root, {})
    assert list(read_traffic(root)) == ["linear"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"linear": {"canary": 101.0}}, "101.0 is not a valid share"),
        ({"linear": {"canary": -1.0}}, "-1.0 is not a valid share"),
        ({"linear": {"canary": float("nan")}}, "nan is not a valid share"),
        ({"linear": {"canary": 60.0, "stable": 50.0}}, "come to more than 100 percent"),
        ({"linear": {"beta": 10.0}}, "linear has no label beta"),
        ({"shoes": {"stable": 10.0}}, "shoes has no label stable"),
    ],
)
def test_shares_that_make_no_sense(
    root: Path, asked: dict[str, dict[str, float]], said: str
) -> None:
    write_traffic(root, {"linear": {"canary": 5}})
    before = (root / "models.traffic").read_bytes()
    with pytest.raises(TrafficError, match=said):
        write_traffic(root, asked)
    assert (root / "models.traffic").read_bytes() == before


def test_a_file_that_is_none_is_said_and_written_anew(root: Path) -> None:
    (root / "models.traffic").write_text("linear stable one 100\n")
    with pytest.raises(TrafficError, match="'linear stable one 100' is not a valid MODEL LABEL"):
        read_traffic(root)
    write_traffic(root, {})
    assert shares(root) == {"canary": 0, "stable": 100}


@pytest.fixture
def split(backend: RunningServer, root: Path, tmp_path: Path) -> Iterator[Gateway]:
    write_traffic(root, {"linear": {"canary": 30}})
    with gateway(
        tmp_path,
        grpc_port=backend.port,
        rest_port=backend.rest_port,
        SERVABLE_MODELS="linear",
        SERVABLE_RATE=0,
    ) as running:
        yield running


def versions(gateway: Gateway, count: int, path: str = "linear:predict") -> Counter[int]:
    """Which versions answered."""
    answers = [gateway.ask(path).json()["predictions"] for _ in range(count)]
    return Counter(slope_of(answer) - 1 for answer in answers)


def test_the_shares_are_kept(split: Gateway, root: Path) -> None:
    """Within what chance allows: five standard deviations, once in two million."""
    count = 400
    found = versions(split, count)
    assert set(found) == {1, 2}
    assert abs(found[2] - 0.3 * count) < 5 * math.sqrt(0.3 * 0.7 * count)
    # What names a version or a label is not split.
    assert set(versions(split, 20, "linear/versions/2:predict")) == {2}
    assert set(versions(split, 20, "linear/labels/stable:predict")) == {1}
    write_traffic(root, {"linear": {"canary": 0}})
    eventually(lambda: set(versions(split, 40)) == {1})


def test_the_sdk_over_rest_has_its_share_too(split: Gateway, root: Path) -> None:
    """It asks the metadata which version is meant, once a second, and pins that."""
    write_traffic(root, {"linear": {"canary": 100}})
    eventually(lambda: set(versions(split, 10)) == {2})
    with split.client("https") as client:
        assert client.predict({"x": np.array(ROWS, np.float32)}).version == 2
    write_traffic(root, {"linear": {"canary": 0}})
    eventually(lambda: set(versions(split, 10)) == {1})
    with split.client("https") as client:
        # Unlabelled, the server itself would take its highest version, 4.
        assert client.predict({"x": np.array(ROWS, np.float32)}).version == 1


def test_a_broken_file_changes_nothing(split: Gateway) -> None:
    def ignored() -> int:
        return split.said.count("the traffic shares are unchanged")

    def ignored_again(before: int) -> bool:
        return ignored() > before

    for text in (
        "linear stable\n",
        "linear stable 1 80\nlinear canary 2 30\n",
        'linear stable 1 50\nlinear ca"n 2 50\n',
    ):
        before = ignored()
        split.write_traffic(text)
        eventually(partial(ignored_again, before))
    assert set(versions(split, 100)) == {1, 2}
    split.write_traffic("linear stable 1 0\nlinear canary 2 100\n")
    eventually(lambda: set(versions(split, 10)) == {2})


def test_a_trial_that_nobody_ends_is_ended_by_the_gateway(split: Gateway, root: Path) -> None:
    write_traffic(root, {"linear": {"canary": 40}}, until={"linear": time.time() + 4})
    eventually(lambda: "the canary of linear has run out of time" in split.said)
    eventually(lambda: set(versions(split, 40)) == {1})


def test_without_the_file_it_is_passed_on_as_it_is(split: Gateway, root: Path) -> None:
    (root / "models.traffic").unlink()
    # The server's own choice: its highest version, which is the slow one.
    eventually(lambda: set(versions(split, 3)) == {4})
