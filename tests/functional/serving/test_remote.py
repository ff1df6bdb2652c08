"""A repository behind a URL: whole versions, numbers of their own, no label that is lost."""

from __future__ import annotations

import json
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
from tests.conftest import NAME, SHIPPED, only_sentence
from tests.forked import servable
from tests.functional.serving.stores import new_bucket
from tests.in_process import command

from servable_client import InvalidInput
from servable_serving import versions
from servable_serving.gates.run import GATES
from servable_serving.repository.manifest import MANIFEST, CandidateError
from servable_serving.repository.remote import Remote
from servable_serving.repository.store import Store, StoreError
from servable_serving.repository.sync import Mirror
from servable_serving.repository.sync_plan import SyncError

if TYPE_CHECKING:
    from pathlib import Path


def files(folder: Path) -> dict[str, bytes]:
    """Each file of a folder but its manifest, to which the repository adds its history."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path != folder / MANIFEST
    }


def test_what_is_pushed_comes_down_whole(url: str, tmp_path: Path) -> None:
    remote, models = Remote(url), tmp_path / "models"
    assert remote.push(SHIPPED) == 1
    assert remote.label(NAME, 1, "stable") == {"stable": 1}
    assert remote.push(SHIPPED) == 2
    assert remote.label(NAME, 2, "canary") == {"canary": 2, "stable": 1}
    changes = Mirror(url, models).sync()
    assert (changes.pulled, changes.config) == ([(NAME, 1), (NAME, 2)], True)
    for version in ("1", "2"):
        assert files(models / NAME / version) == files(SHIPPED)
    assert (models / "models.config").read_text() == remote.config()
    assert not list((models / NAME).glob(".incoming-*"))
    again = Mirror(url, models).sync()
    assert (again.pulled, again.deleted, again.config) == ([], [], False)


def test_only_one_creates(url: str) -> None:
    won: list[bytes] = []

    def create(content: bytes) -> None:
        if Store(url).create("a/claim", content):
            won.append(content)

    threads = [threading.Thread(target=create, args=[b"%d" % number]) for number in range(6)]
    if url.startswith("memory"):
        # It has no exclusive create of its own; one after the other is what it can.
        for number in range(6):
            create(b"%d" % number)
    else:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(won) == 1
    assert Store(url).read("a/claim") == won[0]


def test_pushes_side_by_side_get_numbers_of_their_own(s3_url: str, tmp_path: Path) -> None:
    def push(_: int) -> int:
        return Remote(s3_url).push(SHIPPED)

    def label(number: int) -> dict[str, int]:
        return Remote(s3_url).label(NAME, number, f"label{number}")

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(push, range(4))) == [1, 2, 3, 4]
        list(pool.map(label, range(1, 5)))
    # None of the changes of models.config was lost under another.
    assert Remote(s3_url).labels(NAME) == {f"label{n}": n for n in range(1, 5)}
    assert len(Mirror(s3_url, tmp_path).sync().pulled) == 4


def test_a_number_does_not_come_back(url: str) -> None:
    remote = Remote(url)
    remote.push(SHIPPED)
    remote.push(SHIPPED)
    for name in (*json.loads((SHIPPED / MANIFEST).read_text())["sha256"], MANIFEST.as_posix()):
        remote.store.remove(f"{NAME}/2/{name}")
    assert remote.push(SHIPPED) == 3


def test_its_versions_are_listed_verified_compared_and_pruned(url: str, tmp_path: Path) -> None:
    remote = Remote(url)
    for label in ("stable", "canary", "stable"):
        remote.label(NAME, remote.push(SHIPPED), label)
    flags = ("--model", NAME, "--repository", url)
    done = command("versions", *flags, "--json")
    assert done.returncode == 0, done.stderr
    listed = [(one["version"], one["state"], one["labels"]) for one in json.loads(done.stdout)]
    assert listed == [(3, "listed", ["stable"]), (2, "listed", ["canary"]), (1, "listed", [])]
    assert [entry.version for entry in versions(NAME, repository=url)] == [3, 2, 1]
    done = command("verify", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": ok\n") == 4
    np.savez(tmp_path / "few.npz", images=np.zeros([2, 28, 28], np.uint8), targets=np.zeros(2, int))
    done = command("diff", "1", "3", *flags, "--holdout", tmp_path / "few.npz")
    assert done.returncode == 0, done.stderr
    assert "differ on 0 of 2 images" in done.stdout
    done = command("prune", "--keep", "1", *flags, "--json")
    # The previous stable stays for a rollback.
    assert json.loads(done.stdout) == {"pruned": [], "left": [1, 2, 3]}
    remote.store.write(f"{NAME}/3/variables/variables.index", b"other")
    done = command("verify", *flags)
    assert done.returncode == 1
    assert "1 of 4 checks failed" in only_sentence(done)


class Killed(BaseException):
    """What ends a push, wherever it is."""


@pytest.mark.parametrize("step", range(8))
def test_a_push_that_is_killed_leaves_nothing_that_is_taken(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/remote"
    first = Remote(url)
    first.label(NAME, first.push(SHIPPED), "stable")
    Mirror(url, tmp_path / "models").sync()
    left = step

    def counted(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patched:
        for name in ("create", "put", "write"):
            patched.setattr(Store, name, counted(getattr(Store, name)))
        try:
            remote = Remote(url)
            remote.label(NAME, remote.push(SHIPPED), "stable")
        except Killed:
            killed = True
        else:
            killed = False
    assert killed == (step < 8), "there are as many steps"
    assert Mirror(url, tmp_path / "models").sync().pulled == []
    assert (tmp_path / "models" / NAME / "1").is_dir()
    monkeypatch.setattr("servable_serving.repository.remote._TURN_SECONDS", 0.5)
    again = Remote(url)
    again.label(NAME, again.push(SHIPPED), "stable")
    assert Mirror(url, tmp_path / "models").sync().pulled[-1] == (NAME, 3 if step else 2)


def test_a_half_upload_is_not_taken(url: str, tmp_path: Path) -> None:
    remote, models = Remote(url), tmp_path / "models"
    remote.label(NAME, remote.push(SHIPPED), "stable")
    Mirror(url, models).sync()
    remote.push(SHIPPED)
    manifest = f"{NAME}/2/{MANIFEST.as_posix()}"
    content = remote.store.read(manifest)
    assert content is not None
    remote.store.remove(manifest)
    with pytest.raises(StoreError, match="is incomplete"):
        remote.label(NAME, 2, "stable")
    before = remote.config() or ""
    named = before.replace("versions: 1", "versions: 1\n        versions: 2")
    remote.store.write("models.config", named.encode())
    with pytest.raises(SyncError, match=r"version 2 .* incomplete"):
        Mirror(url, models).sync()
    assert (models / "models.config").read_text() == before
    assert not (models / NAME / "2").exists()
    remote.store.write(manifest, content)
    assert Mirror(url, models).sync().pulled == [(NAME, 2)]
    assert (models / "models.config").read_text() == named


def test_an_object_that_was_changed_is_refused(url: str, tmp_path: Path) -> None:
    remote, models = Remote(url), tmp_path / "models"
    remote.label(NAME, remote.push(SHIPPED), "stable")
    Mirror(url, models).sync()
    before = (models / "models.config").read_text()
    remote.push(SHIPPED)
    remote.label(NAME, 2, "canary")
    remote.push(SHIPPED)
    remote.label(NAME, 3, "beta")
    graph = remote.store.read(f"{NAME}/2/saved_model.pb") or b""
    remote.store.write(f"{NAME}/2/saved_model.pb", graph[:-1] + b"x")
    with pytest.raises(CandidateError, match=r"saved_model\.pb is not as it was exported"):
        Mirror(url, models).sync()
    assert (models / "models.config").read_text() == before
    assert not (models / NAME / "2").exists()
    # The one that is whole is there already for when the other is.
    assert files(models / NAME / "3") == files(SHIPPED)
    assert not list((models / NAME).glob(".incoming-*"))
    remote.store.write(f"{NAME}/2/saved_model.pb", graph)
    assert Mirror(url, models).sync().pulled == [(NAME, 2)]


def test_a_version_that_became_another_is_refused(tmp_path: Path) -> None:
    url, models = f"file://{tmp_path}/remote", tmp_path / "models"
    remote = Remote(url)
    remote.label(NAME, remote.push(SHIPPED), "stable")
    Mirror(url, models).sync()
    path = tmp_path / "remote" / NAME / "1" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["sha256"]["saved_model.pb"] = "0" * 64
    path.write_text(json.dumps(manifest))
    with pytest.raises(SyncError, match="differs from the one in"):
        Mirror(url, models).sync()
    assert files(models / NAME / "1") == files(SHIPPED)


@pytest.mark.parametrize(
    "name", ["../../../outside", "/outside", "a/../../outside", "", "a\\..\\outside"]
)
def test_a_manifest_does_not_reach_outside(name: str, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/remote"
    remote = Remote(url)
    remote.label(NAME, remote.push(SHIPPED), "stable")
    path = tmp_path / "remote" / NAME / "1" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["sha256"][name] = "0" * 64
    path.write_text(json.dumps(manifest))
    with pytest.raises(CandidateError, match="has a manifest that names"):
        Mirror(url, tmp_path / "models").sync()
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("", "names no model"),
        ("model_config_list {", "not a valid ModelServerConfig"),
        ('model_config_list { config { name: "../x" base_path: "/models/../x" } }', "cannot be"),
        (f'model_config_list {{ config {{ name: "{NAME}" base_path: "/etc" }} }}', "has /etc"),
    ],
)
def test_a_config_that_makes_no_sense_changes_nothing(
    config: str, reason: str, tmp_path: Path
) -> None:
    url, models = f"file://{tmp_path}/remote", tmp_path / "models"
    remote = Remote(url)
    remote.label(NAME, remote.push(SHIPPED), "stable")
    Mirror(url, models).sync()
    before = (models / "models.config").read_text()
    remote.store.write("models.config", config.encode())
    with pytest.raises(SyncError, match=reason):
        Mirror(url, models, delete=True).sync()
    assert (models / "models.config").read_text() == before
    assert (models / NAME / "1").is_dir()


def test_what_the_config_dropped_goes_after_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No server reads the folder: nothing to wait for.
    monkeypatch.setattr("servable_serving.repository.sync._READ_SECONDS", 0.0)
    url, models = f"file://{tmp_path}/remote", tmp_path / "models"
    remote = Remote(url)
    for version in (1, 2, 3):
        remote.push(SHIPPED)
        remote.label(NAME, version, "stable")
    assert Mirror(url, models, delete=True).sync().pulled == [(NAME, 2), (NAME, 3)]
    remote.push(SHIPPED)
    remote.label(NAME, 4, "stable")
    # Without the flag, what was dropped stays.
    assert Mirror(url, models).sync().deleted == []
    assert (models / NAME / "2").is_dir()
    there: list[str] = []
    from servable_serving.repository.local import Repository

    delete = Repository.delete

    def watched(repository: Repository, version: int) -> None:
        there.append((models / "models.config").read_text())
        delete(repository, version)

    monkeypatch.setattr(Repository, "delete", watched)
    remote.push(SHIPPED)
    remote.label(NAME, 5, "stable")
    # A label has moved, and may not have at the server: what it stood for stays a while.
    assert Mirror(url, models, delete=True).sync().deleted == []
    monkeypatch.setattr("servable_serving.repository.sync._LOAD_SECONDS", 0.0)
    changes = Mirror(url, models, delete=True).sync()
    assert changes.deleted == [(NAME, 2), (NAME, 3)]
    assert there == [remote.config()] * 2
    assert sorted(p.name for p in (models / NAME).iterdir() if p.name.isdigit()) == ["4", "5"]
    # A number that went comes back with the same version where the remote names it again.
    remote.label(NAME, 3, "stable")
    assert (NAME, 3) in Mirror(url, models, delete=True).sync().pulled


@pytest.mark.parametrize(
    ("policy", "expected"), [("all {}", [1, 2, 3]), ("latest { num_versions: 2 }", [2, 3])]
)
def test_policies_that_name_no_version(policy: str, expected: list[int], tmp_path: Path) -> None:
    url, models = f"file://{tmp_path}/remote", tmp_path / "models"
    remote = Remote(url)
    for _ in range(4):
        remote.push(SHIPPED)
    # The highest is half there.
    remote.store.remove(f"{NAME}/4/{MANIFEST.as_posix()}")
    config = (
        f'model_config_list {{ config {{ name: "{NAME}" base_path: "/models/{NAME}" '
        f'model_platform: "tensorflow" model_version_policy {{ {policy} }} }} }}'
    )
    remote.store.write("models.config", config.encode())
    mirror = Mirror(url, models)
    assert [version for _, version in mirror.sync().pulled] == expected
    # There a new version comes without a new models.config.
    remote.push(SHIPPED)
    assert mirror.sync().pulled == [(NAME, 5)]


def test_the_commands(s3: str, tmp_path: Path) -> None:
    url, models = f"s3://{new_bucket(s3)}/models", tmp_path / "models"
    quick = [flag for gate in GATES[1:] for flag in ("--skip", gate)] + ["--why", "it is shipped"]
    done = servable("push", SHIPPED, "--repository", url, *quick, "--json")
    answer = json.loads(done.stdout)
    assert (answer["repository"], answer["version"], answer["labels"]) == (url, 1, {"stable": 1})
    done = servable("push", SHIPPED, "--repository", url, *quick)
    assert f"is version 2 of {NAME} at {url}, canary" in done.stdout
    assert "version 1, which is stable, to compare with" in done.stderr
    # Most others in this process: each would import the libraries of S3.
    done = command("push", SHIPPED, "--repository", url, *quick, "--dry-run")
    assert "nothing was published" in done.stdout
    assert Remote(url).push(SHIPPED) == 3
    done = command("promote", 3, "--repository", url, "--json")
    assert json.loads(done.stdout)["labels"] == {"canary": 2, "stable": 3}
    done = command("rollback", "--to", 1, "--repository", url, "--json")
    assert json.loads(done.stdout)["labels"] == {"canary": 2, "stable": 1}
    done = command("rollback", "--repository", url)
    assert (done.returncode, "--to" in done.stderr) == (1, True)
    assert "has no version 9" in only_sentence(command("promote", 9, "--repository", url))
    assert command("promote", 3, "--repository", url).returncode == 0
    done = command("rollback", "--why", "three is worse", "--repository", url, "--json")
    assert json.loads(done.stdout)["labels"] == {"canary": 2, "stable": 1}
    shown = command("history", "--repository", url).stdout
    assert "three is worse" in shown
    assert "trial skipped: it is shipped" in shown
    done = command("promote", 3, "--repository", url)
    assert f"stable is version 3 of {NAME} at {url}" in done.stdout
    done = servable("sync", url, models, "--json")
    assert json.loads(done.stdout) == {
        "url": url,
        "models": str(models),
        "pulled": [{"model": NAME, "version": version} for version in (1, 2, 3)],
        "deleted": [],
        "config": True,
    }
    claim = json.loads(Store(url).read(f"{NAME}/.claims/1") or b"")
    assert claim["skipped"]["trial"] == "it is shipped"
    assert "@" in claim["who"]
    done = command("canary", "9", "--repository", url)
    assert f"there is no version 9 in {url}/{NAME}" in done.stderr
    again = servable("sync", url, models)
    assert f"{models} is in sync with {url}: pulled 0 versions" in again.stdout


def without_credentials() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") or "URL" in k}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}


def test_what_goes_wrong_is_one_sentence(s3: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    missing = f"s3://no-{uuid.uuid4().hex[:8]}/models"
    for arguments in (["push", SHIPPED, "--repository", missing], ["sync", missing, models]):
        assert "bucket does not exist" in only_sentence(servable(*arguments))
    empty = f"s3://{new_bucket(s3)}/models"
    assert f"no models.config at {empty}" in only_sentence(servable("sync", empty, models))
    done = servable("sync", empty, models, env=without_credentials())
    assert "no credentials" in only_sentence(done)
    assert "AWS_ACCESS_KEY_ID" in done.stderr
    away = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    assert f"cannot reach {empty}" in only_sentence(servable("sync", empty, models, env=away))
    assert not models.exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nosuch://bucket", "models"], "nosuch"),
        (["bucket/models", "models"], "is not a valid URL"),
        (["memory://x", "models", "--every", "soon"], "not a valid duration"),
        (["memory://x", "models", "--every", "0s"], "not a valid duration"),
        (["memory://x", "models", "--metrics-port", "1"], "--every"),
    ],
)
def test_what_is_asked_wrongly(arguments: list[str], reason: str, tmp_path: Path) -> None:
    done = servable("sync", *arguments, cwd=tmp_path)
    assert (done.returncode, reason in done.stderr) == (2, True), done.stderr
    assert not list(tmp_path.iterdir())


def test_a_host_that_is_not_known_is_not_trusted(
    ssh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    # Also where nobody says which hosts are known: sshfs alone would ask no key.
    for configured in ({"known_hosts": str(known)}, {}):
        monkeypatch.setitem(fsspec.config.conf, "ssh", configured)
        with pytest.raises(StoreError, match="Host key is not trusted"):
            Remote(f"{ssh}{tmp_path}/other").config()


def test_a_password_is_not_told() -> None:
    with pytest.raises(StoreError) as caught:
        Remote("ssh://tests:secret@127.0.0.1:9/models").config()
    assert "secret" not in str(caught.value)
    assert "ssh://tests@127.0.0.1:9/models" in str(caught.value)
    with pytest.raises(InvalidInput) as refused:
        Remote("nosuch://tests:secret@host/models")
    assert "secret" not in str(refused.value)
