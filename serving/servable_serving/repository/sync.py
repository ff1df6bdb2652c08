"""Sync: a model repository is brought here from a URL, and kept as it is there.

Versions come first, each whole and checked, then models.config that names them; what it no longer
names may go after that. So a server that reads this repository never finds a label or a version
that is not there, whenever the process ends.

TensorFlow Serving refuses a models.config whole that moves a label in use to a version which is not
loaded yet, so that it would never be. Where the remote repository lists a version and moves a label
to it at once, there is a step between here: listed first, labelled when it is loaded.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format

from servable_client import Client, DeadlineExceeded, ServableError, ServerFailed
from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write, sync_folder
from servable_serving.repository.local import Repository
from servable_serving.repository.manifest import CandidateError, manifest_of
from servable_serving.repository.models_config import NAME as CONFIG
from servable_serving.repository.models_config import listed
from servable_serving.repository.remote import Remote
from servable_serving.repository.store import StoreError
from servable_serving.repository.sync_plan import (
    SyncError,
    checked_config,
    config_between,
    described,
    follows,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable_client._wire import wire_pb2 as wire

_LONGEST_WAIT = 60.0
# Servers that poll it each second have read models.config by then.
_READ_SECONDS = 4.0
# How long a version may take to load before it is told of; it is waited for again.
_LOAD_SECONDS = 120.0

log = logging.getLogger("servable.sync")


class Stopped(BaseException):
    """The process was asked to end while it waited for the network."""


@dataclass(kw_only=True)
class Changes:
    """What a look at the remote repository changed here.

    Attributes:
        pulled: The versions that came, as (model, version).
        deleted: The versions that went, likewise.
        config: Whether models.config is another.
    """

    pulled: list[tuple[str, int]] = field(default_factory=list)
    deleted: list[tuple[str, int]] = field(default_factory=list)
    config: bool = False

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "pulled": [{"model": model, "version": version} for model, version in self.pulled],
            "deleted": [{"model": model, "version": version} for model, version in self.deleted],
            "config": self.config,
        }


class Mirror:
    """A folder that is kept as a remote repository is.

    Args:
        url: The remote repository.
        models: The folder; made where it is missing.
        delete: Whether versions that models.config no longer names go.
        server: The server that reads the folder, to ask whether a version is loaded; without,
            it is taken to have read models.config after a few seconds.
    """

    def __init__(
        self, url: str, models: Path, *, delete: bool = False, server: str | None = None
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
        """End: at once where the network is waited for, else after the step under way."""
        if not self._stop.is_set():
            self._stop.set()
            if self._waits:
                raise Stopped

    def sync(self) -> Changes:
        """Bring what is new.

        Raises:
            StoreError: The remote repository cannot be reached; what is here stays.
            SyncError: It holds what cannot be; what is here stays.
            CandidateError: A version is not as its manifest says; it does not come.
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
        if text == self._applied and path.exists():
            return changes
        config = checked_config(text, self.url)
        wanted = {entry.name: self._wanted(entry) for entry in config.model_config_list.config}
        failed: ServableError | None = None
        moved: bool | None = None
        for model, versions in wanted.items():
            for version in sorted(versions):
                try:
                    if self._pull(model, version):
                        changes.pulled.append((model, version))
                except (SyncError, StoreError, CandidateError) as error:
                    # The others are of use all the same; models.config is not.
                    failed = failed or error
        if failed is not None:
            raise failed
        try:
            if not path.exists() or path.read_bytes() != text.encode():
                moved = self._step(path, config)
                atomic_write(path, text)
                sync_folder(self._models)
                changes.config = True
                log.info("%s is here: %s", CONFIG, described(config), extra={"event": "config"})
        except OSError as error:
            raise FolderError(f"cannot write {path}: {error.strerror}") from error
        if self._delete and any(
            set(Repository(self._models / model).versions()) - versions
            for model, versions in wanted.items()
        ):
            if not self._left(path, config, moved):
                return changes  # looked at again
            self._drop(wanted, changes)
        if not any(follows(entry) for entry in config.model_config_list.config):
            self._applied = text
        return changes

    def keep(
        self, every: float, *, told: Callable[[Changes | ServableError], None] = lambda _: None
    ) -> None:
        """Sync until asked to end; what fails is said once and tried again.

        Args:
            every: Seconds between two looks; after failures more, up to a minute.
            told: Called after each look.
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
                        "%s%s; what is here goes on being served", found,
                        f" ({found.hint})" if found.hint else "", extra={"event": "failed"},
                    )  # fmt: skip
                said = str(found)
                wait = min(wait * 2, max(_LONGEST_WAIT, every))
            else:
                if said:
                    log.info("%s is in order again", self.url, extra={"event": "recovered"})
                said, wait = "", every
            # Not all replicas at the same moment.
            self._stop.wait(wait * random.uniform(0.8, 1.2))

    def _wait(self, waits: bool) -> None:
        self._waits = waits
        if waits and self._stop.is_set():
            self._waits = False
            raise Stopped

    def _wanted(self, entry: wire.ModelConfig) -> set[int]:
        """The versions that a server will look for."""
        return set(entry.version_labels.values()) | listed(
            entry,
            lambda: [v for v in self._remote.numbers(entry.name) if self._whole(entry.name, v)],
        )

    def _whole(self, model: str, version: int) -> bool:
        try:
            return self._remote.manifest(model, version) is not None
        except CandidateError:
            return False

    def _pull(self, model: str, version: int) -> bool:
        """Bring a version; whether it was not here yet."""
        repository = Repository(self._models / model)
        here = repository.folders().get(version)
        manifest = self._remote.manifest(model, version)
        if here is not None:
            if manifest is not None and manifest_of(here).get("sha256") != manifest["sha256"]:
                raise SyncError(
                    f"version {version} of {model} at {self.url} is another than the one here, "
                    "which stays",
                    hint="a version never changes: push what is new as the next one",
                )
            return False
        if manifest is None:
            raise SyncError(
                f"{CONFIG} at {self.url} names version {version} of {model}, which is not whole "
                "there",
                hint="its upload is under way or was broken off; `servable push` again",
            )
        with repository.locked():
            repository.receive(
                lambda incoming: self._remote.fetch(model, version, incoming),
                version=version,
                about={"from": self.url},
            )
        log.info(
            "%s version %d is here", model, version,
            extra={"event": "pulled", "model": model, "version": version},
        )  # fmt: skip
        return True

    def _left(self, path: Path, config: wire.ModelServerConfig, moved: bool | None) -> bool:
        """Whether no label can stand for what models.config dropped any more.

        Args:
            path: models.config.
            config: What it says.
            moved: Whether this look moved a label in use; None where models.config is of an
                earlier one.
        """
        if moved is False:
            return True
        if self._server is None:
            # Until the version after it is loaded: nobody knows here when that is.
            return time.time() - path.stat().st_mtime >= _LOAD_SECONDS
        return all(
            self._stands(self._server, entry.name, label, version)
            for entry in config.model_config_list.config
            for label, version in entry.version_labels.items()
        )

    def _stands(self, server: str, model: str, label: str, version: int) -> bool:
        """Whether a label stands for a version at the server."""
        self._wait(True)
        try:
            with Client(server, model=model) as client:
                return client.resolve(label=label) == version
        except ServableError:
            return False
        finally:
            self._wait(False)

    def _step(self, path: Path, new: wire.ModelServerConfig) -> bool:
        """Have versions loaded that labels in use are about to move to; whether any moves.

        Raises:
            SyncError: One failed to load, or did not in time; labels stay as they are.
        """
        between, moving, moved = config_between(path, new, asked=self._server is not None)
        if not moving:
            return moved
        # Kept where it is there already: a server that was asked in vain goes on loading.
        text = text_format.MessageToString(between)
        if path.read_text() != text:
            atomic_write(path, text)
            sync_folder(self._models)
        if self._server is None:
            if self._stop.wait(_READ_SECONDS):
                raise Stopped
            return True
        for model, version in sorted(moving):
            self._wait(True)
            try:
                with Client(self._server, model=model) as client:
                    client.wait_until_available(version, timeout=_LOAD_SECONDS)
            except ServerFailed as error:
                raise SyncError(
                    f"{error}; its labels stay where they are",
                    hint="`servable rollback --to VERSION --repository URL`",
                ) from error
            except DeadlineExceeded as error:
                if "cannot reach" not in str(error):
                    raise SyncError(f"{error}; its labels stay where they are") from error
                # One that starts later reads models.config as it will be, and takes that.
            finally:
                self._wait(False)
        return True

    def _drop(self, wanted: dict[str, set[int]], changes: Changes) -> None:
        """Take away what models.config does not name, of the models that it does."""
        for model, versions in wanted.items():
            repository = Repository(self._models / model)
            for version in sorted(set(repository.versions()) - versions):
                with repository.locked():
                    repository.delete(version)
                changes.deleted.append((model, version))
                log.info(
                    "%s version %d is deleted", model, version,
                    extra={"event": "deleted", "model": model, "version": version},
                )  # fmt: skip
