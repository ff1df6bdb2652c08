"""A repository that belongs to another user is found out before the work for it begins."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import NAME, SHIPPED, only_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as another user")

_OTHER = 65534
# The check alone runs as the other user, who may not be able to read Python's own modules.
_AS_ANOTHER = f"""
import os
from servable_client.cli.app import main
from servable_serving.repository.local import Repository

check = Repository.check_writable

def check_as_another(repository):
    os.setegid({_OTHER})
    os.seteuid({_OTHER})
    try:
        check(repository)
    finally:
        os.seteuid(0)
        os.setegid(0)

Repository.check_writable = check_as_another
main()
"""


@pytest.fixture
def models() -> Iterator[Path]:
    """A folder of root's that every user can read; those of pytest can be entered by root only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "models")
        (path / NAME).mkdir(parents=True)
        for each in (path.parent, path, path / NAME):
            each.chmod(0o755)
        yield path


def as_another(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _AS_ANOTHER, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("repository", [NAME, "new", "new/one"])
@pytest.mark.parametrize(
    "command", [("train",), ("tune",), ("push", SHIPPED, "--no-wait")], ids=lambda words: words[0]
)
def test_a_repository_of_another_user_is_refused_at_the_start(
    models: Path, command: tuple[object, ...], repository: str
) -> None:
    before = sorted(models.rglob("*"))
    done = as_another(*command, "--repository", models / repository)
    assert str(models) in only_sentence(done)
    assert "SERVABLE_UID=0" in done.stderr
    assert "--repository" in done.stderr
    assert sorted(models.rglob("*")) == before


def test_the_owner_of_models_config_is_asked_too(models: Path) -> None:
    os.chown(models / NAME, _OTHER, _OTHER)
    done = as_another("train", "--repository", models / NAME)
    assert f"cannot write to {models}:" in only_sentence(done)
