"""JSON that anybody may have written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable_serving.core.json_text import parse_json
from servable_serving.repository.candidate import Candidate
from servable_serving.repository.manifest import MANIFEST, CandidateError
from servable_trainer.training.run import RunError, load_record
from servable_trainer.tuning.trials import TuneError, load_hyperparameters

if TYPE_CHECKING:
    from pathlib import Path

DEEP = "[" * 200_000


def test_what_is_nested_too_deeply_is_not_valid() -> None:
    assert parse_json('{"a": [1, null]}') == {"a": [1, None]}
    for text in (DEEP, '{"a":' * 200_000, DEEP + "]" * 200_000, "", "{"):
        with pytest.raises(ValueError, match=r"\w"):
            parse_json(text)


def test_files_of_it_are_refused_in_a_sentence(tmp_path: Path) -> None:
    manifest = tmp_path / MANIFEST
    manifest.parent.mkdir()
    for path in (manifest, tmp_path / "run.json", tmp_path / "trials.json"):
        path.write_text(DEEP)
    with pytest.raises(CandidateError):
        _ = Candidate(tmp_path).manifest
    with pytest.raises(RunError, match="nested too deeply"):
        load_record(tmp_path)
    with pytest.raises(TuneError, match="nested too deeply"):
        load_hyperparameters(tmp_path / "trials.json")
