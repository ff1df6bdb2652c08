"""Version 0, which TensorFlow Serving serves like any other."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import NAME, SHIPPED, serving
from tests.functional.client.conftest import as_file
from tests.in_process import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from tests.conftest import RunningServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("zero")
    shutil.copytree(SHIPPED, folder / NAME / "0")
    with serving(folder / NAME, folder / "log") as running:
        yield running


@pytest.mark.parametrize("version", [None, 0])
def test_version_0_answers_and_is_named(
    make: Callable[..., Any],
    scheme: str,
    server: RunningServer,
    boot: np.ndarray,
    version: int | None,
) -> None:
    with make(server.address(scheme), model=NAME, version=version) as client:
        answer = client.classify(boot)
        assert (answer.label, answer.version) == ("Ankle boot", 0)
        assert len(set(answer.labels)) == 10
        assert client.predict({"image": boot[None]}).version == 0
        assert client.predict({"image": boot[None]}, version=0).version == 0
        assert client.classify_examples([{"image/encoded": as_file(boot)}]).version == 0
        assert [a.version for a in client.classify_many([boot, boot])] == [0, 0]
        assert client.resolve() == client.wait_until_available(timeout=30) == 0
        assert client.ready(version=0)
        assert not client.ready(version=1)
        assert client.status()[0].version == 0


def test_the_commands_name_version_0(
    server: RunningServer, boot: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "boot.png").write_bytes(as_file(boot))
    at = ("--server", server.grpc)
    shown = command("classify", tmp_path / "boot.png", *at, "--version", 0)
    assert shown.returncode == 0, shown.stderr
    assert " 0 " in shown.stdout
    found = command("classify", tmp_path / "boot.png", *at, "--json")
    assert json.loads(found.stdout)[0]["version"] == 0
    waited = command("wait", *at, "--version", 0, "--json")
    assert json.loads(waited.stdout) == {"model": NAME, "version": 0}
