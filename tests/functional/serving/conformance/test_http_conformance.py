"""The embedded server's HTTP is TensorFlow Serving 2.20.0's, to the byte where that is safe.

stricter.json names the steps of the recordings that it answers otherwise, with the reason.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.functional.serving.conformance.comparison import verdict
from tests.functional.serving.conformance.raw import exchange
from tests.functional.serving.conformance.replay import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent
TRANSCRIPTS = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("raw/*.json")}
STRICTER = json.loads((FOLDER / "stricter.json").read_text())
STEPS = [
    (name, step)
    for name, transcript in sorted(TRANSCRIPTS.items())
    for step in transcript["steps"]
    if "raw" in step
]


@pytest.fixture(scope="module", params=sorted(TRANSCRIPTS))
def server(
    request: pytest.FixtureRequest, fixtures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Server]]:
    """A server with the flags and models of a transcript."""
    log = tmp_path_factory.mktemp("logs") / request.param
    server = Server(TRANSCRIPTS[request.param], [fixtures], log)
    try:
        assert server.listens(120), log.read_text()
        yield request.param, server
    finally:
        server.stop()


def test_it_answers_as_recorded(server: tuple[str, Server]) -> None:
    name, running = server
    listed = STRICTER.get(name, {})
    notes: list[str] = []
    for step in TRANSCRIPTS[name]["steps"]:
        if "raw" not in step:
            continue
        is_listed = step["id"] in listed
        seen = exchange(running.rest_port, step["raw"], None if is_listed else step["expect"])
        if (verdict(step["expect"], seen) == "same") is is_listed:
            notes.append(f"{step['id']}\n  {json.dumps(step['expect'])}\n  {json.dumps(seen)}")
    assert not notes, "\n".join(notes)
    assert running.process.poll() is None


def test_each_listed_step_is_there() -> None:
    ids: set[tuple[str, Any]] = {(name, step["id"]) for name, step in STEPS}
    listed = {name: STRICTER[name] for name in STRICTER.keys() & TRANSCRIPTS.keys()}
    assert {(name, one) for name in listed for one in listed[name]} <= ids
