"""The options of what a server asks for: keys, tokens and certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import typer

from servable_client import InvalidInput
from servable_client.cli.app import build
from servable_client.cli.options import Access, read_secret

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = {
    "--api-key": "SERVABLE_API_KEY",
    "--token": "SERVABLE_TOKEN",
    "--ca": "SERVABLE_CA",
    "--certificate": "SERVABLE_CLIENT_CERTIFICATE",
    "--key": "SERVABLE_CLIENT_KEY",
}


def _options(command: Any) -> dict[str, Any]:
    return {option: parameter for parameter in command.params for option in parameter.opts}


def test_every_command_of_a_server_takes_credentials() -> None:
    commands: dict[str, Any] = typer.main.get_command(build()).commands  # type: ignore[attr-defined]
    asking = {name for name, command in commands.items() if "--server" in _options(command)}
    assert {"classify", "predict", "status", "wait", "push", "sync", "canary"} <= asking
    for name in asking | {"evaluate"}:
        found = _options(commands[name])
        assert {option: found[option].envvar for option in OPTIONS if option in found} == OPTIONS


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr3t\n")
    assert read_secret(f"@{tmp_path / 'token'}", "--token") == "s3cr3t"
    assert read_secret("s3cr3t", "--token") == "s3cr3t"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_without_a_secret_is_a_usage_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(typer.BadParameter):
        read_secret(f"@{tmp_path / 'token'}", "--token")


def test_secrets_are_not_shown() -> None:
    assert "s3cr3t" not in repr(Access(api_key="s3cr3t", token="s3cr3t"))


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(InvalidInput):
        Access(certificate="client.pem").arguments()
