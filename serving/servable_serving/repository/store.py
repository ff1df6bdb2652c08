"""Files behind a URL: a bucket, a machine reached by SSH, a folder; any file system of fsspec."""

from __future__ import annotations

import uuid
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from servable_client import InvalidInput, ServableError
from servable_client._extras import MODULES, how_to_install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CHUNK = 8 << 20
# Stores in which a partly written file is visible; in the others a put is atomic.
_FOLDERS = ("file", "local", "sftp", "ssh")
# Each store's library has its own errors, and is installed only if it is used.
_NO_CREDENTIALS = (
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
    "DefaultCredentialsError", "NoAuthTokenError", "ProfileNotFound",
)  # fmt: skip
# Error codes of S3 and Azure; Google's store has no specific code.
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_DENIED = ("PermissionError", "PermissionDenied", "SFTPPermissionDenied")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
             "ssh": "sshfs", "sftp": "sshfs"}  # fmt: skip


class StoreError(ServableError):
    """A remote repository cannot be reached, read or written.

    Attributes:
        unreachable: Whether the store did not answer, as opposed to an error response.
    """


class MissingFile(StoreError):
    """A file, or a version, is not there or not complete."""


class Store:
    """The files under a URL.

    Args:
        url: As fsspec takes it: `s3://bucket/models`, `gs://...`, `ssh://host/path`,
            `file:///path`, `memory://path`.
        waiting: Called with True before each operation that may wait for the network, and with
            False after it.

    Raises:
        InvalidInput: The URL is not valid.
        StoreError: The library for this kind of store is not installed.
    """

    def __init__(self, url: str, *, waiting: Callable[[bool], None] = lambda _: None) -> None:
        protocol = urlsplit(url).scheme
        self.url = _without_secrets(url)
        self._waiting = waiting
        if not protocol:
            raise InvalidInput(
                f"{url!r:.100} is not a valid URL", hint="expected e.g. s3://bucket/models"
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
                extra = MODULES.get(package)
                raise StoreError(
                    f"{self.url} needs {package}, which is not installed",
                    hint=how_to_install(extra) if extra else f"pip install {package}",
                ) from error
            if isinstance(error.__cause__, ValueError):
                raise InvalidInput(
                    f"{self.url}: {error.__cause__}",
                    hint="use a URL that fsspec supports: s3://, gs://, ssh://, file://",
                ) from error
            # Unreachable now; the next operation tries again.

    @property
    def _fs(self) -> Any:
        return self._open()[0]

    def _open(self) -> tuple[Any, str]:
        """The file system and the path in it; created again after a failure.

        The old one would keep a broken connection or expired credentials.
        """
        import fsspec

        if self._opened is None or self._failed:
            options: dict[str, Any] = {"skip_instance_cache": self._failed}
            if self._protocol in ("file", "local"):
                options["auto_mkdir"] = True
            configured = fsspec.config.conf.get(self._protocol, {})
            if self._protocol in ("ssh", "sftp") and "known_hosts" not in configured:
                # By default, sshfs trusts any host; this has asyncssh read ~/.ssh/known_hosts.
                options["known_hosts"] = ()
            with self._reaching():
                opened, root = fsspec.url_to_fs(self._given, **options)
            self._opened, self._failed = (opened, str(root).rstrip("/")), False
        return self._opened

    def read(self, path: str) -> bytes | None:
        """A file's content; None if there is no such file.

        Raises:
            StoreError: It cannot be read.
        """
        fs, target = self._fs, self._at(path)
        try:
            with self._reaching():
                return bytes(fs.cat_file(target))
        except FileNotFoundError as error:
            # A missing bucket is reported as a missing file too; here it is a usage error.
            if _codes(error) & _NO_BUCKET:
                raise StoreError(
                    f"cannot read {self.url}: {error}", hint="check the bucket's name"
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
            raise MissingFile(f"{self.url}/{path} is missing") from error

    def names(self, path: str) -> list[str]:
        """The names in a folder; empty if there is no such folder.

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

    def sizes(self, path: str) -> dict[str, int]:
        """The size in bytes of each file below a folder, by its path in it.

        Raises:
            StoreError: They cannot be listed.
        """
        fs, target = self._fs, self._at(path)
        with self._reaching():
            fs.invalidate_cache()
            found = fs.find(target, detail=True)
        return {
            name.removeprefix(f"{target}/"): int(info.get("size") or 0)
            for name, info in sorted(found.items())
        }

    def remove_folder(self, path: str) -> None:
        """Delete a folder and all files below it, if there is any.

        Raises:
            StoreError: It cannot be deleted.
        """
        fs, target = self._fs, self._at(path)
        with self._reaching(), suppress(FileNotFoundError):
            fs.invalidate_cache()
            fs.rm(target, recursive=True)

    def put(self, source: Path, path: str) -> None:
        """Upload a file.

        Raises:
            StoreError: It cannot be written.
        """
        with self._writing(path) as (fs, target):
            fs.put_file(str(source), target)

    def write(self, path: str, content: bytes) -> None:
        """Write a file atomically.

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
        """Create a file; False if it existed already.

        Atomic where the store supports it: S3 and what implements its If-None-Match, Google's and
        Azure's, folders, SSH. Elsewhere the file is looked for first.

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
                # SFTP has no specific error for it.
                if not isinstance(error, FileExistsError) and not fs.exists(target):
                    raise
                return False
            try:
                with file:
                    file.write(content)
            except BaseException:
                # A partly written file would count as a claim.
                with suppress(Exception):
                    fs.rm_file(target)
                raise
        return True

    def remove(self, path: str) -> None:
        """Delete a file if it exists.

        Raises:
            StoreError: It cannot be deleted.
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
        """The file system and the target of a write, whose folder exists."""
        fs, target = self._fs, self._at(path)
        try:
            with self._reaching():
                # Object stores have no folders; s3fs would make a bucket.
                if self._folders:
                    fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                yield fs, target
        except FileNotFoundError as error:
            raise StoreError(f"cannot write to {self.url}: {error}") from error

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
        kinds = {kind.__name__ for cause in _chain(error) for kind in type(cause).__mro__}
        reason = " ".join(str(error).split()) or type(error).__name__
        if kinds.intersection(_NO_CREDENTIALS):
            return StoreError(
                f"no credentials for {self.url}: {reason}",
                hint="provide them where the store's own tools look: for S3, AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, a profile, or the machine's role",
            )
        if kinds.intersection(_DENIED):
            return StoreError(
                f"access to {self.url} is denied: {reason}",
                hint="check the credentials and their permissions",
            )
        failure = StoreError(f"cannot reach {self.url}: {reason}")
        failure.unreachable = True
        return failure


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _codes(error: BaseException) -> set[str]:
    """The error codes of the store's own library: botocore's and Azure's."""
    found: set[object] = set()
    for cause in _chain(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            found.add(response.get("Error", {}).get("Code"))
        found.add(getattr(cause, "error_code", None))
    return {code for code in found if isinstance(code, str)}


def _without_secrets(url: str) -> str:
    """A URL without its password, for messages."""
    parts = urlsplit(url)
    if parts.password is None:
        return url.rstrip("/")
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}@{host}").geturl().rstrip("/")
