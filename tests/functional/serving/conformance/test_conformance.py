"""The embedded server answers as TensorFlow Serving 2.20.0 did when it was asked the same."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tensorflow as tf
from tests.conftest import make_once, save_models
from tests.functional.serving.conformance.comparison import close, verdict
from tests.functional.serving.conformance.replay import STRICTER as STRICTER_KIND
from tests.functional.serving.conformance.replay import Results, replay

from servable_client._wire.dtypes import type_name

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
TRANSCRIPTS = sorted([*HERE.glob("transcripts/*.json"), *HERE.glob("more_transcripts/*.json")])
# By transcript and step, with the reason.
STRICTER: dict[str, dict[str, str]] = json.loads((HERE / "stricter.json").read_text())
SERVERS_AT_ONCE = 3
# Five are of outputs without rows: TensorFlow Serving names any of them, and not always the same.
MOST_WORDINGS = 13


@pytest.fixture(scope="session")
def models(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders with the models of the transcripts; not to be written to."""
    module = "tests.functional.serving.conformance.models"
    more = make_once(tmp_path_factory, "more", lambda root: save_models(module, root))
    return fixtures, more


def _pause(path: Path) -> float:
    """How long a transcript does nothing but wait."""
    transcript = json.loads(path.read_text())
    pauses = sum(step.get("sleep", 0) for step in transcript["steps"])
    return float(pauses + transcript.get("start_seconds", 0))


@pytest.fixture(scope="session")
def results(
    request: pytest.FixtureRequest,
    models: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[Path, Future[Results]]]:
    """Every transcript that a test asks for, replayed beside each other: some mostly wait."""
    asked = {
        item.callspec.params["transcript"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "results" in item.fixturenames
        if hasattr(item, "callspec")
    }
    wanted = [path for path in TRANSCRIPTS if path in asked] or TRANSCRIPTS
    logs = tmp_path_factory.mktemp("logs")
    executor = ThreadPoolExecutor(SERVERS_AT_ONCE)
    try:
        yield {
            path: executor.submit(replay, path, models, logs / path.stem, STRICTER.get(path.stem))
            for path in sorted(wanted, key=lambda path: (-_pause(path), path))
        }
    finally:
        executor.shutdown(cancel_futures=True)


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_it_answers_as_the_transcript(
    transcript: Path, results: dict[Path, Future[Results]]
) -> None:
    found = results[transcript].result()
    assert found.counts["same"], "nothing was asked"
    assert not found.counts["DIFFERS"], "\n".join(found.notes)
    listed = STRICTER.get(transcript.stem, {})
    assert found.counts[STRICTER_KIND] == len(listed), "a step that is listed was not asked"


def test_few_words_differ(results: dict[Path, Future[Results]]) -> None:
    seen = [result.result() for result in results.values()]
    notes = [note for found in seen for note in found.notes if note.startswith("wording")]
    assert sum(found.counts["wording"] for found in seen) <= MOST_WORDINGS, "\n".join(notes)


def test_the_comparison_sees_a_difference() -> None:
    ok = {"status": 200, "body": {"predictions": [0.333333343, 2.0]}}
    assert verdict(ok, {"status": 200, "body": {"predictions": [0.333333373, 2.0]}}) == "same"
    assert verdict(ok, {"status": 200, "body": {"predictions": [0.33333334, 2.0]}}) == "DIFFERS"
    assert verdict(ok, {"status": 200, "body": {"predictions": [0.3334, 2.0]}}) == "DIFFERS"
    assert verdict(ok, {"status": 201, "body": {"predictions": [0.333333343, 2.0]}}) == "DIFFERS"
    error = {"status": 400, "body": {"error": "No."}}
    assert verdict(error, {"status": 400, "body": {"error": "Nein."}}) == "wording"
    assert verdict(error, {"status": 404, "body": {"error": "No."}}) == "DIFFERS"
    assert not close(1, True)
    assert not close(1, "1")
    assert not close(1, 1.0)


@pytest.mark.parametrize(
    ("dtype", "values", "field"),
    [
        ("float32", [1.5], {"float_val": [1.5]}),
        ("int64", [1], {"int64_val": ["1"]}),
        ("bfloat16", [1.5], {"half_val": [16320]}),
        ("qint8", [[-1]], {"int_val": [-1]}),
        ("string", ["YQ=="], {"string_val": ["YQ=="]}),
        ("float8_e5m2", [1.0], {"float8_val": "PA=="}),
    ],
)
def test_the_comparison_sees_the_field_of_a_tensor(
    dtype: str, values: list[Any], field: dict[str, Any]
) -> None:
    def answer(tensor: dict[str, Any]) -> dict[str, Any]:
        return {"code": "OK", "response": {"outputs": {"y": tensor}}}

    recorded = answer({"dtype": dtype, "shape": [1], "values": values})
    name = f"DT_{type_name(tf.dtypes.as_dtype(dtype).as_datatype_enum).upper()}"
    head = {"dtype": name, "tensor_shape": {"dim": [{"size": "1"}]}}
    assert verdict(recorded, answer(head | field)) == "same"
    assert verdict(recorded, answer(head | {"tensor_content": "AADAPw=="})) == "DIFFERS"
    assert verdict(recorded, answer(head)) == "DIFFERS"


def test_an_entry_of_what_differs_on_purpose_must_differ() -> None:
    results = Results({"step": "reason"})
    results.add("step", "DIFFERS")
    results.add("step", "same")
    results.add("other", "DIFFERS")
    assert results.counts == {STRICTER_KIND: 1, "DIFFERS": 2}
