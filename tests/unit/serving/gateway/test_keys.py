"""API keys: the format of their files, and changes while the gateway runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable_serving.gateway.keys import Key, Keys, KeysError, KeyStore, parse_keys

if TYPE_CHECKING:
    from pathlib import Path

ALICE, BOB = "alices-key-0123456789", "bobs-key-0123456789-"


def test_comments_and_empty_lines_are_skipped() -> None:
    text = f"# who\n\nalice:{ALICE}\nbob:{BOB}"
    assert parse_keys(text, "keys") == (Key("alice", ALICE), Key("bob", BOB))


def test_windows_line_ends() -> None:
    assert parse_keys(f"alice:{ALICE}\r\n\r\n", "keys") == (Key("alice", ALICE),)


def test_a_prefix_goes_before_each_name() -> None:
    assert [key.name for key in parse_keys(f"x:{ALICE}", "keys", "admin/")] == ["admin/x"]


@pytest.mark.parametrize("length", [16, 256])
def test_the_shortest_and_the_longest_key(length: int) -> None:
    assert parse_keys(f"a:{'k' * length}", "keys")[0].secret == "k" * length


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        f":{ALICE}",
        f'al"ice:{ALICE}',
        f"{'n' * 65}:{ALICE}",
        f"alice:{ALICE}$",
        f"alice: {ALICE}",
        f"alice:{'k' * 15}",
        f"alice:{'k' * 257}",
        f"alice:{ALICE}:{BOB}",
    ],
)
def test_an_invalid_line_is_a_usage_error(line: str) -> None:
    with pytest.raises(KeysError) as caught:
        parse_keys(line, "keys")
    assert caught.value.exit_status == 2


def test_an_error_names_the_line_and_no_secret() -> None:
    with pytest.raises(KeysError) as caught:
        parse_keys(f"# keys\n{ALICE}", "keys")
    assert "line 2" in str(caught.value)
    assert ALICE not in str(caught.value)


def test_a_secret_is_not_in_a_keys_repr() -> None:
    assert ALICE not in repr(Keys((Key("alice", ALICE),)))


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "api", tmp_path / "admin")


def test_without_files_there_are_no_keys(store: KeyStore) -> None:
    store.reload()
    assert store.current == Keys()


def test_no_file_is_needed() -> None:
    store = KeyStore(None, None)
    store.reload()
    assert store.current.all == ()


def test_an_administrators_key_is_marked(store: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "api").write_text(f"alice:{ALICE}\n")
    (tmp_path / "admin").write_text(f"bob:{BOB}\n")
    store.reload()
    assert [key.name for key in store.current.all] == ["alice", "admin/bob"]


def test_admin_keys_alone_ask_no_key_of_callers(store: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "admin").write_text(f"bob:{BOB}\n")
    store.reload()
    assert store.current.api == ()


@pytest.mark.parametrize("other", [ALICE, ALICE.upper()])
def test_a_key_that_two_have(store: KeyStore, tmp_path: Path, other: str) -> None:
    """Case does not count: nginx's maps ignore it."""
    (tmp_path / "api").write_text(f"alice:{ALICE}\n")
    (tmp_path / "admin").write_text(f"bob:{other}\n")
    with pytest.raises(KeysError, match="admin/bob and alice"):
        store.reload()


def test_a_folder_in_place_of_a_file(store: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    with pytest.raises(KeysError):
        store.reload()


def test_a_change_is_taken_up(store: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "api").write_text(f"alice:{ALICE}\n")
    store.reload()
    (tmp_path / "api").write_text(f"bob:{BOB}\n")
    store.reload()
    assert store.current.api == (Key("bob", BOB),)


@pytest.mark.parametrize("mistake", ["", "# nobody\n", "bob", f"alice:{ALICE}\nbob:short\n"])
def test_a_mistake_leaves_the_keys_in_force(store: KeyStore, tmp_path: Path, mistake: str) -> None:
    (tmp_path / "api").write_text(f"alice:{ALICE}\n")
    store.reload()
    (tmp_path / "api").write_text(mistake)
    with pytest.raises(KeysError):
        store.reload()
    assert store.current.api == (Key("alice", ALICE),)


def test_a_file_that_is_deleted_opens_nothing(store: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "api").write_text(f"alice:{ALICE}\n")
    store.reload()
    (tmp_path / "api").unlink()
    with pytest.raises(KeysError):
        store.reload()
    assert store.current.api
