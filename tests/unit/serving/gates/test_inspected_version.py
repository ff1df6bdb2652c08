"""A version for all gates: each part is read once, and freed at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.unit.serving.repository.candidates import make_candidate

from servable_client._wire import wire_pb2 as wire
from servable_serving.gates.inspected_version import InspectedVersion
from servable_serving.repository.candidate import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass
class FakeModel:
    """Answers with the number of images."""

    signatures: Mapping[str, Any]
    asked: list[Sequence[str] | None] = field(default_factory=list)
    closed: int = 0

    def run(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        assert signature == "serving_default"
        self.asked.append(outputs)
        count = np.array(len(inputs["image"]))
        return dict.fromkeys(outputs or ("class_id", "label"), count)

    def close(self) -> None:
        self.closed += 1


@dataclass
class Loader:
    """Counts the loads."""

    model: FakeModel
    loads: list[tuple[Path, Any]] = field(default_factory=list)

    def __call__(self, folder: Path, meta_graph: Any) -> FakeModel:
        self.loads.append((folder, meta_graph))
        return self.model


@pytest.fixture
def loader() -> Loader:
    signature = wire.SignatureDef()
    for side in (-1, 4, 5):
        signature.inputs["image"].tensor_shape.dim.add(size=side)
    return Loader(FakeModel({"serving_default": signature}))


@pytest.fixture
def version(tmp_path: Path, loader: Loader) -> InspectedVersion:
    version = InspectedVersion(make_candidate(tmp_path / "candidate"), load=loader)
    version.__dict__["meta_graph"] = "the graph"  # in place of TensorFlow's parser
    return version


IMAGES = np.zeros([3, 4, 5], np.uint8)


def test_the_model_is_loaded_once_with_the_graph_that_was_parsed(
    version: InspectedVersion, loader: Loader
) -> None:
    assert version.image_shape == [4, 5]
    version.run(IMAGES)
    version.run(IMAGES, "label")
    assert loader.loads == [(version.folder, "the graph")]


def test_only_the_output_that_is_needed_is_computed(
    version: InspectedVersion, loader: Loader
) -> None:
    assert version.run(IMAGES, "label") == 3
    assert version.run(IMAGES) == 3
    assert loader.model.asked == [["label"], None]


def test_a_version_that_was_not_run_is_not_loaded(
    version: InspectedVersion, loader: Loader
) -> None:
    with version:
        assert version.labels == ["boot", "shirt"]
        assert version.size > 0
    assert (loader.loads, loader.model.closed) == ([], 0)


def test_the_model_is_freed_once(version: InspectedVersion, loader: Loader) -> None:
    with version:
        version.run(IMAGES)
    version.close()
    assert loader.model.closed == 1


def test_a_candidate_that_was_read_is_used_as_it_is(tmp_path: Path) -> None:
    candidate = Candidate(tmp_path)
    assert InspectedVersion(candidate).files is candidate
