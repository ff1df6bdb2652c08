"""A model repository that is full, read-only, removed, swapped or damaged."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import NAME, SHIPPED, RunningServer, serving
from tests.functional.serving.calls import config_of, eventually
from tests.functional.serving.releases import FLAGS, Stage

from servable_client import Client, ServableError
from servable_serving.core.files import atomic_write
from servable_serving.repository.remote import Remote
from servable_serving.repository.sync import Mirror

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.reliability.callers import Question
    from tests.reliability.conftest import Begin

_DISK_BYTES = 32 << 20
# Longer than two polls of models.config and of the folders, which are a second apart.
_TWO_POLLS = 2.5


@dataclass(frozen=True)
class Disk:
    """A small disk of its own.

    Attributes:
        path: Where it is mounted.
    """

    path: Path

    def fill(self) -> Path:
        """Use all of its space; gives the file to remove."""
        ballast = self.path / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017
        return ballast

    @contextmanager
    def full(self) -> Iterator[None]:
        """It is full until the end of the block."""
        ballast = self.fill()
        try:
            yield
        finally:
            ballast.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """It is read-only until the end of the block."""
        self._mount("remount,ro")
        try:
            yield
        finally:
            self._mount("remount,rw")

    def _mount(self, options: str) -> None:
        subprocess.run(["mount", "-o", options, self.path], check=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """A disk for the tests of the module."""
    path = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(path)]
    if os.getuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root with CAP_SYS_ADMIN")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def served(root: Path, log: Path) -> Iterator[RunningServer]:
    """A server of the models.config in a folder."""
    flags = (f"--model_config_file={root / 'models.config'}", f"--model_repository_path={root}")
    with serving(None, log, *flags, *FLAGS) as server:
        yield server


def publish(root: Path) -> None:
    """Make a repository of the shipped model, whose version 1 is stable."""
    shutil.copytree(SHIPPED, root / NAME / "1")
    (root / "models.config").write_text(configured(1))


def configured(*versions: int) -> str:
    """A models.config that lists versions, the first of which is stable."""
    listed = " ".join(f"versions: {version}" for version in versions)
    paths = {NAME: Path("/models", NAME)}
    return config_of(paths, labels={"stable": versions[0]}, policy=f"specific {{ {listed} }}")


@pytest.fixture(scope="module")
def stage(disk: Disk, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A server of a repository on the small disk."""
    root = disk.path / "models"
    publish(root)
    with served(root, tmp_path_factory.mktemp("log") / "log") as server:
        yield Stage(server, root, NAME, [other])


@pytest.mark.parametrize("fault", ["disk full during a push", "repository read-only"])
def test_a_push_that_cannot_write(
    trial: Begin, stage: Stage, disk: Disk, question: Question, fault: str, other: Path
) -> None:
    """It fails, leaves nothing that a server would load, and succeeds when it is repeated."""
    before = stage.repository.versions()
    for version in (*before[1:], before[-1] + 1):
        question.expect(version, other)
    with trial(fault, stage.server, spared=True) as found:
        for _ in range(found.rounds):
            unwritable = disk.full() if "full" in fault else disk.read_only()
            with found.injected(), unwritable:
                with pytest.raises(ServableError):
                    stage.push(0)
                found.until_answered()
            assert stage.repository.versions() == before
            assert stage.labels()["stable"] == 1
        version = stage.push(0)
        found.until(lambda call: call.version == version)


def test_a_mirror_whose_disk_is_full(
    trial: Begin, disk: Disk, question: Question, other: Path, tmp_path: Path
) -> None:
    """Sync fails, the folder stays as it is, and the next sync succeeds; the log is full, too."""
    url, root = f"file://{tmp_path}/remote", disk.path / "mirror"
    remote = Remote(url)
    remote.label(NAME, remote.push(SHIPPED), "stable")
    Mirror(url, root).sync()
    question.expect(2, other)
    with (
        served(root, disk.path / "log") as server,
        trial("disk full during sync", server, spared=True) as found,
    ):
        remote.label(NAME, remote.push(other), "canary")
        before = (root / "models.config").read_bytes()
        for _ in range(found.rounds):
            with found.injected(), disk.full():
                with pytest.raises(ServableError):
                    Mirror(url, root).sync()
                found.until_answered()
            assert (root / "models.config").read_bytes() == before
            assert not (root / NAME / "2").exists()
        assert Mirror(url, root).sync().pulled == [(NAME, 2)]
        found.until(lambda call: call.version == 2)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunningServer]]:
    """A repository of the shipped model, and a server of it."""
    root = tmp_path_factory.mktemp("repository")
    publish(root)
    with served(root, root / "log") as server:
        yield root, server


def test_a_model_folder_that_is_removed(
    trial: Begin, repository: tuple[Path, RunningServer]
) -> None:
    root, server = repository
    with trial("folder removed", server, spared=True) as found:
        for _ in range(found.rounds):
            with found.injected():
                # What is logged last is not repeated, hence two troubles in turn.
                with logged(server, os.strerror(errno.ENOENT)):
                    shutil.rmtree(root / NAME)
                with logged(server, os.strerror(errno.ENOTDIR)):
                    (root / NAME).touch()
                found.until_answered()
                (root / NAME).unlink()
                shutil.copytree(SHIPPED, root / "new" / "1")
                (root / "new").rename(root / NAME)


@contextmanager
def logged(server: RunningServer, text: str) -> Iterator[None]:
    """Wait at the end of the block until the server has logged something once more."""
    before = server.log.read_text().count(text)
    yield
    eventually(lambda: server.log.read_text().count(text) > before)


def test_a_model_folder_that_is_swapped(
    trial: Begin, repository: tuple[Path, RunningServer], question: Question, other: Path
) -> None:
    """A version that is loaded stays as it is; a new one is that of the new folder."""
    root, server = repository
    for version in ("1", "2"):
        shutil.copytree(other, root / "swapped" / version)
    question.expect(2, other)
    config = root / "models.config"
    with (
        Client(server.grpc, model=NAME, timeout=60) as admin,
        trial("folder swapped", server, spared=True) as found,
    ):
        for _ in range(found.rounds):
            with found.injected():
                (root / NAME).rename(root / "first")
                (root / "swapped").rename(root / NAME)
                atomic_write(config, configured(1, 2))
                found.until(lambda call: call.version == 2)
                first = admin.predict({"image": question.images}, version=1)
                assert question.is_right(first)
                (root / NAME).rename(root / "swapped")
                (root / "first").rename(root / NAME)
                atomic_write(config, configured(1))
                eventually(
                    lambda: [one.state for one in admin.status() if one.version == 2] == ["END"]
                )
            assert found.callers.each(lambda call: call.version == 1)


def test_a_configuration_that_is_damaged(
    trial: Begin, repository: tuple[Path, RunningServer]
) -> None:
    root, server = repository
    config = root / "models.config"
    whole = config.read_bytes()
    with trial("models.config damaged", server, spared=True) as found:
        for _ in range(found.rounds):
            for content in (whole[: len(whole) // 2], whole[:-2], bytes(range(256))):
                with found.injected(), logged(server, "is not applied"):
                    config.write_bytes(content)
            with found.injected(), logged(server, "is not applied"):
                config.unlink()
            with found.injected():
                config.write_bytes(b"")  # of which nothing is logged
                found.until_answered(_TWO_POLLS)
            atomic_write(config, whole)
            found.until_answered()
