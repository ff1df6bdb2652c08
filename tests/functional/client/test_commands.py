"""The commands that use a server, as a user runs them."""

from __future__ import annotations

import csv
import io
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from tests.conftest import free_port, only_sentence
from tests.forked import servable
from tests.functional.client.gateways import Refusal
from tests.functional.client.test_security import credentials
from tests.in_process import command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import RunningServer
    from tests.functional.client.conftest import Certificates

    from servable_trainer.data.dataset import Dataset


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
    assert answers[0]["labels"] == list(dataset.labels)
    done = servable("classify", *pictures, "--server", server.grpc, "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["label"] for row in rows] == ["Ankle boot", "Pullover"]
    assert rows[0]["version"] == "1"


def test_one_invalid_image_among_valid_ones(
    server: RunningServer, dataset: Dataset, tmp_path: Path
) -> None:
    Image.fromarray(dataset.test.images[0]).save(tmp_path / "boot.png")
    (tmp_path / "notes.png").write_text("milk, eggs")
    done = servable(
        "classify", tmp_path / "notes.png", tmp_path / "boot.png", "--server", server.grpc, "--csv"
    )
    assert "notes.png is not a valid image" in only_sentence(done)
    assert "Ankle boot" in done.stdout


def test_settings_from_the_environment(
    gateway: Callable[..., Any], dataset: Dataset, tmp_path: Path
) -> None:
    def decide(_: str, headers: dict[str, str]) -> Refusal | None:
        good = headers.get("x-api-key") == "open-sesame"
        return None if good else Refusal("UNAUTHENTICATED", "no key, no answer")

    Image.fromarray(dataset.test.images[0]).save(tmp_path / "boot.png")
    environ = {**os.environ, "SERVABLE_SERVER": gateway("http", decide).address}
    done = servable("classify", tmp_path / "boot.png", env=environ)
    assert "no key, no answer" in only_sentence(done)
    environ["SERVABLE_API_KEY"] = "open-sesame"
    assert "Ankle boot" in servable("classify", tmp_path / "boot.png", env=environ).stdout
    assert servable("wait", env=environ).returncode == 0
    assert "open-sesame" not in servable("wait", "--help", env=environ).stdout


def test_status_and_wait(server: RunningServer) -> None:
    done = servable("status", "--server", server.http, "--json")
    answer = json.loads(done.stdout)
    assert answer["versions"] == [
        {"version": 1, "state": "AVAILABLE", "error_code": "OK", "error_message": ""}
    ]
    assert answer["labels"] == {}
    assert set(answer["signatures"]) == {"serving_default", "serving_bytes", "classify"}
    assert "AVAILABLE" in servable("status", "--server", server.grpc).stdout
    nowhere = servable("status", "--server", server.grpc, "--config", "/nowhere/models.config")
    assert "cannot read /nowhere/models.config" in only_sentence(nowhere)
    assert servable("wait", "--server", server.grpc, "--version", "1").returncode == 0


def test_an_invalid_image_file(server: RunningServer, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("milk, eggs")
    done = servable("classify", path, "--server", server.grpc)
    assert f"{path} is not a valid image" in only_sentence(done)
    assert "hint:" in done.stderr


def test_a_server_that_is_down(tmp_path: Path) -> None:
    path = tmp_path / "black.png"
    Image.new("L", (28, 28)).save(path)
    for scheme in ("grpc", "http"):
        address = f"{scheme}://127.0.0.1:{free_port()}"
        assert address in only_sentence(servable("classify", path, "--server", address))


def test_usage_errors() -> None:
    assert command("classify").returncode == 2
    assert command("nosuch").returncode == 2
    assert command("serve").returncode == 2
    assert command("status", "--server", "ftp://localhost").returncode == 2
    assert command("classify", "x.png", "--version", "1", "--label", "stable").returncode == 2
    assert command("classify", "x.png", "--json", "--csv").returncode == 2
    assert command("classify", "x.png", "--ca", "/nowhere", "--server", "grpcs://h").returncode == 2
    assert command("status", "--server", "http://h", "--api-key", "k").returncode == 2
    assert command("train", "--seed", "-1").returncode == 2


@pytest.mark.parametrize("secure", ["grpcs", "https"])
def test_a_certificate_of_an_unknown_authority_is_answered_with_the_option(
    gateway: Callable[..., Any], certificates: Certificates, secure: str
) -> None:
    at = gateway(secure, lambda *_: None, credentials=credentials(secure, certificates)).address
    done = command("status", "--server", at)
    only_sentence(done)
    assert "--ca" in done.stderr
    assert command("status", "--server", at, "--ca", certificates.ca).returncode == 0


@pytest.mark.parametrize("secure", ["grpcs", "https"])
def test_client_certificates_and_tokens(
    gateway: Callable[..., Any],
    certificates: Certificates,
    secure: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def decide(_: str, headers: dict[str, str]) -> Refusal | None:
        good = headers.get("authorization") == "Bearer open-sesame"
        return None if good else Refusal("UNAUTHENTICATED", "no token, no answer")

    wanted = credentials(secure, certificates, mutual=True)
    at = gateway(secure, decide, credentials=wanted).address
    mine = ["--server", at, "--ca", certificates.ca, "--certificate", certificates.certificate]
    assert command("wait", *mine).returncode == 2  # without the key
    mine += ["--key", certificates.key]
    denied = command("status", *mine)
    only_sentence(denied)
    assert "--token" in denied.stderr
    (tmp_path / "token").write_text("open-sesame\n")
    assert command("wait", *mine, "--token", f"@{tmp_path / 'token'}").returncode == 0
    for variable, value in (
        ("SERVER", at), ("TOKEN", "open-sesame"), ("CA", certificates.ca),
        ("CLIENT_CERTIFICATE", certificates.certificate), ("CLIENT_KEY", certificates.key),
    ):  # fmt: skip
        monkeypatch.setenv(f"SERVABLE_{variable}", str(value))
    assert command("wait").returncode == 0
