"""The repository that the options of a release name."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import typer

from servable_client.cli.options import Access
from servable_serving.cli.options import release, release_target
from servable_serving.cli.release import _skips
from servable_serving.core.addresses import is_url
from servable_serving.core.errors import FolderError
from servable_serving.release.folder_target import FolderTarget
from servable_serving.release.remote_target import RemoteTarget

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = "grpc://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Put the signal handlers back that a command installs."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("no_wait", [True, False])
def test_a_folder_that_does_not_exist_is_named(tmp_path: Path, no_wait: bool) -> None:
    missing = tmp_path / "nonexistent"
    with (
        pytest.raises(FolderError, match=str(missing)),
        release("fashion_mnist", str(missing), SERVER, no_wait, Access()),
    ):
        pass


def test_the_default_folder_must_exist_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(FolderError, match="models/garments"),
        release("garments", None, SERVER, True, Access()),
    ):
        pass


def test_the_folder_names_the_model(tmp_path: Path) -> None:
    (tmp_path / "garments").mkdir()
    folder = str(tmp_path / "garments")
    with release("fashion_mnist", folder, SERVER, True, Access()) as deployment:
        assert (deployment.model, deployment.servers) == ("garments", None)


def test_the_servers_are_those_of_the_address(tmp_path: Path) -> None:
    with release("other", str(tmp_path), SERVER, False, Access(), 3.0) as deployment:
        assert deployment.model == "other"
        assert deployment.timeout == 3.0
        assert deployment.servers is not None
        assert deployment.servers.address == SERVER


def test_an_invalid_address_is_a_usage_error(tmp_path: Path) -> None:
    with (
        pytest.raises(typer.BadParameter),
        release("other", str(tmp_path), "ftp://somewhere", False, Access()),
    ):
        pass


def test_a_url_is_a_remote_target() -> None:
    with release_target("garments", "memory://models", SERVER, False, Access()) as target:
        assert isinstance(target, RemoteTarget)
        assert target.model == "garments"


def test_a_folder_is_a_folder_target(tmp_path: Path) -> None:
    with release_target("garments", str(tmp_path), SERVER, True, Access()) as target:
        assert isinstance(target, FolderTarget)


def test_an_invalid_url_is_a_usage_error() -> None:
    with (
        pytest.raises(typer.BadParameter),
        release_target("garments", "nosuch://models", SERVER, True, Access()),
    ):
        pass


@pytest.mark.parametrize(
    ("repository", "expected"), [(None, False), ("models/x", False), ("s3://bucket/x", True)]
)
def test_what_is_a_url(repository: str | None, expected: bool) -> None:
    assert is_url(repository) is expected


@pytest.mark.parametrize(
    ("gates", "reasons", "expected"),
    [
        ([], [], {}),
        (["trial"], ["why"], {"trial": "why"}),
        (["trial", "size"], ["why"], {"trial": "why", "size": "why"}),
        (["trial", "size"], ["one", "other"], {"trial": "one", "size": "other"}),
    ],
)
def test_reasons_of_skipped_gates(
    gates: list[str], reasons: list[str], expected: dict[str, str]
) -> None:
    assert _skips(gates, reasons) == expected


@pytest.mark.parametrize(
    ("gates", "reasons"),
    [
        (["trial"], []),
        ([], ["why"]),
        (["trial"], [" "]),
        (["trial"], ["one", "other"]),
        (["trial", "size", "latency"], ["one", "other"]),
        (["luck"], ["why"]),
        (["structure"], ["why"]),
    ],
)
def test_a_gate_that_cannot_be_skipped_so_is_a_usage_error(
    gates: list[str], reasons: list[str]
) -> None:
    with pytest.raises(typer.BadParameter):
        _skips(gates, reasons)
