"""A model repository behind a URL: push versions into it, and read them.

    URL/models.config               versions that servers load, and labels
    URL/models.traffic, .shadow     what the gateways split and mirror during a trial
    URL/NAME/VERSION/...            a version; complete when its manifest, the last file, is there
    URL/NAME/.claims/VERSION        who took that number, and the findings of the gates; kept, so
                                    that no number is reused
    URL/NAME/.history/TIME-ID       an event: which label moved where, when, by whom and why

Object stores have no rename and no locks. Their substitute is a put that succeeds only if the
object did not exist: for the number of a version, and as a lock of models.config.
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from servable_serving.core.json_text import parse_json
from servable_serving.core.names import CANARY, STABLE
from servable_serving.repository import history
from servable_serving.repository.candidate import Candidate
from servable_serving.repository.layout import version_of
from servable_serving.repository.manifest import MANIFEST, CandidateError, check_name
from servable_serving.repository.models_config import NAME as CONFIG
from servable_serving.repository.models_config import ModelsConfig, set_versions
from servable_serving.repository.shadow import NAME as SHADOW
from servable_serving.repository.store import MissingFile, Store, StoreError
from servable_serving.repository.traffic import NAME as TRAFFIC
from servable_serving.repository.traffic import write_traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from servable_client._wire import wire_pb2 as wire
    from servable_serving.repository.history import Event

# What a gateway reads beside models.config.
GATEWAY_FILES = (TRAFFIC, SHADOW)
_CLAIMS = ".claims"
_HISTORY = ".history"
_TURN = ".models.config.lock"
# A change of models.config takes a read and a write; a process that holds the lock for longer was
# killed. By this machine's clock alone, from when the lock is first seen.
_TURN_SECONDS = 60.0
_LOOK_SECONDS = 0.5
# No push takes as long.
_PUSH_TAKES = timedelta(days=1)


class Remote:
    """A model repository behind a URL.

    Args:
        url: Of the folder that holds models.config and the models' folders.
        waiting: See `Store`.

    Raises:
        InvalidInput: The URL is not valid.
        StoreError: The library for this kind of store is not installed.
    """

    def __init__(self, url: str, *, waiting: Callable[[bool], None] = lambda _: None) -> None:
        self.store = Store(url, waiting=waiting)
        self.url = self.store.url

    @property
    def config_url(self) -> str:
        """The URL of models.config."""
        return f"{self.url}/{CONFIG}"

    def config(self) -> str | None:
        """The text of models.config; None if there is none.

        Raises:
            StoreError: It cannot be read.
        """
        content = self.store.read(CONFIG)
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError as error:
            raise StoreError(f"{self.url}/{CONFIG} is not UTF-8") from error

    def numbers(self, model: str) -> list[int]:
        """The versions of a model, complete or not, lowest first.

        Raises:
            StoreError: They cannot be listed.
        """
        found = (version_of(name) for name in self.store.names(model))
        return sorted({version for version in found if version is not None and version > 0})

    def manifest(self, model: str, version: int) -> dict[str, Any] | None:
        """A version's manifest; None if there is none, so that the version is incomplete.

        Raises:
            StoreError: It cannot be read.
            CandidateError: It is not a valid manifest.
        """
        content = self.store.read(f"{model}/{version}/{MANIFEST.as_posix()}")
        if content is None:
            return None
        where = f"{self.url}/{model}/{version}"
        try:
            manifest = parse_json(content)
            files = dict(manifest["sha256"])
            name = manifest["name"]
        except (ValueError, KeyError, TypeError) as error:
            raise CandidateError(f"{where} has no readable manifest: {error}") from error
        for file in files:
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in file:
                raise CandidateError(f"{where} has a manifest that names {file!r}")
        if name != model:
            raise CandidateError(f"{where} is a version of {name}, and not of {model}")
        return dict(manifest)

    def fetch(self, model: str, version: int, folder: Path) -> None:
        """Download a version's files into a folder, unverified.

        Raises:
            StoreError: They are not there, or cannot be read.
            CandidateError: The manifest is not valid.
            OSError: They cannot be written.
        """
        manifest = self.manifest(model, version)
        if manifest is None:
            raise self._lacking(model, version)
        for name in (*sorted(manifest["sha256"]), MANIFEST.as_posix()):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                for chunk in self.store.chunks(f"{model}/{version}/{name}"):
                    file.write(chunk)

    def push(self, candidate: Path, *, about: Mapping[str, Any] | None = None) -> int:
        """Publish a candidate as the next version; see `publish`.

        Args:
            candidate: A folder that `export` wrote, or a version of a repository.
            about: Facts for the history in addition to user and time.
        """
        return self.publish(Candidate(candidate), about=about)

    def publish(self, candidate: Candidate, *, about: Mapping[str, Any] | None = None) -> int:
        """Upload a candidate as the next version; its manifest last.

        Args:
            candidate: The candidate; its files are verified once more right before the upload,
                against the manifest that it has read.
            about: Facts for the history in addition to user and time.

        Returns:
            The version. Servers load it when models.config names it; see `label`.

        Raises:
            CandidateError: It is incomplete, or not as it was exported.
            StoreError: The repository cannot be reached or written; it holds what it held.
        """
        candidate.verify_again()
        model = str(candidate.manifest["name"])
        version, claim = self._claim(model, about or {})
        for name in sorted(candidate.manifest["sha256"]):
            self.store.put(candidate.folder / name, f"{model}/{version}/{name}")
        # Where the store cannot create a file in one step, two can have claimed one number.
        if self.store.read(f"{model}/{_CLAIMS}/{version}") != claim:
            raise StoreError(
                f"another push took version {version} of {model} at the same moment",
                hint="push again; this version stays without a manifest, and no server loads it",
            )
        self.store.write(f"{model}/{version}/{MANIFEST.as_posix()}", candidate.manifest_bytes)
        return version

    def check_writable(self) -> None:
        """Make sure that the repository can be written to; nothing is left in it.

        Raises:
            StoreError: It cannot be reached or written.
        """
        name = f".check-{uuid.uuid4().hex}"
        self.store.write(name, b"")
        self.store.remove(name)

    def labels(self, model: str) -> dict[str, int]:
        """The version of each label of a model.

        Raises:
            StoreError: models.config cannot be read.
            ModelsConfigError: It is not valid.
        """
        with self._config_copy() as config:
            return config.labels(model)

    def deployed(self, model: str) -> tuple[dict[str, int], set[int]]:
        """The version of each label of a model, and the versions that servers load.

        Raises:
            StoreError: models.config cannot be read.
            ModelsConfigError: It is not valid.
        """
        with self._config_copy() as config:
            # What a policy that names no versions chooses from.
            for version in self.numbers(model):
                (config.root / model / str(version)).mkdir(parents=True)
            return config.labels(model), config.listed(model, config.root / model)

    def claims(self, model: str) -> dict[int, Event]:
        """The push of each version; none of those whose record cannot be parsed.

        Raises:
            StoreError: They cannot be read.
        """
        found = {}
        for name in self.store.names(f"{model}/{_CLAIMS}"):
            version = version_of(name)
            if version is not None and (claim := self._claim_of(model, version)) is not None:
                found[version] = claim
        return found

    def note(self, model: str, happened: Event) -> None:
        """Add an event to the history of a model.

        Raises:
            StoreError: It cannot be written.
        """
        when = datetime.fromisoformat(happened["when"]).strftime("%Y%m%dT%H%M%S.%f")
        content = json.dumps(happened, ensure_ascii=False, indent=1).encode()
        self.store.write(f"{model}/{_HISTORY}/{when}-{uuid.uuid4().hex}", content)

    def history(self, model: str) -> list[Event]:
        """The events of a model, oldest first: the pushes, and each move of a label.

        Raises:
            StoreError: They cannot be read.
        """
        events = [{"version": version, **claim} for version, claim in self.claims(model).items()]
        for name in self.store.names(f"{model}/{_HISTORY}"):
            try:
                found = parse_json(self.store.read(f"{model}/{_HISTORY}/{name}") or b"")
            except ValueError:
                continue
            if isinstance(found, dict) and isinstance(found.get("what"), str):
                events.append(found)
        return sorted(events, key=lambda happened: str(happened.get("when", "")))

    def size(self, model: str, version: int) -> int:
        """Bytes of all files of a version.

        Raises:
            StoreError: They cannot be listed.
        """
        return sum(self.store.sizes(f"{model}/{version}").values())

    def delete(self, model: str, version: int) -> bool:
        """Delete a version for good, unless it is needed.

        It is if models.config lists or labels it, and without a manifest for a day after its push
        began, which may still be running. The manifest goes first, so that a version is never half
        there. Its number stays taken.

        Returns:
            Whether it was deleted.

        Raises:
            StoreError: The repository cannot be written.
            ModelsConfigError: models.config is not valid.
        """
        # Under the lock of models.config, so that it is not listed meanwhile.
        with self._turn():
            with self._config_copy() as config:
                for number in self.numbers(model):
                    (config.root / model / str(number)).mkdir(parents=True)
                if version in config.in_use(config.root / model):
                    return False
            if not self._has_manifest(model, version) and self._is_recent(model, version):
                return False
            self.store.remove(f"{model}/{version}/{MANIFEST.as_posix()}")
        self.store.remove_folder(f"{model}/{version}")
        return True

    def label(
        self, model: str, version: int, label: str, *, keep_canary: bool = False
    ) -> dict[str, int]:
        """Add a version to models.config, and point a label to it.

        The previous versions of `stable` and `canary` stay loaded: that of `stable` for a rollback.

        Args:
            model: The model's name.
            version: The version.
            label: The label.
            keep_canary: Whether `canary` may stand for the version that becomes `stable`: gateways
                may still send requests to that label.

        Returns:
            The version of each label of the model afterwards.

        Raises:
            StoreError: The version is incomplete there, or models.config cannot be written.
            ModelsConfigError: models.config is not valid.
        """
        self._check_complete(model, version)
        with self._changing(CONFIG) as root:
            config = ModelsConfig(root)
            with config.change(model, root / model) as entry:
                _label(entry, version, label, keep_canary=keep_canary)
            return config.labels(model)

    def unlabel(self, model: str, label: str) -> None:
        """Remove a label; its version stays loaded.

        Raises:
            StoreError: models.config cannot be written.
            ModelsConfigError: models.config is not valid.
        """
        with self._changing_entry(model, model) as entry:
            entry.version_labels.pop(label)

    def load(self, model: str, version: int, *, folder: str) -> bool:
        """Add a version to models.config, without a label.

        Args:
            model: The model's name at the servers.
            version: The version.
            folder: The name of the folder with its versions.

        Returns:
            Whether it was not there before.

        Raises:
            StoreError: The version is incomplete there, or models.config cannot be written.
            ModelsConfigError: models.config is not valid.
        """
        self._check_complete(folder, version)
        with self._changing_entry(model, folder) as entry:
            before = {*entry.model_version_policy.specific.versions}
            set_versions(entry, {*before, version})
        return version not in before

    def unload(self, model: str, version: int) -> None:
        """Remove a version and its labels from models.config.

        Raises:
            StoreError: models.config cannot be written.
            ModelsConfigError: models.config is not valid.
        """
        with self._changing_entry(model, model) as entry:
            for label in [k for k, v in entry.version_labels.items() if v == version]:
                del entry.version_labels[label]
            set_versions(entry, {*entry.model_version_policy.specific.versions} - {version})

    def withdraw(self, model: str) -> None:
        """Remove a model from models.config.

        Raises:
            StoreError: models.config cannot be written.
            ModelsConfigError: models.config is not valid.
        """
        with self._changing(CONFIG) as root:
            ModelsConfig(root).remove(model)

    @contextmanager
    def gateway_files(self) -> Iterator[Path]:
        """A folder with a copy of models.traffic and models.shadow, which may be changed.

        `servable sync` brings them to the gateways.

        Raises:
            StoreError: They cannot be read or written.
        """
        with self._changing(*GATEWAY_FILES) as root:
            yield root

    def reset_shares(self, model: str) -> None:
        """Make gateways send requests without a label to `stable`, if any share was ever set.

        Raises:
            StoreError: The shares cannot be read or written.
            TrafficError: They are not valid.
        """
        if self.store.read(TRAFFIC):
            with self.gateway_files() as root:
                others = [name for name in ModelsConfig(root).labels(model) if name != STABLE]
                write_traffic(root, {model: dict.fromkeys(others, 0.0)})

    @contextmanager
    def _changing(self, *names: str) -> Iterator[Path]:
        """A folder with a copy of models.config and other files; those named are written back."""
        with self._turn(), tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            before = {name: self.store.read(name) for name in {CONFIG, *names}}
            for name, content in before.items():
                if content is not None:
                    (root / name).write_bytes(content)
            yield root
            for name in names:
                path = root / name
                # One that is gone is emptied, so that those who follow notice it.
                new = path.read_bytes() if path.exists() else b""
                if new != (before[name] or b""):
                    self.store.write(name, new)

    @contextmanager
    def _changing_entry(self, model: str, folder: str) -> Iterator[wire.ModelConfig]:
        with (
            self._changing(CONFIG) as root,
            ModelsConfig(root).change(model, root / folder) as entry,
        ):
            yield entry

    def _check_complete(self, model: str, version: int) -> None:
        check_name(model)
        if self.manifest(model, version) is None:
            raise self._lacking(model, version)

    def _claim_of(self, model: str, version: int) -> Event | None:
        """The record of a push; None if there is none that can be parsed."""
        try:
            claim = parse_json(self.store.read(f"{model}/{_CLAIMS}/{version}") or b"")
        except ValueError:
            return None
        return claim if isinstance(claim, dict) else None

    def _has_manifest(self, model: str, version: int) -> bool:
        return self.store.read(f"{model}/{version}/{MANIFEST.as_posix()}") is not None

    def _is_recent(self, model: str, version: int) -> bool:
        """Whether the push of a version began less than a day ago, or nobody knows when."""
        try:
            began = datetime.fromisoformat((self._claim_of(model, version) or {})["when"])
            return datetime.now(UTC) - began < _PUSH_TAKES
        except (KeyError, TypeError, ValueError):
            return True

    def _lacking(self, model: str, version: int) -> StoreError:
        there = self.numbers(model)
        return MissingFile(
            f"version {version} of {model} at {self.url} is incomplete: it has no manifest"
            if version in there
            else f"{self.url} has no version {version} of {model}",
            hint=f"there are: {', '.join(map(str, there)) or 'none'}",
        )

    def _claim(self, model: str, about: Mapping[str, Any]) -> tuple[int, bytes]:
        """Claim the next number that was never used."""
        happened = history.event("publish", id=uuid.uuid4().hex, **about)
        claim = json.dumps(happened, ensure_ascii=False, indent=1).encode()
        claimed = (version_of(name) for name in self.store.names(f"{model}/{_CLAIMS}"))
        version = max([0, *self.numbers(model), *(v for v in claimed if v is not None)])
        while True:
            version += 1
            if self.store.create(f"{model}/{_CLAIMS}/{version}", claim):
                return version, claim

    @contextmanager
    def _config_copy(self) -> Iterator[ModelsConfig]:
        with tempfile.TemporaryDirectory() as folder:
            config = ModelsConfig(Path(folder))
            if (text := self.config()) is not None:
                config.path.write_text(text)
            yield config

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lock of models.config, briefly, for a change."""
        mine = json.dumps({**history.event("turn"), "id": uuid.uuid4().hex}).encode()
        seen: bytes | None = None
        since = time.monotonic()
        while not self.store.create(_TURN, mine):
            other = self.store.read(_TURN)
            if other != seen:
                seen, since = other, time.monotonic()
            elif time.monotonic() - since > _TURN_SECONDS:
                self.store.remove(_TURN)
            else:
                time.sleep(_LOOK_SECONDS)
        try:
            yield
        finally:
            if self.store.read(_TURN) == mine:
                self.store.remove(_TURN)


def _label(entry: wire.ModelConfig, version: int, label: str, *, keep_canary: bool) -> None:
    labels = entry.version_labels
    stays = {version, *labels.values()}
    labels[label] = version
    if label == STABLE and labels.get(CANARY) == version and not keep_canary:
        del labels[CANARY]
    set_versions(entry, stays)
