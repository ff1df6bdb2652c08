"""The versions of a repository behind a URL, in fsspec's memory."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.repository.candidates import make_candidate

from servable_serving.release.inventory import LISTED, UNLISTED
from servable_serving.release.remote_inventory import INCOMPLETE, RemoteInventory
from servable_serving.repository.history import who
from servable_serving.repository.manifest import MANIFEST
from servable_serving.repository.models_config import ModelsConfigError
from servable_serving.repository.remote import Remote
from servable_serving.repository.store import Store, StoreError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["memory", "file"])
def inventory(request: pytest.FixtureRequest, tmp_path: Path) -> RemoteInventory:
    """Four versions: stable is 2, canary 4; the push of 3 was killed."""
    where = uuid.uuid4().hex if request.param == "memory" else str(tmp_path / "remote")
    remote = Remote(f"{request.param}://{where}")
    candidate = make_candidate(
        tmp_path / "candidate", metrics={"test": {"accuracy": 0.9}}, git_revision="abc"
    )
    for _ in range(4):
        remote.push(candidate)
    remote.label("garments", 2, "stable")
    remote.label("garments", 4, "canary")
    remote.store.remove(f"garments/3/{MANIFEST.as_posix()}")
    for version in (1, 2, 3, 4):  # pushed long ago
        path = f"garments/.claims/{version}"
        claim = json.loads(remote.store.read(path) or b"")
        remote.store.write(path, json.dumps({**claim, "when": "2020-01-01T00:00:00Z"}).encode())
    return RemoteInventory(remote, "garments")


def test_each_version_is_described(inventory: RemoteInventory) -> None:
    entries = inventory.versions()
    assert [(e.version, e.state, e.labels) for e in entries] == [
        (4, LISTED, ["canary"]), (3, INCOMPLETE, []), (2, LISTED, ["stable"]), (1, UNLISTED, []),
    ]  # fmt: skip
    assert [e.accuracy for e in entries] == [0.9, None, 0.9, 0.9]
    assert {e.by for e in entries} == {who()}
    assert entries[0].git == "abc"
    assert entries[0].size > entries[1].size > 0
    assert entries[0].pushed is not None


def test_no_model_has_no_versions(inventory: RemoteInventory) -> None:
    other = RemoteInventory(inventory.remote, "shoes")
    assert other.versions() == []
    for look in (other.verify, partial(other.prune, keep=1)):
        with pytest.raises(StoreError, match="no version of shoes") as caught:
            look()
        assert "--model" in str(caught.value.hint)


def test_a_policy_without_numbers_chooses_from_the_versions(inventory: RemoteInventory) -> None:
    inventory.remote.store.write(
        "models.config",
        b'model_config_list { config { name: "garments" base_path: "/models/garments" '
        b'model_platform: "tensorflow" model_version_policy { latest { num_versions: 2 } } } }',
    )
    assert inventory.remote.deployed("garments") == ({}, {3, 4})


def test_files_are_compared_with_their_checksums(inventory: RemoteInventory) -> None:
    inventory.remote.store.write("garments/1/saved_model.pb", b"other")
    found = inventory.verify()
    assert [checked.what for checked in found] == [
        *(f"{inventory.location}/{version}" for version in (1, 2, 3, 4)),
        f"{inventory.remote.url}/models.config",
    ]
    assert "saved_model.pb" in str(found[0].trouble)
    assert "has no manifest" in str(found[2].trouble)
    assert [found[index].trouble for index in (1, 3, 4)] == [None] * 3


def test_a_missing_file_is_trouble_of_its_version(inventory: RemoteInventory) -> None:
    inventory.remote.store.remove("garments/2/saved_model.pb")
    found = inventory.verify()
    assert "garments/2/saved_model.pb is missing" in str(found[1].trouble)
    assert "lists 2, which" in str(found[-1].trouble)
    assert [found[index].trouble for index in (0, 3)] == [None] * 2


def test_a_listed_version_that_is_not_there_is_trouble(inventory: RemoteInventory) -> None:
    inventory.remote.store.remove(f"garments/4/{MANIFEST.as_posix()}")
    assert "lists 4, which" in str(inventory.verify()[-1].trouble)
    inventory.remote.store.write("models.config", b"model_config_list {")
    assert "cannot parse" in str(inventory.verify()[-1].trouble)


def test_old_versions_are_deleted(inventory: RemoteInventory) -> None:
    assert inventory.prune(keep=1) == [1, 3]
    assert inventory.numbers() == [2, 4]
    assert inventory.remote.store.sizes("garments/1") == {}
    assert inventory.prune(keep=1) == []


def test_a_prune_that_is_killed_leaves_no_version_half_there(
    inventory: RemoteInventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Store, path: str) -> None:
        raise KeyboardInterrupt(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "remove_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            inventory.prune(keep=1)
    assert [entry.state for entry in inventory.versions() if entry.version == 1] == [INCOMPLETE]
    assert inventory.prune(keep=1) == [1, 3]


@pytest.mark.parametrize(
    "claim",
    [
        json.dumps({"when": datetime.now(UTC).isoformat()}).encode(),
        json.dumps({"when": "yesterday"}).encode(), b"[]", b"\xff", None,
    ],
    ids=["new", "no time", "no record", "no JSON", "none"],
)  # fmt: skip
def test_a_push_that_may_be_running_stays(inventory: RemoteInventory, claim: bytes | None) -> None:
    inventory.remote.store.remove("garments/.claims/3")
    if claim is not None:
        inventory.remote.store.write("garments/.claims/3", claim)
    assert inventory.prune(keep=1) == [1]
    assert inventory.remote.store.read("garments/3/saved_model.pb") == b"graph"


def test_the_highest_are_kept(inventory: RemoteInventory) -> None:
    assert inventory.prune(keep=3) == [1]
    assert inventory.numbers() == [2, 3, 4]


def test_a_deleted_number_is_not_used_again(inventory: RemoteInventory, tmp_path: Path) -> None:
    inventory.prune(keep=1)
    inventory.remote.store.write("models.config", b"model_config_list {}")
    assert inventory.prune(keep=1) == [2]
    assert inventory.remote.push(make_candidate(tmp_path / "again")) == 5


def test_nothing_is_deleted_if_models_config_is_not_valid(inventory: RemoteInventory) -> None:
    inventory.remote.store.write("models.config", b"model_config_list {")
    with pytest.raises(ModelsConfigError):
        inventory.prune(keep=1)
    assert inventory.numbers() == [1, 2, 3, 4]


def test_a_version_is_there_for_a_while(inventory: RemoteInventory) -> None:
    with inventory.folder(2) as folder:
        assert (folder / "saved_model.pb").read_bytes() == b"graph"
    assert not folder.exists()
    for version, said in ((3, "is incomplete"), (7, "has no version 7")):
        with pytest.raises(StoreError, match=said) as caught, inventory.folder(version):
            pass
        assert "there are: 1, 2, 3, 4" in str(caught.value.hint)
