"""What a store does with its library's errors, and with URLs; by fsspec's memory and folders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from servable_client import InvalidInput
from servable_serving.repository.store import Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    yield f"memory:/{tmp_path}/store"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> Store:
    return Store(url if request.param == "memory" else f"file://{tmp_path}/store")


def failing(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def read_failing(
    url: str, monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Exception | None = None
) -> StoreError:
    """What reading raises where the library raises an error."""
    store = Store(url)
    error.__cause__ = cause
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "cat_file", failing(error))
        with pytest.raises(StoreError) as caught:
            store.read("file")
    assert caught.value.__cause__ is error
    return caught.value


def test_what_was_written_is_read(store: Store) -> None:
    store.write("a/b", b"content")
    assert store.read("a/b") == b"content"


def test_a_missing_file_is_none(store: Store) -> None:
    assert store.read("a/b") is None


def test_a_file_is_replaced(store: Store) -> None:
    store.write("a/b", b"old")
    store.write("a/b", b"new")
    assert store.read("a/b") == b"new"


def test_nothing_but_the_file_is_left(store: Store) -> None:
    store.write("a/b", b"content")
    assert store.names("a") == ["b"]


def test_names_are_sorted_and_without_their_folder(store: Store) -> None:
    for name in ("2/x", "10/x", "a"):
        store.write(f"m/{name}", b"")
    assert store.names("m") == ["10", "2", "a"]


def test_a_missing_folder_has_no_names(store: Store) -> None:
    assert store.names("m") == []


def test_a_file_is_created_once(store: Store) -> None:
    assert store.create("a/b", b"first")
    assert not store.create("a/b", b"second")
    assert store.read("a/b") == b"first"


def test_a_removed_file_is_missing(store: Store) -> None:
    store.write("a/b", b"content")
    store.remove("a/b")
    assert store.read("a/b") is None


def test_removing_a_missing_file_does_nothing(store: Store) -> None:
    store.remove("a/b")


def test_a_file_is_uploaded(store: Store, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    store.put(tmp_path / "source", "a/b")
    assert b"".join(store.chunks("a/b")) == b"content"


def test_chunks_of_a_missing_file_are_an_error(store: Store) -> None:
    with pytest.raises(StoreError, match="a/b"):
        list(store.chunks("a/b"))


def test_a_failed_create_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"file://{tmp_path}/store")
    local = type(fsspec.filesystem("file"))
    opened = local.open

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        file = opened(self, *args, **kwargs)
        file.write = failing(OSError(28, "No space left on device"))
        return file

    monkeypatch.setattr(local, "open", broken)
    with pytest.raises(StoreError):
        store.create("a/b", b"content")
    monkeypatch.undo()
    assert store.create("a/b", b"content")


def test_a_folder_named_bucket_may_be_empty(tmp_path: Path) -> None:
    # Once taken for a bucket that is missing, by its name.
    assert Store(f"file://{tmp_path}/bucket").read("models.config") is None


class ClientError(Exception):
    """As botocore's: the code is in a response."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


class ResourceNotFoundError(Exception):
    """As Azure's: the code is an attribute."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.error_code = code


@pytest.mark.parametrize(
    "cause", [ClientError("NoSuchBucket"), ResourceNotFoundError("ContainerNotFound")]
)
def test_a_missing_bucket_is_an_error(
    url: str, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    error = read_failing(url, monkeypatch, FileNotFoundError("not there"), cause)
    assert "bucket" in (error.hint or "")
    assert not error.unreachable


@pytest.mark.parametrize(
    "cause", [ClientError("NoSuchKey"), ResourceNotFoundError("BlobNotFound"), None]
)
def test_a_missing_object_is_not(
    url: str, monkeypatch: pytest.MonkeyPatch, cause: Exception | None
) -> None:
    missing = FileNotFoundError("not there")
    missing.__cause__ = cause
    monkeypatch.setattr(MemoryFileSystem, "cat_file", failing(missing))
    assert Store(url).read("file") is None


class NoCredentialsError(Exception):
    """As botocore's, by its name."""


class ExpiredError(NoCredentialsError):
    """A kind of it."""


@pytest.mark.parametrize("error", [NoCredentialsError("none"), ExpiredError("expired")])
def test_missing_credentials_are_told(
    url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert "AWS_ACCESS_KEY_ID" in (read_failing(url, monkeypatch, error).hint or "")


def test_missing_credentials_are_found_in_a_cause(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_failing(url, monkeypatch, OSError("wrapped"), NoCredentialsError("none"))
    assert "AWS_ACCESS_KEY_ID" in (found.hint or "")


def test_denied_access_is_not_unreachable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_failing(url, monkeypatch, PermissionError(13, "Forbidden"))
    assert not found.unreachable
    assert "permissions" in (found.hint or "")


@pytest.mark.parametrize("error", [OSError("no route"), TimeoutError(), RuntimeError("a\n b")])
def test_any_other_error_is_unreachable(
    url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    found = read_failing(url, monkeypatch, error)
    assert found.unreachable
    assert "\n" not in found.message


def test_an_error_without_words_is_named_by_its_class(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_failing(url, monkeypatch, TimeoutError()).message.endswith(": TimeoutError")


def test_the_file_system_is_made_anew_after_a_failure(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(url)
    before = store._fs
    assert store._fs is before
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "cat_file", failing(OSError("broken connection")))
        with pytest.raises(StoreError):
            store.read("file")
    assert store._fs is not before
    assert store.read("file") is None


def test_waits_are_told_of_in_pairs(url: str) -> None:
    waits: list[bool] = []
    store = Store(url, waiting=waits.append)
    waits.clear()
    store.read("missing")
    assert waits == [True, False]


def test_the_end_of_a_wait_that_fails_is_told_of(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[bool] = []
    store = Store(url, waiting=waits.append)
    waits.clear()
    monkeypatch.setattr(MemoryFileSystem, "cat_file", failing(OSError("away")))
    with pytest.raises(StoreError):
        store.read("file")
    assert waits == [True, False]


@pytest.mark.parametrize("given", ["bucket/models", "", "/srv/models", "nosuch://bucket"])
def test_what_is_not_a_valid_url_is_refused(given: str) -> None:
    with pytest.raises(InvalidInput):
        Store(given)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(InvalidInput) as caught:
        Store("nosuch://user:secret@host/models")
    assert "secret" not in str(caught.value)
    assert "nosuch://user@host/models" in str(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec, "url_to_fs", failing(ImportError("no s3fs")))
    with pytest.raises(StoreError) as caught:
        Store("s3://bucket/models")
    assert caught.value.hint == "in the clone of Servable, run: pip install '.[remote]'"


def test_a_store_that_is_away_at_first_can_be_used_later(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(fsspec, "url_to_fs", failing(OSError("no route")))
        store = Store(url)
        with pytest.raises(StoreError):
            store.read("file")
    assert store.read("file") is None


def test_a_url_is_shown_without_a_slash_at_its_end(url: str) -> None:
    assert Store(f"{url}/").url == url
