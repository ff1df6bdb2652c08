"""The repository: complete versions, in order, none twice."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import SHIPPED, only_sentence
from tests.forked import servable
from tests.functional.serving.releases import skipping

from servable_serving.core.errors import FolderError
from servable_serving.repository.local import Repository
from servable_serving.repository.manifest import CandidateError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models" / "fashion_mnist")


@pytest.fixture
def candidate() -> Path:
    """The shipped version: it has the files of any candidate, and needs no training."""
    return SHIPPED


@pytest.fixture
def broken(candidate: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(candidate, tmp_path / "broken"))
    (folder / "assets").mkdir()
    return folder


def visible(repository: Repository) -> list[str]:
    kept = (".lock", ".history.jsonl")
    return sorted(p.name for p in repository.path.iterdir() if p.name not in kept)


def test_versions_count_up(repository: Repository, candidate: Path) -> None:
    assert repository.versions() == []
    assert [repository.push(candidate) for _ in range(3)] == [1, 2, 3]
    assert repository.versions() == [1, 2, 3]
    assert visible(repository) == ["1", "2", "3"]
    assert candidate.is_dir()
    for path in candidate.rglob("*"):
        if path.is_file():
            copy = repository.path / "2" / path.relative_to(candidate)
            if path.name != "manifest.json":
                assert copy.read_bytes() == path.read_bytes()
                continue
            manifest = json.loads(copy.read_text())
            (pushed,) = manifest.pop("history")
            assert manifest == json.loads(path.read_text())
            assert (pushed["version"], pushed["what"]) == (2, "publish")


def test_a_server_of_another_user_can_read_what_is_pushed(
    repository: Repository, candidate: Path
) -> None:
    before = os.umask(0o077)
    try:
        repository.push(candidate)
    finally:
        os.umask(before)
    for path in (repository.path / "1", *(repository.path / "1").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_the_number_of_a_version_that_is_gone_does_not_come_back(
    repository: Repository, candidate: Path
) -> None:
    repository.push(candidate)
    repository.push(candidate)
    shutil.rmtree(repository.path / "2")
    assert repository.push(candidate) == 3
    (repository.path / ".rejected" / "9").mkdir(parents=True)
    assert repository.push(candidate) == 10


def test_what_a_killed_push_left_is_cleared(repository: Repository, candidate: Path) -> None:
    left = repository.path / ".incoming-killed"
    shutil.copytree(candidate, left)
    assert repository.versions() == []
    assert repository.push(candidate) == 1
    assert not left.exists()


def test_pushes_side_by_side_get_numbers_of_their_own(
    repository: Repository, candidate: Path
) -> None:
    versions: list[int] = []
    threads = [
        threading.Thread(target=lambda: versions.append(repository.push(candidate)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == [1, 2, 3, 4]


def remove_weights(folder: Path) -> str:
    path = next((folder / "variables").glob("variables.data*"))
    path.unlink()
    return f"{path} is missing"


def change_weights(folder: Path) -> str:
    path = folder / "saved_model.pb"  # the graph holds them
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return f"{path} is not as it was exported"


def add_a_file(folder: Path) -> str:
    (folder / "assets" / "extra.txt").write_text("x")
    return f"{folder / 'assets' / 'extra.txt'} is not in the manifest"


def remove_the_graph(folder: Path) -> str:
    (folder / "saved_model.pb").unlink()
    return f"{folder} holds no SavedModel"


def remove_the_manifest(folder: Path) -> str:
    (folder / "assets.extra" / "manifest.json").unlink()
    return f"{folder} has no readable manifest"


def link_elsewhere(folder: Path) -> str:
    (folder / "assets" / "link").symlink_to("/etc")
    return f"{folder / 'assets' / 'link'} is a link"


def hide_a_file_beside_the_manifest(folder: Path) -> str:
    (folder / "assets.extra" / "undeclared").write_text("x")
    return f"{folder / 'assets.extra' / 'undeclared'} is not in the manifest"


def add_a_fifo(folder: Path) -> str:
    os.mkfifo(folder / "assets" / "fifo")
    return f"{folder / 'assets' / 'fifo'} is not a regular file"


def make_the_manifest_a_fifo(folder: Path) -> str:
    (folder / "assets.extra" / "manifest.json").unlink()
    os.mkfifo(folder / "assets.extra" / "manifest.json")
    return f"{folder} has no readable manifest"


def name_another_folder(folder: Path) -> str:
    path = folder / "assets.extra" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "../elsewhere"}))
    return "'../elsewhere' cannot be a model's name"


def empty_the_manifest(folder: Path) -> str:
    (folder / "assets.extra" / "manifest.json").write_text(json.dumps({"sha256": 3}))
    return f"{folder} has no readable manifest"


@pytest.mark.parametrize(
    "breaking",
    [
        remove_weights, change_weights, add_a_file, remove_the_graph, remove_the_manifest,
        empty_the_manifest, link_elsewhere, name_another_folder, hide_a_file_beside_the_manifest,
        add_a_fifo, make_the_manifest_a_fifo,
    ],
)  # fmt: skip
def test_a_broken_candidate_is_refused_and_nothing_is_written(
    breaking: Callable[[Path], str], broken: Path, repository: Repository
) -> None:
    reason = breaking(broken)
    with pytest.raises(CandidateError) as caught:
        repository.push(broken)
    assert reason in str(caught.value)
    assert not repository.path.exists()


def test_the_command_refuses_a_broken_candidate(broken: Path, repository: Repository) -> None:
    reason = change_weights(broken)
    done = servable("push", broken, "--repository", repository.path, "--no-wait")
    assert reason in only_sentence(done)
    assert not repository.path.exists()


def test_a_repository_that_cannot_be_written(tmp_path: Path, candidate: Path) -> None:
    (tmp_path / "models").write_text("a file stands where the folder should be")
    with pytest.raises(FolderError, match="cannot write"):
        Repository(tmp_path / "models").push(candidate)


def test_the_command_pushes(candidate: Path, repository: Repository) -> None:
    done = servable("push", candidate, "--repository", repository.path, "--no-wait", "--json",
                    *skipping())  # fmt: skip
    told = json.loads(done.stdout)
    assert (told["repository"], told["version"]) == (str(repository.path), 1)
    assert told["labels"] == {"stable": 1}
