"""models.config: which versions servers load, and the labels of versions.

A ModelServerConfig in text that servers poll. It is parsed with the client's messages, which have
every field of TensorFlow Serving's and need no TensorFlow: a rollback must not wait for its import.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self

from google.protobuf import text_format

from servable_client import ServableError
from servable_client._wire import wire_pb2 as wire
from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write, regular, remove_leftovers
from servable_serving.core.locks import locked
from servable_serving.core.names import CONTAINER_ROOT, TEMPLATE
from servable_serving.repository.layout import version_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


NAME = "models.config"
_LOCK = f".{NAME}.lock"
_PLATFORM = "tensorflow"
_HEAD = """\
# What the servers load and what their labels stand for; `servable push`, `promote`, `rollback` and
# `prune` write it. Comments at the top are kept, others are not.
"""


@dataclass(frozen=True, kw_only=True)
class VersionPolicy:
    """Which versions of a model servers load.

    https://www.tensorflow.org/tfx/serving/serving_config#serving_a_specific_version_of_a_model

    Args:
        latest: This many of the highest; None if another field selects them.
        specific: These alone.
        all: Every one.
    """

    latest: int | None = 1
    specific: frozenset[int] | None = None
    all: bool = False

    @classmethod
    def read(cls, policy: wire.FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> Self:
        """The policy of a model's entry; the default is the highest version alone."""
        choice = policy.WhichOneof("policy_choice")
        if choice == "all":
            return cls(latest=None, all=True)
        if choice == "specific":
            return cls(latest=None, specific=frozenset(policy.specific.versions))
        return cls(latest=max(policy.latest.num_versions, 1))

    def select(self, versions: Iterable[int]) -> set[int]:
        """The versions, of those that exist, that servers load."""
        if self.all:
            return set(versions)
        if self.specific is not None:
            return set(self.specific.intersection(versions))
        return set(sorted(versions)[-(self.latest or 1) :])


class ModelsConfigError(ServableError):
    """models.config cannot be read or is not valid, or names a version that is missing."""


class ModelsConfig:
    """The file beside the models' folders; it need not be there yet.

    Args:
        root: The folder that holds it and the models' folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / NAME

    def text(self) -> str:
        """The parsed content.

        Raises:
            ModelsConfigError: It cannot be read.
        """
        path = made_of(self.path)
        try:
            return regular(path).read_text()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ModelsConfigError(f"cannot read {path}: {reason}") from error

    def labels(self, model: str) -> dict[str, int]:
        """The version of each label of a model.

        Raises:
            ModelsConfigError: It cannot be read, or is not valid.
        """
        entry = _entry(self._read(), model)
        return {} if entry is None else dict(sorted(entry.version_labels.items()))

    def all_labels(self) -> dict[str, dict[str, int]]:
        """The version of each label of each model."""
        models = self._read().model_config_list.config
        return {model.name: dict(sorted(model.version_labels.items())) for model in models}

    def listed(self, model: str, folder: Path) -> set[int]:
        """The versions of a model that servers load.

        Args:
            model: Its name.
            folder: Where its versions are, for a policy that names none.

        Raises:
            ModelsConfigError: It cannot be read, or is not valid.
        """
        entry = _entry(self._read(), model)
        return set() if entry is None else _listed(entry, folder)

    def in_use(self, folder: Path) -> set[int]:
        """The versions in a folder that servers load or that have a label, as whatever model.

        Args:
            folder: The folder of a model's versions.

        Raises:
            ModelsConfigError: The file cannot be read, or is not valid.
        """
        found: set[int] = set()
        for entry in self._read().model_config_list.config:
            if PurePosixPath(entry.base_path).name == folder.name:
                found |= _listed(entry, folder) | set(entry.version_labels.values())
        return found

    @contextmanager
    def change(self, model: str, folder: Path) -> Iterator[wire.ModelConfig]:
        """A model's entry to be changed; written if the block succeeds and changes it.

        Holds a lock, but briefly: no server is contacted here. The policy is
        `specific` afterwards, with the versions that were loaded before.

        Args:
            model: Its name.
            folder: Where its versions are.

        Raises:
            ModelsConfigError: It cannot be read, or is not valid; it stays as it is.
            FolderError: It cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(f"cannot write to {self.root}: {error.strerror}") from error
        with locked(self.root / _LOCK):
            config = self._read()
            entry = _entry(config, model)
            if entry is None:
                entry = config.model_config_list.config.add(
                    name=model,
                    base_path=f"{CONTAINER_ROOT}/{folder.name}",
                    model_platform=_PLATFORM,
                )
            elif entry.model_version_policy.WhichOneof("policy_choice") != "specific":
                listed = _listed(entry, folder)
                entry.model_version_policy.specific.versions.extend(sorted(listed))
            before = config.SerializeToString(deterministic=True)
            yield entry
            if config.SerializeToString(deterministic=True) != before or not self.path.exists():
                self._write(config)

    def remove(self, model: str) -> None:
        """Remove a model's entry, if there is one.

        Raises:
            ModelsConfigError: The file cannot be read, or is not valid; it stays as it is.
            FolderError: It cannot be written.
        """
        with locked(self.root / _LOCK):
            config = self._read()
            entry = _entry(config, model)
            if entry is not None:
                config.model_config_list.config.remove(entry)
                self._write(config)

    @property
    def exists(self) -> bool:
        """Whether there is the file, or what it is made of."""
        return made_of(self.path).is_file()

    def _read(self) -> wire.ModelServerConfig:
        text = self.text()
        hint = (
            f"repair {self.path}, or restore the last valid one; servers keep their configuration"
        )
        try:
            config = text_format.Parse(text, wire.ModelServerConfig())
        except text_format.ParseError as error:
            raise ModelsConfigError(f"cannot parse {self.path}: {error}", hint=hint) from None
        if config.WhichOneof("config") != "model_config_list" and self.path.exists():
            raise ModelsConfigError(f"{self.path} has no model_config_list", hint=hint)
        names = [model.name for model in config.model_config_list.config]
        for name in names:
            if names.count(name) > 1:
                raise ModelsConfigError(f"{self.path} lists {name} twice", hint=hint)
        return config

    def _write(self, config: wire.ModelServerConfig) -> None:
        text = self.text()
        head = re.match(r"(?:[ \t]*(?:#.*)?\n)*", text)
        body = text_format.MessageToString(config)
        path = self.path.resolve()  # a rename would replace a link, not its target
        try:
            remove_leftovers(path)  # the lock is ours
            atomic_write(path, (head[0] if text and head else _HEAD) + body, durable=True)
        except OSError as error:
            raise FolderError(f"cannot write {self.path}: {error.strerror}") from error


