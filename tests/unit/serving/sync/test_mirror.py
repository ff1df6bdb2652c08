"""Mirroring a repository in memory: whole versions first, then models.config, deletions last."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tests.unit.serving.sync.candidates import candidate

from servable_client import DeadlineExceeded, ModelNotFound, ServableError, ServerFailed
from servable_client._wire.model_config import config_of
from servable_serving.repository.manifest import MANIFEST, CandidateError
from servable_serving.repository.remote import GATEWAY_FILES, Remote
from servable_serving.repository.shadow import Shadow, read_shadows, write_shadow
from servable_serving.repository.store import Store, StoreError
from servable_serving.repository.sync import (
    Changes,
    Mirror,
    Stopped,
    interval_after_failure,
)
from servable_serving.repository.sync_plan import SyncError
from servable_serving.repository.traffic import Route, read_traffic, write_traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONFIG = "models.config"


@dataclass
class FakeServer:
    """A server that reads the folder: what it says of versions and labels."""

    models: Path
    loads: list[ServableError | None] = field(default_factory=list)
    stands: dict[str, int] = field(default_factory=dict)
    waited_for: list[tuple[str, int]] = field(default_factory=list)
    configs: list[dict[str, int]] = field(default_factory=list)

    def wait_until_loaded(self, model: str, version: int, timeout: float) -> None:
        assert timeout > 0
        self.waited_for.append((model, version))
        (entry,) = config_of(self.models / CONFIG).model_config_list.config
        assert version in entry.model_version_policy.specific.versions
        self.configs.append(dict(entry.version_labels))
        failure = self.loads.pop(0) if self.loads else None
        if failure is not None:
            raise failure

    def version_of(self, model: str, label: str) -> int:
        if label not in self.stands:
            raise ModelNotFound(f"{model} has no {label}")
        return self.stands[label]


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about power failures, and the disk takes most of the time."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    yield Remote(f"memory:/{tmp_path}/remote")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return candidate(tmp_path / "candidate")


@pytest.fixture
def server(models: Path) -> FakeServer:
    return FakeServer(models)


def versions(models: Path) -> list[int]:
    return sorted(int(path.name) for path in (models / "m").iterdir() if path.name.isdigit())


def labels(models: Path) -> dict[str, int]:
    (entry,) = config_of(models / CONFIG).model_config_list.config
    return dict(entry.version_labels)


def publish(remote: Remote, source: Path, label: str = "stable") -> int:
    version = remote.push(source)
    remote.label("m", version, label)
    return version


def drop_from_config(remote: Remote, version: int) -> None:
    text = remote.config() or ""
    assert f"versions: {version}" in text
    remote.store.write(CONFIG, text.replace(f"versions: {version}", "", 1).encode())


def test_the_first_sync_brings_versions_and_config(
    remote: Remote, source: Path, models: Path
) -> None:
    publish(remote, source)
    changes = Mirror(remote.url, models).sync()
    assert (changes.pulled, changes.deleted, changes.config) == ([("m", 1)], [], True)
    assert (models / CONFIG).read_text() == remote.config()
    assert (models / "m" / "1" / "saved_model.pb").read_bytes() == b"graph"
    assert (models / "m" / "1" / "variables" / "variables.index").is_file()


def test_a_second_sync_changes_nothing(remote: Remote, source: Path, models: Path) -> None:
    publish(remote, source)
    mirror = Mirror(remote.url, models)
    mirror.sync()
    for again in (mirror, Mirror(remote.url, models)):
        assert again.sync().as_json() == {"pulled": [], "deleted": [], "config": False}


def test_an_unchanged_config_costs_a_read_of_each_small_file(
    remote: Remote, source: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(remote, source)
    mirror = Mirror(remote.url, models)
    mirror.sync()
    reads: list[str] = []
    read = Store.read

    def counted(store: Store, path: str) -> bytes | None:
        reads.append(path)
        return read(store, path)

    monkeypatch.setattr(Store, "read", counted)
    mirror.sync()
    assert reads == [CONFIG, *GATEWAY_FILES]


def test_what_gateways_read_is_brought(remote: Remote, source: Path, models: Path) -> None:
    publish(remote, source)
    (models).mkdir()
    write_traffic(models, {})
    mirror = Mirror(remote.url, models)
    before = (models / "models.traffic").read_text()
    mirror.sync()
    assert (models / "models.traffic").read_text() == before  # a repository that has none
    shadow = Shadow(version=2, name="m.shadow", against=1, percent=50, until=9)
    with remote.gateway_files() as root:
        write_traffic(root, {})
        write_shadow(root, "m", shadow)
    mirror.sync()
    assert read_shadows(models) == {"m": shadow}
    assert read_traffic(models) == {"m": [Route(label="stable", version=1, percent=100.0)]}
    with remote.gateway_files() as root:
        write_shadow(root, "m", None)
    mirror.sync()
    assert read_shadows(models) == {}


def test_a_version_in_the_shadow_is_one_of_its_model(
    remote: Remote, source: Path, models: Path
) -> None:
    publish(remote, source)
    version = remote.push(source)
    mirror = Mirror(remote.url, models, delete=True)
    mirror.sync()
    assert remote.load("m.shadow", version, folder="m")
    assert mirror.sync().pulled == [("m", version)]
    assert versions(models) == [1, version]
    assert not remote.delete("m", version)
    remote.withdraw("m.shadow")
    assert mirror.sync().config
    assert labels(models) == {"stable": 1}


def test_a_config_that_was_deleted_here_comes_back(
    remote: Remote, source: Path, models: Path
) -> None:
    publish(remote, source)
    mirror = Mirror(remote.url, models)
    mirror.sync()
    (models / CONFIG).unlink()
    assert mirror.sync().config
    assert (models / CONFIG).is_file()


def test_versions_that_no_config_names_are_not_brought(
    remote: Remote, source: Path, models: Path
) -> None:
    publish(remote, source)
    remote.push(source)
    assert Mirror(remote.url, models).sync().pulled == [("m", 1)]


def test_the_origin_is_kept_in_the_history(remote: Remote, source: Path, models: Path) -> None:
    publish(remote, source)
    Mirror(remote.url, models).sync()
    manifest = json.loads((models / "m" / "1" / MANIFEST).read_text())
    assert manifest["history"][-1]["from"] == remote.url


def test_an_empty_repository_is_an_error(remote: Remote, models: Path) -> None:
    with pytest.raises(SyncError) as caught:
        Mirror(remote.url, models).sync()
    assert "push" in (caught.value.hint or "")
    assert not models.exists()


def test_a_config_that_is_not_valid_changes_nothing(
    remote: Remote, source: Path, models: Path
) -> None:
    publish(remote, source)
    Mirror(remote.url, models).sync()
    before = (models / CONFIG).read_text()
    remote.store.write(CONFIG, b"")
    with pytest.raises(SyncError):
        Mirror(remote.url, models, delete=True).sync()
    assert ((models / CONFIG).read_text(), versions(models)) == (before, [1])


def test_a_config_that_is_not_text_is_an_error(remote: Remote, source: Path, models: Path) -> None:
    publish(remote, source)
    remote.store.write(CONFIG, b"\xff\xfe")
    with pytest.raises(StoreError):
        Mirror(remote.url, models).sync()


@pytest.fixture
def half(remote: Remote, source: Path, models: Path) -> bytes:
    """Version 1 is mirrored, and version 2 is named and has no manifest: gives that."""
    publish(remote, source)
    Mirror(remote.url, models).sync()
    publish(remote, source, "canary")
    path = f"m/2/{MANIFEST.as_posix()}"
    content = remote.store.read(path)
    assert content is not None
    remote.store.remove(path)
    return content


@pytest.mark.usefixtures("half")
def test_a_half_upload_is_not_taken(remote: Remote, models: Path) -> None:
    before = (models / CONFIG).read_text()
    with pytest.raises(SyncError):
        Mirror(remote.url, models).sync()
    assert ((models / CONFIG).read_text(), versions(models)) == (before, [1])


def test_an_upload_that_is_finished_later_is_taken(
    remote: Remote, models: Path, half: bytes
) -> None:
    mirror = Mirror(remote.url, models)
    with pytest.raises(SyncError):
        mirror.sync()
    remote.store.write(f"m/2/{MANIFEST.as_posix()}", half)
    assert mirror.sync().pulled == [("m", 2)]
    assert labels(models) == {"stable": 1, "canary": 2}


@pytest.mark.usefixtures("half")
def test_whole_versions_come_beside_a_half_one(remote: Remote, source: Path, models: Path) -> None:
    publish(remote, source, "beta")
    with pytest.raises(SyncError):
        Mirror(remote.url, models).sync()
    assert versions(models) == [1, 3]


@pytest.mark.parametrize("damage", [b"grap", b"Graph", b""])
def test_a_damaged_file_is_refused(
    remote: Remote, source: Path, models: Path, damage: bytes
) -> None:
    publish(remote, source)
    remote.store.write("m/1/saved_model.pb", damage)
    with pytest.raises(CandidateError, match=r"saved_model\.pb"):
        Mirror(remote.url, models).sync()
    assert not (models / CONFIG).exists()
    assert versions(models) == []
    assert not list((models / "m").glob(".incoming-*"))


def test_a_missing_file_is_an_error(remote: Remote, source: Path, models: Path) -> None:
    publish(remote, source)
    remote.store.remove("m/1/saved_model.pb")
    with pytest.raises(StoreError, match=r"saved_model\.pb"):
        Mirror(remote.url, models).sync()
    assert versions(models) == []


@pytest.mark.parametrize(
    "name", ["../../../outside", "/outside", "a/../../outside", "", "a\\..\\outside"]
)
def test_a_manifest_does_not_reach_outside_its_folder(
    remote: Remote, source: Path, models: Path, tmp_path: Path, name: str
) -> None:
    publish(remote, source)
    path = f"m/1/{MANIFEST.as_posix()}"
    manifest = json.loads(remote.store.read(path) or b"")
    manifest["sha256"][name] = "0" * 64
    remote.store.write(path, json.dumps(manifest).encode())
    with pytest.raises(CandidateError):
        Mirror(remote.url, models).sync()
    assert not list(tmp_path.rglob("outside"))


def test_a_version_of_another_model_is_refused(remote: Remote, source: Path, models: Path) -> None:
    publish(remote, source)
    path = f"m/1/{MANIFEST.as_posix()}"
    manifest = json.loads(remote.store.read(path) or b"")
    remote.store.write(path, json.dumps({**manifest, "name": "other"}).encode())
    with pytest.raises(CandidateError, match="other"):
        Mirror(remote.url, models).sync()


def test_a_version_that_changed_is_refused_and_stays(
    remote: Remote, source: Path, models: Path, tmp_path: Path
) -> None:
    publish(remote, source)
    Mirror(remote.url, models).sync()
    other = candidate(tmp_path / "other", graph=b"another graph")
    for path in other.rglob("*"):
        if path.is_file():
            remote.store.write(f"m/1/{path.relative_to(other).as_posix()}", path.read_bytes())
    with pytest.raises(SyncError, match="differs"):
        Mirror(remote.url, models).sync()
    assert (models / "m" / "1" / "saved_model.pb").read_bytes() == b"graph"


def test_a_label_moves_once_the_server_has_loaded_the_version(
    remote: Remote, source: Path, models: Path, server: FakeServer
) -> None:
    publish(remote, source)
    mirror = Mirror(remote.url, models, server=server)
    mirror.sync()
    assert server.waited_for == []  # nothing was in use before
    publish(remote, source)
    mirror.sync()
    assert server.waited_for == [("m", 2)]
    # While it loads, the label stands for the version before it.
    assert server.configs == [{"stable": 1}]
    assert labels(models) == {"stable": 2}


def test_labels_stay_where_a_version_fails_to_load(
    remote: Remote, source: Path, models: Path, server: FakeServer
) -> None:
    publish(remote, source)
    mirror = Mirror(remote.url, models, server=server)
    mirror.sync()
    publish(remote, source)
    server.loads = [ServerFailed("version 2 failed to load", code="INTERNAL")]
    with pytest.raises(SyncError, match="version 2 failed to load") as caught:
        mirror.sync()
    assert "rollback" in (caught.value.hint or "")
    assert labels(models) == {"stable": 1}
    # It is asked again at the next sync, and may have loaded by then.
    mirror.sync()
    assert labels(models) == {"stable": 2}


def late(*, unreachable: bool) -> DeadlineExceeded:
    error = DeadlineExceeded("not available in time")
    error.unreachable = unreachable
    return error


def test_labels_stay_where_a_version_does_not_load_in_time(
    remote: Remote, source: Path, models: Path, server: FakeServer
) -> None:
    publish(remote, source)
    mirror = Mirror(remote.url, models, server=server)
    mirror.sync()
    publish(remote, source)
    server.loads = [late(unreachable=False)]
    with pytest.raises(SyncError):
        mirror.sync()
    assert labels(models) == {"stable": 1}


def test_a_server_that_is_not_running_is_not_waited_for(
    remote: Remote, source: Path, models: Path, server: FakeServer
) -> None:
    publish(remote, source)
    mirror = Mirror(remote.url, models, server=server)
    mirror.sync()
    publish(remote, source)
    server.loads = [late(unreachable=True)]
    mirror.sync()
    assert labels(models) == {"stable": 2}


@pytest.fixture
def dropped(remote: Remote, source: Path, models: Path) -> None:
    """Versions 1 and 2 are mirrored, and the remote config names 2 alone since then."""
    publish(remote, source)
    publish(remote, source)
    Mirror(remote.url, models).sync()
    assert versions(models) == [1, 2]
    drop_from_config(remote, 1)


@pytest.mark.usefixtures("dropped")
def test_dropped_versions_stay_unless_told_otherwise(remote: Remote, models: Path) -> None:
    assert Mirror(remote.url, models).sync().deleted == []
    assert versions(models) == [1, 2]


@pytest.mark.usefixtures("dropped")
def test_dropped_versions_are_deleted(remote: Remote, models: Path) -> None:
    # No label has moved, so none can stand for it any more.
    changes = Mirror(remote.url, models, delete=True).sync()
    assert (changes.deleted, versions(models)) == ([("m", 1)], [2])


@pytest.mark.usefixtures("dropped")
def test_a_deleted_version_can_come_back(remote: Remote, models: Path) -> None:
    Mirror(remote.url, models, delete=True).sync()
    remote.label("m", 1, "beta")
    assert Mirror(remote.url, models).sync().pulled == [("m", 1)]


@pytest.mark.usefixtures("dropped")
def test_what_is_not_a_version_is_not_deleted(remote: Remote, models: Path) -> None:
    (models / "m" / "notes").mkdir()
    (models / "other" / "5").mkdir(parents=True)
    Mirror(remote.url, models, delete=True).sync()
    assert (models / "m" / "notes").is_dir()
    assert (models / "other" / "5").is_dir()


@pytest.fixture
def moved(remote: Remote, source: Path, models: Path, server: FakeServer) -> Mirror:
    """`stable` has moved from 1 to 2 at the server as well, and 1 is named no more."""
    publish(remote, source)
    mirror = Mirror(remote.url, models, delete=True, server=server)
    mirror.sync()
    publish(remote, source)
    drop_from_config(remote, 1)
    return mirror


def test_a_dropped_version_stays_while_a_label_stands_for_it_at_the_server(
    moved: Mirror, models: Path, server: FakeServer
) -> None:
    server.stands = {"stable": 1}
    assert moved.sync().deleted == []
    assert versions(models) == [1, 2]


def test_a_dropped_version_stays_while_the_server_does_not_answer(
    moved: Mirror, models: Path
) -> None:
    assert moved.sync().deleted == []
    assert versions(models) == [1, 2]


def test_a_dropped_version_goes_once_the_label_has_moved(
    moved: Mirror, models: Path, server: FakeServer
) -> None:
    moved.sync()
    server.stands = {"stable": 2}
    assert moved.sync().deleted == [("m", 1)]
    assert versions(models) == [2]


@pytest.mark.parametrize(("age", "deleted"), [(60, []), (121, [("m", 1)])])
def test_without_a_server_a_dropped_version_goes_after_two_minutes(
    remote: Remote,
    source: Path,
    models: Path,
    age: float,
    deleted: list[tuple[str, int]],
    server: FakeServer,
) -> None:
    publish(remote, source)
    Mirror(remote.url, models, server=server).sync()
    publish(remote, source)
    drop_from_config(remote, 1)
    Mirror(remote.url, models, server=server).sync()
    written = (models / CONFIG).stat().st_mtime - age
    os.utime(models / CONFIG, (written, written))
    assert Mirror(remote.url, models, delete=True).sync().deleted == deleted


@pytest.mark.parametrize(
    ("policy", "expected"), [("all {}", [1, 2, 3]), ("latest { num_versions: 2 }", [2, 3])]
)
def test_a_policy_that_names_no_versions_takes_whole_ones(
    remote: Remote, source: Path, models: Path, policy: str, expected: list[int]
) -> None:
    for _ in range(4):
        remote.push(source)
    remote.store.remove(f"m/4/{MANIFEST.as_posix()}")
    remote.store.write(
        CONFIG,
        'model_config_list { config { name: "m" base_path: "/models/m" '
        f"model_version_policy {{ {policy} }} }} }}".encode(),
    )
    mirror = Mirror(remote.url, models)
    assert [version for _, version in mirror.sync().pulled] == expected
    # New versions come without a new config.
    remote.push(source)
    assert mirror.sync().pulled == [("m", 5)]


def test_changes_as_json_name_models_and_versions() -> None:
    changes = Changes(pulled=[("m", 2)], deleted=[("m", 1)], config=True)
    assert changes.as_json() == {
        "pulled": [{"model": "m", "version": 2}],
        "deleted": [{"model": "m", "version": 1}],
        "config": True,
    }


def kept(
    mirror: Mirror, looks: int, between: Callable[[int], object] = lambda _: None
) -> list[Changes | ServableError]:
    """What a mirror tells of some looks, with no time between them."""
    told: list[Changes | ServableError] = []

    def tell(found: Changes | ServableError) -> None:
        told.append(found)
        between(len(told))
        if len(told) == looks:
            mirror.stop()

    mirror.keep(0.0, told=tell)
    return told


def test_it_syncs_until_it_is_stopped(remote: Remote, source: Path, models: Path) -> None:
    publish(remote, source)
    told = kept(Mirror(remote.url, models), 3)
    assert [isinstance(found, Changes) and found.pulled for found in told] == [[("m", 1)], [], []]


def test_a_failure_is_logged_once_and_so_is_its_end(
    remote: Remote, source: Path, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "servable.sync")
    kept(Mirror(remote.url, models), 5, lambda look: look == 3 and publish(remote, source))
    events = [vars(record)["event"] for record in caplog.records]
    assert events == ["failed", "pulled", "config", "recovered"]


def test_another_failure_is_logged_too(
    remote: Remote, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept(Mirror(remote.url, models), 4, lambda look: remote.store.write(CONFIG, b"x" * (look // 3)))
    assert [vars(record)["event"] for record in caplog.records] == ["failed"] * 3


def test_changes_are_logged_with_fields(
    remote: Remote, source: Path, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "servable.sync")
    publish(remote, source)
    Mirror(remote.url, models).sync()
    pulled = vars(caplog.records[0])
    assert (pulled["event"], pulled["model"], pulled["version"]) == ("pulled", "m", 1)


def test_a_stopped_mirror_does_not_begin_again(remote: Remote, models: Path) -> None:
    mirror = Mirror(remote.url, models)
    mirror.stop()
    mirror.keep(0.0, told=lambda _: pytest.fail("it synced"))


def test_a_stop_while_the_network_is_waited_for_ends_at_once(
    remote: Remote, source: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(remote, source)
    mirror = Mirror(remote.url, models)

    def signalled(*_: object) -> bytes:
        mirror.stop()  # as a signal's handler would
        return b""

    monkeypatch.setattr(MemoryFileSystem, "cat_file", signalled)
    with pytest.raises(Stopped):
        mirror.sync()
    assert not models.exists()


def test_a_stop_while_a_file_is_written_ends_after_it(remote: Remote, models: Path) -> None:
    mirror = Mirror(remote.url, models)
    mirror.stop()
    with pytest.raises(Stopped):
        mirror.sync()


@pytest.mark.parametrize(
    ("interval", "every", "expected"),
    [(5, 5, 10), (10, 5, 20), (40, 5, 60), (60, 5, 60), (300, 300, 300)],
)
def test_the_interval_grows_after_failures(interval: float, every: float, expected: float) -> None:
    assert interval_after_failure(interval, every) == expected
