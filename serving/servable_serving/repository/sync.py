"""Sync: mirrors a model repository behind a URL in a folder, once or continuously.

Versions come first, each whole and verified, then the models.config that names them; versions that
it no longer names may be deleted after that. So a server that reads the folder never finds a label
or a version that is missing, whenever the process ends.

TensorFlow Serving rejects a models.config as a whole if it moves a label in use to a version that
is not loaded yet, and would therefore never load that version. Where the remote models.config adds
a version and moves a label to it in one change, an intermediate one is written here: first the
version is listed, then, once it is loaded, the label is moved.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf import text_format

from servable_client import Client, DeadlineExceeded, ServableError, ServerFailed
from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write
from servable_serving.repository.local import Repository
from servable_serving.repository.manifest import CandidateError, manifest_of
from servable_serving.repository.models_config import NAME as CONFIG
from servable_serving.repository.models_config import listed
from servable_serving.repository.remote import GATEWAY_FILES, Remote
from servable_serving.repository.store import StoreError
from servable_serving.repository.sync_plan import (
    SyncError,
    checked_config,
    config_between,
    described,
    folder_of,
    follows,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable_client._wire import wire_pb2 as wire

_LONGEST_WAIT = 60.0
# Servers that poll it every second have read models.config by then.
_READ_SECONDS = 4.0
# How long a version may take to load before that counts as a failure; the next sync waits again.
_LOAD_SECONDS = 120.0

log = logging.getLogger("servable.sync")


class Stopped(BaseException):
    """The process received a stop request while it waited for the network."""


@dataclass(kw_only=True)
class Changes:
    """What one sync changed in the folder.

    Attributes:
        pulled: The new versions, as (model, version).
        deleted: The deleted versions, likewise.
        config: Whether models.config changed.
    """

    pulled: list[tuple[str, int]] = field(default_factory=list)
    deleted: list[tuple[str, int]] = field(default_factory=list)
    config: bool = False

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "pulled": [{"model": model, "version": version} for model, version in self.pulled],
            "deleted": [{"model": model, "version": version} for model, version in self.deleted],
            "config": self.config,
        }


class ReadingServer(Protocol):
    """The server that reads the folder."""

    def wait_until_loaded(self, model: str, version: int, timeout: float) -> None:
        """Wait for a version.

        Raises:
            ServerFailed: It failed to load.
            DeadlineExceeded: It is not loaded in time; `unreachable` where nothing listens.
        """
        ...

    def version_of(self, model: str, label: str) -> int:
        """The version of a label.

        Raises:
            ServableError: There is none, or the server does not answer.
        """
        ...


class ServerAt:
    """A server at an address.

    Args:
        address: The address.
        options: Of its clients: `tls`, `api_key`, `token`.

    Raises:
        InvalidInput: The address or an option is not valid.
    """

    def __init__(self, address: str, **options: Any) -> None:
        Client(address, model="any", **options).close()  # only validates them
        self._address, self._options = address, options

    def wait_until_loaded(self, model: str, version: int, timeout: float) -> None:
        """See `ReadingServer`."""
        with Client(self._address, model=model, **self._options) as client:
            client.wait_until_available(version, timeout=timeout)

    def version_of(self, model: str, label: str) -> int:
        """See `ReadingServer`."""
        with Client(self._address, model=model, **self._options) as client:
            return client.resolve(label=label)


def interval_after_failure(interval: float, every: float) -> float:
    """The next interval: twice the last one, up to a minute, or `every` if that is longer."""
    return min(interval * 2, max(_LONGEST_WAIT, every))


class Mirror:
    """A folder that mirrors a remote repository.

    Args:
        url: The remote repository.
        models: The folder; created if missing.
        delete: Whether to delete versions that models.config no longer names.
        server: The server that reads the folder, to ask which versions are loaded; without it,
            a server is assumed to have read models.config after a few seconds.

    Raises:
        InvalidInput: The URL is not valid.
        StoreError: The library for this kind of store is not installed.
    """

    def __init__(
        self,
        url: str,
        models: Path,
        *,
        delete: bool = False,
        server: ReadingServer | None = None,
    ) -> None:
        self._stop = threading.Event()
        self._waits = False
        self._remote = Remote(url, waiting=self._wait)
        self.url = self._remote.url
        self._models = models
        self._delete = delete
        self._server = server
        self._applied: str | None = None

    def stop(self) -> None:
        """Stop: at once while waiting for the network, otherwise after the current step."""
        if not self._stop.is_set():
            self._stop.set()
            if self._waits:
                raise Stopped

    def sync(self) -> Changes:
        """Apply what has changed in the remote repository.

        Raises:
            StoreError: The remote repository cannot be read; the folder stays as it is.
            SyncError: Its content is not valid; the folder stays as it is.
            CandidateError: A version does not match its manifest; it is not taken over.
            FolderError: The folder cannot be written.
        """
        changes = Changes()
        text = self._remote.config()
        if text is None:
            raise SyncError(
                f"there is no {CONFIG} at {self.url}",
                hint="`servable push --repository URL` writes it with the first version",
            )
        path = self._models / CONFIG
        self._copy_gateway_files()
        if text == self._applied and path.exists():
            return changes
        config = checked_config(text, self.url)
        wanted: dict[str, set[int]] = {}
        for entry in config.model_config_list.config:
            wanted.setdefault(folder_of(entry), set()).update(self._wanted(entry))
        failed: ServableError | None = None
        moved: bool | None = None
        for model, versions in wanted.items():
            for version in sorted(versions):
                try:
                    if self._pull(model, version):
                        changes.pulled.append((model, version))
                except (SyncError, StoreError, CandidateError) as error:
                    # The other versions are useful nevertheless; models.config is not.
                    failed = failed or error
        if failed is not None:
            raise failed
        try:
            if not path.exists() or path.read_bytes() != text.encode():
                moved = self._step(path, config)
                atomic_write(path, text, durable=True)
                changes.config = True
                log.info("applied %s: %s", CONFIG, described(config), extra={"event": "config"})
        except OSError as error:
            raise FolderError(f"cannot write {path}: {error.strerror}") from error
        if self._delete and any(
            set(Repository(self._models / model).versions()) - versions
            for model, versions in wanted.items()
        ):
            if not self._unused(path, config, moved):
                return changes  # checked again at the next sync
            self._drop(wanted, changes)
        if not any(follows(entry) for entry in config.model_config_list.config):
            self._applied = text
        return changes

    def keep(
        self, every: float, *, told: Callable[[Changes | ServableError], None] = lambda _: None
    ) -> None:
        """Sync at an interval until `stop`; log a failure once and retry.

        Args:
            every: The interval in seconds; it grows after failures, up to a minute.
            told: Called with the result of each sync.
        """
        said, wait = "", every
        while not self._stop.is_set():
            try:
                found: Changes | ServableError = self.sync()
            except Stopped:
                break
            except ServableError as error:
                found = error
            told(found)
            if isinstance(found, ServableError):
                if str(found) != said:
                    log.warning(
                        "%s%s; retrying, and the folder stays as it is", found,
                        f" ({found.hint})" if found.hint else "", extra={"event": "failed"},
                    )  # fmt: skip
                said = str(found)
                wait = interval_after_failure(wait, every)
            else:
                if said:
                    log.info("syncing from %s again", self.url, extra={"event": "recovered"})
                said, wait = "", every
            # Jitter, so that replicas do not all poll at the same moment.
            self._stop.wait(wait * random.uniform(0.8, 1.2))

    def _copy_gateway_files(self) -> None:
        """Copy what a gateway reads; a repository that has none leaves the folder's own."""
        for name in GATEWAY_FILES:
            path, content = self._models / name, self._remote.store.read(name)
            try:
                if content is not None and (not path.exists() or path.read_bytes() != content):
                    self._models.mkdir(parents=True, exist_ok=True)
                    atomic_write(path, content, durable=True)
                    log.info("applied %s", name, extra={"event": "gateway"})
            except OSError as error:
                raise FolderError(f"cannot write {path}: {error.strerror}") from error

    def _wait(self, waits: bool) -> None:
        self._waits = waits
        if waits and self._stop.is_set():
            self._waits = False
            raise Stopped

    def _wanted(self, entry: wire.ModelConfig) -> set[int]:
        """The versions that a server will look for."""
        folder = folder_of(entry)
        return set(entry.version_labels.values()) | listed(
            entry,
            lambda: [v for v in self._remote.numbers(folder) if self._whole(folder, v)],
        )

    def _whole(self, model: str, version: int) -> bool:
        try:
            return self._remote.manifest(model, version) is not None
        except CandidateError:
            return False

    def _pull(self, model: str, version: int) -> bool:
        """Fetch a version; whether it is new."""
        repository = Repository(self._models / model)
        here = repository.folders().get(version)
        manifest = self._remote.manifest(model, version)
        if here is not None:
            if manifest is not None and manifest_of(here).get("sha256") != manifest["sha256"]:
                raise SyncError(
                    f"version {version} of {model} at {self.url} differs from the one in "
                    f"{self._models}, which stays",
                    hint="versions never change: push new files as the next version",
                )
            return False
        if manifest is None:
            raise SyncError(
                f"{CONFIG} at {self.url} names version {version} of {model}, which is incomplete "
                "there",
                hint="its upload is under way or was interrupted; in that case push again",
            )
        with repository.locked():
            repository.receive(
                lambda incoming: self._remote.fetch(model, version, incoming),
                version=version,
                about={"from": self.url},
            )
        log.info(
            "pulled version %d of %s", version, model,
            extra={"event": "pulled", "model": model, "version": version},
        )  # fmt: skip
        return True

    def _unused(self, path: Path, config: wire.ModelServerConfig, moved: bool | None) -> bool:
        """Whether no label at the server can still point to a dropped version.

        Args:
            path: models.config.
            config: Its content.
            moved: Whether this sync moved a label in use; None if an earlier one wrote
                models.config.
        """
        if moved is False:
            return True
        if self._server is None:
            # The version that replaces it must be loaded first; without a server that is a guess.
            return time.time() - path.stat().st_mtime >= _LOAD_SECONDS
        return all(
            self._stands(self._server, entry.name, label, version)
            for entry in config.model_config_list.config
            for label, version in entry.version_labels.items()
        )

    def _stands(self, server: ReadingServer, model: str, label: str, version: int) -> bool:
        """Whether a label points to a version at the server."""
        self._wait(True)
        try:
            return server.version_of(model, label) == version
        except ServableError:
            return False
        finally:
            self._wait(False)

    def _step(self, path: Path, new: wire.ModelServerConfig) -> bool:
        """Have versions loaded that labels in use are about to move to; whether any label moves.

        Raises:
            SyncError: A version failed to load, or did not load in time; labels stay.
        """
        between, moving, moved = config_between(path, new, asked=self._server is not None)
        if not moving:
            return moved
        # Not rewritten if unchanged: after a timeout the server is still loading.
        text = text_format.MessageToString(between)
        if path.read_text() != text:
            atomic_write(path, text, durable=True)
        if self._server is None:
            if self._stop.wait(_READ_SECONDS):
                raise Stopped
            return True
        for model, version in sorted(moving):
            self._wait(True)
            try:
                self._server.wait_until_loaded(model, version, _LOAD_SECONDS)
            except ServerFailed as error:
                raise SyncError(
                    f"{error}; its labels stay",
                    hint="`servable rollback --to VERSION --repository URL`",
                ) from error
            except DeadlineExceeded as error:
                # A server that starts later loads the final models.config anyway.
                if not error.unreachable:
                    raise SyncError(f"{error}; its labels stay") from error
            finally:
                self._wait(False)
        return True

    def _drop(self, wanted: dict[str, set[int]], changes: Changes) -> None:
        """Delete the versions that models.config does not name, of the models that it names."""
        for model, versions in wanted.items():
            repository = Repository(self._models / model)
            for version in sorted(set(repository.versions()) - versions):
                with repository.locked():
                    repository.delete(version)
                changes.deleted.append((model, version))
                log.info(
                    "deleted version %d of %s", version, model,
                    extra={"event": "deleted", "model": model, "version": version},
                )  # fmt: skip
