"""A version that was exported before is exported again, with the graph that is written now."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import NAME, SHIPPED
from tests.functional.serving.candidates import hand_made
from tests.in_process import command

from servable_serving.core.names import WARMUP
from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.export import export
from servable_serving.gates.run import inspect
from servable_serving.model.saved_model import SavedModel
from servable_serving.repository.manifest import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from servable_trainer.data.dataset import Dataset


def test_it_answers_the_same_and_keeps_what_is_known_of_it(
    dataset: Dataset, tmp_path: Path
) -> None:
    done = command("export", SHIPPED, "--output", tmp_path / "again", "--name", NAME, "--json")
    assert done.returncode == 0, done.stderr
    before = json.loads((SHIPPED / MANIFEST).read_text())
    after = json.loads(done.stdout)
    kept = ("labels", "seed", "hyperparameters", "training", "metrics", "calibration", "dataset")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    for one, other in zip(after["golden"], before["golden"], strict=True):
        assert {**one, "probabilities": 0} == {**other, "probabilities": 0}
        # Those that are shipped were computed on another processor.
        np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=0.02)
    assert after["signatures"] == before["signatures"]
    images = dataset.test.images[:200]
    one, other = (answers(folder, images) for folder in (SHIPPED, tmp_path / "again"))
    np.testing.assert_array_equal(one, other)
    skip = {"accuracy": "the answers are the same"}
    findings = inspect(tmp_path / "again", served=SHIPPED, holdout=None, skip=skip)
    assert {one.outcome for one in findings} <= {"passed", "skipped"}


def answers(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = SavedModel(folder)
    try:
        return model.run("serving_default", {"image": images})["probabilities"]
    finally:
        model.close()


def test_without_warm_up_records_noise_is_used(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "version")
    (tmp_path / "version" / WARMUP).unlink()
    manifest = export(tmp_path / "version", tmp_path / "again", name=NAME)
    assert manifest["examples"] == {"count": 32, "made_up": True}
    (tmp_path / "version" / WARMUP).write_bytes(b"no records" * 20)
    with pytest.raises(ExportError, match="warm-up records"):
        export(tmp_path / "version", tmp_path / "other", name=NAME)
    assert not (tmp_path / "other").exists()


def test_a_graph_of_another_form_is_not_taken_apart(tmp_path: Path) -> None:
    hand_made(tmp_path / "version")
    shutil.copy(SHIPPED / MANIFEST, tmp_path / "version" / MANIFEST)
    with pytest.raises(ExportError, match="whose network can be taken from its graph") as caught:
        export(tmp_path / "version", tmp_path / "again", name=NAME)
    assert caught.value.hint
    assert not (tmp_path / "again").exists()