def made_of(path: Path) -> Path:
    """The file, or the template that a models.config which does not exist yet is made of.

    A push, not the server, makes it: the server may have no right to write.
    """
    template = path.with_name(TEMPLATE)
    is_new = f"{path.name}.template" == TEMPLATE and not path.exists()
    return template if is_new and template.exists() else path


def check_labels(config: ModelsConfig, model: str, folder: Path, *, moving: str = "") -> None:
    """Refuse a file with a label of a missing version: servers would refuse all of it.

    Args:
        config: The file.
        model: The model's name.
        folder: Where its versions are.
        moving: A label that is about to be moved, and so may name any version.

    Raises:
        ModelsConfigError: One does.
    """
    there = version_folders(folder) if folder.is_dir() else {}
    for label, version in config.labels(model).items():
        if label != moving and version not in there:
            raise ModelsConfigError(
                f"{config.path} labels version {version} of {model} {label}, which does not exist",
                hint=f"`servable rollback` moves stable; else remove {label} from the file",
            )


def set_versions(entry: wire.ModelConfig, versions: set[int]) -> None:
    """Have servers load these versions."""
    # Assigned only if it differs: an unchanged file is not written again.
    if sorted(entry.model_version_policy.specific.versions) != sorted(versions):
        entry.model_version_policy.specific.versions[:] = sorted(versions)


def _entry(config: wire.ModelServerConfig, model: str) -> wire.ModelConfig | None:
    return next((m for m in config.model_config_list.config if m.name == model), None)


def listed(entry: wire.ModelConfig, there: Callable[[], Iterable[int]]) -> set[int]:
    """The versions that a server loads by an entry's policy.

    Args:
        entry: A model's.
        there: Returns the existing versions, for a policy that names none.
    """
    policy = VersionPolicy.read(entry.model_version_policy)
    return set(policy.specific) if policy.specific is not None else policy.select(there())


def _listed(entry: wire.ModelConfig, folder: Path) -> set[int]:
    return listed(entry, lambda: version_folders(folder) if folder.is_dir() else ())
