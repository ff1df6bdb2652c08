"""Answers by window, and how far they are from a reference; by a clock that the test moves."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from servable_serving.mirror.drift import Drift
from servable_serving.mirror.profile import Profile, shifts
from servable_serving.mirror.references import References

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def asked(count: int, *, label: str = "a", level: int = 50) -> Profile:
    found = Profile()
    found.add(*request(count, label=label, level=level))
    return found


def request(
    count: int, *, label: str = "a", level: int = 50
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.object_]]]:
    images = np.full((count, 4, 4), level, np.uint8)
    images[:, 0] = 0
    likely = np.tile(np.array([[0.85, 0.15]]), (count, 1))
    return {"image": images}, {"label": np.array([label] * count), "probabilities": likely}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def drift(clock: Clock) -> Drift:
    return Drift(lambda *_: asked(1000), window=100.0, clock=clock)


def test_a_profile_counts_answers_and_images() -> None:
    found = asked(3, level=255)
    assert (found.rows, found.classes) == (3, Counter(a=3))
    assert found.confidences[8] == 3
    assert found.brightness[11] == 3  # the mean is 191
    assert found.contrast[13] == 3  # and the deviation 110


def test_other_inputs_than_images_have_no_brightness() -> None:
    found = Profile()
    found.add({"image_bytes": np.array([b"\x89PNG"], object)}, {"label": np.array(["a"])})
    assert (found.rows, sum(found.brightness), sum(found.confidences)) == (1, 0, 0)


def test_a_profile_survives_json() -> None:
    found = asked(7)
    assert Profile.read(json.loads(json.dumps(found.as_json()))) == found


@pytest.mark.parametrize(
    "other", [None, [], {}, {"rows": 1}, {**asked(1).as_json(), "contrast": [1, 2]},
              {**asked(1).as_json(), "classes": 3}, {**asked(1).as_json(), "rows": "many"}]
)  # fmt: skip
def test_what_is_no_profile(other: object) -> None:
    assert Profile.read(other) is None


def test_a_shift_is_named(drift: Drift) -> None:
    for _ in range(50):
        drift.add("m", 2, *request(10, level=250))
    (found,) = drift.as_json()
    assert (found["model"], found["version"], found["rows"]) == ("m", 2, 500)
    moved = {one["of"]: one["drifted"] for one in found["shifts"]}
    assert moved == {"classes": False, "confidences": False, "brightness": True, "contrast": True}


def test_a_window_slides(drift: Drift, clock: Clock) -> None:
    drift.add("m", 2, *request(10, label="b"))
    clock.now += 60
    drift.add("m", 2, *request(30))
    assert drift.as_json()[0]["rows"] == 40
    clock.now += 60
    assert drift.as_json()[0]["rows"] == 30
    clock.now += 60
    assert drift.as_json() == []


def test_metrics_count_since_the_start(drift: Drift, clock: Clock) -> None:
    registry = CollectorRegistry()
    registry.register(drift)
    for _ in range(2):
        drift.add("m", 2, *request(10, label="b"))
        clock.now += 60
    text = generate_latest(registry).decode()
    assert 'servable_answers_total{class="b",model="m",version="2"} 20.0' in text
    assert 'servable_confidence_bucket{le="0.8",model="m",version="2"} 0.0' in text
    assert 'servable_confidence_bucket{le="0.9",model="m",version="2"} 20.0' in text
    assert 'servable_drift_rows{model="m",version="2"} 10.0' in text
    assert 'servable_drift_psi{model="m",of="classes",version="2"}' in text
    assert 'servable_drift_limit{model="m",of="classes",version="2"}' in text


def test_without_a_reference_answers_are_counted_only(clock: Clock) -> None:
    drift = Drift(lambda *_: None, window=100.0, clock=clock)
    drift.add("m", 2, *request(10))
    (found,) = drift.as_json()
    assert (found["rows"], found["reference"], found["shifts"]) == (10, False, [])


def test_references_are_read_from_manifests(tmp_path: Path) -> None:
    manifest = tmp_path / "m" / "2" / "assets.extra" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    find = References(tmp_path)
    assert find("m", 2) is None
    manifest.write_text(json.dumps({"reference": asked(5).as_json()}))
    assert find("m", 2) == asked(5)
    manifest.write_text("[" * 100_000)
    assert find("m", 2) is None
    assert find("../m", 2) is None
    assert References(None)("m", 2) is None


@given(
    st.lists(st.integers(0, 500), min_size=10, max_size=10),
    st.lists(st.integers(0, 500), min_size=10, max_size=10),
)
def test_differences_are_shares(one: list[int], other: list[int]) -> None:
    first, second = Profile(confidences=one), Profile(confidences=other)
    for shift in shifts(first, second):
        assert shift.psi >= 0
        assert 0 <= shift.ks <= 1 + 1e-9
        assert shift.limit > 0.25
