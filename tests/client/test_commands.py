"""The commands that ask a server, as a user types them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from PIL import Image
from tests.conftest import free_port, only_sentence, servable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunningServer

    from servable_trainer._dataset import Dataset


def test_classify_prints_a_table_or_json(
    server: RunningServer, dataset: Dataset, tmp_path: Path
) -> None:
    pictures = []
    for index in (0, 1):
        pictures.append(tmp_path / f"{index}.png")
        Image.fromarray(dataset.test.images[index]).save(pictures[-1])
    done = servable("classify", *pictures, "--server", server.grpc)
    assert done.returncode == 0, done.stderr
    assert "Ankle boot" in done.stdout
    assert "Pullover" in done.stdout
    done = servable("classify", *pictures, "--server", server.http, "--json")
    answers = json.loads(done.stdout)
    assert [a["label"] for a in answers] == ["Ankle boot", "Pullover"]
    assert answers[0]["picture"] == str(pictures[0])


def test_status_and_wait(server: RunningServer) -> None:
    done = servable("status", "--server", server.http, "--json")
    answer = json.loads(done.stdout)
    assert answer["versions"] == [
        {"version": 1, "state": "AVAILABLE", "error_code": "OK", "error_message": ""}
    ]
    assert set(answer["signatures"]) == {"serving_default", "serving_bytes", "classify"}
    assert "AVAILABLE" in servable("status", "--server", server.grpc).stdout
    assert servable("wait", "--server", server.grpc, "--version", "1").returncode == 0


def test_a_file_that_is_no_picture(server: RunningServer, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("milk, eggs")
    done = servable("classify", path, "--server", server.grpc)
    assert f"{path} is no picture" in only_sentence(done)
    assert "hint:" in done.stderr


def test_a_server_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "black.png"
    Image.new("L", (28, 28)).save(path)
    for scheme in ("grpc", "http"):
        address = f"{scheme}://127.0.0.1:{free_port()}"
        assert address in only_sentence(servable("classify", path, "--server", address))


def test_asked_wrongly() -> None:
    assert servable("classify").returncode == 2
    assert servable("nosuch").returncode == 2
    assert servable("serve").returncode == 2
    assert servable("status", "--server", "ftp://localhost").returncode == 2
    assert servable("classify", "x.png", "--version", "1", "--label", "stable").returncode == 2
    assert servable("train", "--seed", "-1").returncode == 2
