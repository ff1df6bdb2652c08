"""The embedded server answers as TensorFlow Serving 2.20.0 did when it was asked the same."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.functional.serving.conformance.replay import close, replay, verdict

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.json"))
SERVERS_AT_ONCE = 3
MOST_WORDINGS = 10

Result = Future[tuple["Counter[str]", list[str]]]


def _pause(path: Path) -> float:
    """How long a transcript does nothing but wait."""
    transcript = json.loads(path.read_text())
    pauses = sum(step.get("sleep", 0) for step in transcript["steps"])
    return float(pauses + transcript.get("start_seconds", 0))


@pytest.fixture(scope="session")
def results(
    request: pytest.FixtureRequest, fixtures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Result]]:
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
            path: executor.submit(replay, path, fixtures, logs / path.stem)
            for path in sorted(wanted, key=lambda path: (-_pause(path), path))
        }
    finally:
        executor.shutdown(cancel_futures=True)


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_it_answers_as_the_transcript(transcript: Path, results: dict[Path, Result]) -> None:
    counts, notes = results[transcript].result()
    assert counts["same"], "nothing was asked"
    assert not counts["DIFFERS"], "\n".join(notes)


def test_few_words_differ(results: dict[Path, Result]) -> None:
    seen = [result.result() for result in results.values()]
    notes = [note for _, notes in seen for note in notes]
    assert sum(counts["wording"] for counts, _ in seen) <= MOST_WORDINGS, "\n".join(notes)


def test_the_comparison_sees_a_difference() -> None:
    ok = {"status": 200, "body": {"predictions": [1.0, 2.0]}}
    assert verdict(ok, {"status": 200, "body": {"predictions": [1.00001, 2.0]}}) == "same"
    assert verdict(ok, {"status": 200, "body": {"predictions": [1.001, 2.0]}}) == "DIFFERS"
    assert verdict(ok, {"status": 201, "body": {"predictions": [1.0, 2.0]}}) == "DIFFERS"
    error = {"status": 400, "body": {"error": "No."}}
    assert verdict(error, {"status": 400, "body": {"error": "Nein."}}) == "wording"
    assert verdict(error, {"status": 404, "body": {"error": "No."}}) == "DIFFERS"
    assert not close(1, True)
    assert not close(1, "1")
