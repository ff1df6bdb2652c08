"""Files behind a URL: a bucket, a machine reached by SSH, a folder; whatever fsspec knows."""

from __future__ import annotations

import uuid
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from servable_client import InvalidInput, ServableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CHUNK = 8 << 20
# Where a file in the making would be seen: elsewhere a put is whole or not at all.
_FOLDERS = ("file", "local", "sftp", "ssh")
# Each store's library has errors of its own, and is there only where it is used.
_NO_CREDENTIALS = (
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
    "DefaultCredentialsError", "NoAuthTokenError", "ProfileNotFound",
)  # fmt: skip
_DENIED = ("PermissionError", "PermissionDenied", "SFTPPermissionDenied")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
             "ssh": "sshfs", "sftp": "sshfs"}  # fmt: skip


class StoreError(ServableError):
    """A remote repository cannot be reached, read or written."""


class Store:
    """The files under a URL.

    Args:
        url: As fsspec takes it: `s3://bucket/models`, `gs://...`, `ssh://host/path`,
            `file:///path`, `memory://path`.
        waiting: Told True before, and False after, each thing that may wait for the network.

    Raises:
        InvalidInput: It is no such URL.
        StoreError: The library for this kind of store is not installed.
    """

    def __init__(self, url: str, *, waiting: Callable[[bool], None] = lambda _: None) -> None:
        protocol = urlsplit(url).scheme
        self.url = _without_secrets(url)
        self._waiting = waiting
        if not protocol:
            raise InvalidInput(
                f"{url!r:.100} is no URL", hint="give s3://bucket/models, or its like"
            )
        self._given, self._protocol = url, protocol
        self._folders = protocol in _FOLDERS
        self._opened: tuple[Any, str] | None = None
        self._failed = False
        try:
            _ = self._fs
        except StoreError as error:
            if isinstance(error.__cause__, ImportError):
                package = _PACKAGES.get(protocol, f"the library for {protocol}")
                raise StoreError(
                    f"{self.url} needs {package}, which is not installed",
                    hint=f"pip install {package}",
                ) from error
            if isinstance(error.__cause__, ValueError):
                raise InvalidInput(
                    f"{self.url}: {error.__cause__}",
                    hint="give a URL that fsspec knows: s3://, gs://, ssh://, file://",
                ) from error
            # Whoever goes on trying finds it when it is back.

    @property
    def _fs(self) -> Any:
        return self._open()[0]

    def _open(self) -> tuple[Any, str]:
        """The file system and the path in it; after a failure they are made anew.

        A connection that broke, or credentials that ran out, would stay with the old one.
        """
        import fsspec

        if self._opened is None or self._failed:
            options: dict[str, Any] = {"skip_instance_cache": self._failed}
            if self._protocol in ("file", "local"):
                options["auto_mkdir"] = True
            configured = fsspec.config.conf.get(self._protocol, {})
            if self._protocol in ("ssh", "sftp") and "known_hosts" not in configured:
                # sshfs would take any host for the right one; this has asyncssh read
                # ~/.ssh/known_hosts.
                options["known_hosts"] = ()
            with self._reaching():
                opened, root = fsspec.url_to_fs(self._given, **options)
            self._opened, self._failed = (opened, str(root).rstrip("/")), False
        return self._opened

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is no such file.

        Raises:
            StoreError: That cannot be told.
        """
        fs, target = self._fs, self._at(path)
        try:
            with self._reaching():
                return bytes(fs.cat_file(target))
        except FileNotFoundError as error:
            # A bucket that is not there holds no file either, and is another thing.
            if "bucket" in str(error).lower():
                raise StoreError(
                    f"{self.url} cannot be read: {error}", hint="check the bucket's name"
                ) from error
            return None

    def chunks(self, path: str) -> Iterator[bytes]:
        """A file's content, a few megabytes at a time.

        Raises:
            StoreError: It is not there or cannot be read.
        """
        fs, target = self._fs, self._at(path)
        try:
            with self._reaching():
                file = fs.open(target, "rb")
            with file:
                while True:
                    with self._reaching():
                        chunk = file.read(_CHUNK)
                    if not chunk:
                        return
                    yield chunk
        except FileNotFoundError as error:
            raise StoreError(f"{self.url}/{path} is not there") from error

    def names(self, path: str) -> list[str]:
        """What lies in a folder; nothing where there is none.

        Raises:
            StoreError: It cannot be listed.
        """
        fs, target = self._fs, self._at(path)
        with self._reaching():
            fs.invalidate_cache()
            try:
                found = fs.ls(target, detail=False)
            except FileNotFoundError:
                return []
        return sorted({PurePosixPath(str(name).rstrip("/")).name for name in found})

    def put(self, source: Path, path: str) -> None:
        """Bring a file there.

        Raises:
            StoreError: It cannot be written.
        """
        with self._writing(path) as (fs, target):
            fs.put_file(str(source), target)

    def write(self, path: str, content: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            StoreError: It cannot be written; what was there before stays.
        """
        with self._writing(path) as (fs, target):
            if not self._folders:
                fs.pipe_file(target, content)
                return
            parent, _, name = target.rpartition("/")
            incoming = f"{parent}/.{name}.{uuid.uuid4().hex[:12]}"
            fs.pipe_file(incoming, content)
            fs.mv(incoming, target)

    def create(self, path: str, content: bytes) -> bool:
        """Write a file that was not there; whether it was not.

        In one step where the store can do that: S3 and what keeps to its If-None-Match, Google's
        and Azure's, folders, SSH. Elsewhere by a look first.

        Raises:
            StoreError: It cannot be written.
        """
        with self._writing(path) as (fs, target):
            try:
                if self._folders:
                    file = fs.open(target, "xb")
                else:
                    fs.pipe_file(target, content, mode="create")
                    return True
            except Exception as error:
                # SFTP calls it a failure, as all else.
                if not isinstance(error, FileExistsError) and not fs.exists(target):
                    raise
                return False
            try:
                with file:
                    file.write(content)
            except BaseException:
                # It is ours, and half of it would stand for somebody's.
                with suppress(Exception):
                    fs.rm_file(target)
                raise
        return True

    def remove(self, path: str) -> None:
        """Take a file away, if it is there.

        Raises:
            StoreError: It cannot be taken away.
        """
        fs, target = self._fs, self._at(path)
        try:
            with self._reaching():
                fs.rm_file(target)
        except FileNotFoundError:
            pass

    def _at(self, path: str) -> str:
        return f"{self._open()[1]}/{path}"

    @contextmanager
    def _writing(self, path: str) -> Iterator[tuple[Any, str]]:
        """Where a file goes, whose folder is there."""
        fs, target = self._fs, self._at(path)
        try:
            with self._reaching():
                # Object stores have no folders; s3fs would make a bucket.
                if self._folders:
                    fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                yield fs, target
        except FileNotFoundError as error:
            raise StoreError(f"{self.url} cannot be written: {error}") from error

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        self._waiting(True)
        try:
            yield
        except (ServableError, FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            self._failed = True
            raise self._error(error) from error
        finally:
            self._waiting(False)

    def _error(self, error: Exception) -> StoreError:
        kinds: set[str] = set()
        cause: BaseException | None = error
        while cause is not None:
            kinds |= {kind.__name__ for kind in type(cause).__mro__}
            cause = cause.__cause__
        reason = " ".join(str(error).split()) or type(error).__name__
        if kinds.intersection(_NO_CREDENTIALS):
            return StoreError(
                f"there are no credentials for {self.url}: {reason}",
                hint="give them as the store's own tools find them: for S3, AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, a profile, or the machine's role",
            )
        if kinds.intersection(_DENIED):
            return StoreError(
                f"access to {self.url} is denied: {reason}",
                hint="check the credentials and what they are allowed",
            )
        return StoreError(f"cannot reach {self.url}: {reason}")


def _without_secrets(url: str) -> str:
    """A URL to show: without a password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url.rstrip("/")
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}@{host}").geturl().rstrip("/")
