"""models.config: which versions servers load, and what the labels stand for.

A ModelServerConfig in text that servers poll. It is read with the client's messages, which know
every field of TensorFlow Serving's, and bring no TensorFlow: a rollback is not to wait for it.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from google.protobuf import text_format

from servable_client import InvalidInput, ServableError
from servable_client._wire.model_config import config_of
from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write, sync_folder
from servable_serving.core.locks import locked
from servable_serving.core.names import CONTAINER_ROOT
from servable_serving.repository.layout import version_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from servable_client._wire import wire_pb2 as wire


NAME = "models.config"
_LOCK = f".{NAME}.lock"
_PLATFORM = "tensorflow"
_HEAD = """\
# What the servers load and what their labels stand for; `servable push`, `promote`, `rollback` and
# `prune` write it. Comments at the top are kept, others are not.
"""


class ModelsConfigError(ServableError):
    """models.config cannot be read or is no ModelServerConfig, or asks for what is not there."""


class ModelsConfig:
    """The file beside the models' folders; it need not be there yet.

    Args:
        root: The folder that holds it and the models' folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / NAME

    def text(self) -> str:
        """What is in it.

        Raises:
            ModelsConfigError: It cannot be read.
        """
        try:
            return self.path.read_text()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ModelsConfigError(f"cannot read {self.path}: {reason}") from error

    def labels(self, model: str) -> dict[str, int]:
        """What each label of a model stands for.

        Raises:
            ModelsConfigError: It cannot be read, or makes no sense.
        """
        entry = _entry(self._read(), model)
        return {} if entry is None else dict(sorted(entry.version_labels.items()))

    def all_labels(self) -> dict[str, dict[str, int]]:
        """What each label of each model stands for."""
        models = self._read().model_config_list.config
        return {model.name: dict(sorted(model.version_labels.items())) for model in models}

    def listed(self, model: str, folder: Path) -> set[int]:
        """The versions of a model that servers load.

        Args:
            model: Its name.
            folder: Where its versions are, for a policy that names none.

        Raises:
            ModelsConfigError: It cannot be read, or makes no sense.
        """
        entry = _entry(self._read(), model)
        return set() if entry is None else _listed(entry, folder)

    @contextmanager
    def change(self, model: str, folder: Path) -> Iterator[wire.ModelConfig]:
        """A model's entry to be changed, written when the block ends well and it has changed.

        One at a time, and only for the moment that it takes: nobody waits for a server here. The
        policy is `specific` from then on, with the versions that were loaded until now.

        Args:
            model: Its name.
            folder: Where its versions are.

        Raises:
            ModelsConfigError: It cannot be read, or makes no sense; it stays as it is.
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

    def _read(self) -> wire.ModelServerConfig:
        text = self.text()
        hint = f"mend {self.path}, or take the last one that was whole; servers go on as they are"
        try:
            config = config_of(text)
        except InvalidInput as error:
            raise ModelsConfigError(
                f"cannot parse {self.path}: {error.reason}", hint=hint
            ) from None
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
        path = self.path.resolve()  # through a link: a rename would put a file in its place
        try:
            for left in path.parent.glob(f".{path.name}.[0-9]*"):
                left.unlink(missing_ok=True)  # of one that was killed: the lock is ours
            atomic_write(path, (head[0] if text and head else _HEAD) + body)
            sync_folder(path.parent)
        except OSError as error:
            raise FolderError(f"cannot write {self.path}: {error.strerror}") from error


def check_labels(config: ModelsConfig, model: str, folder: Path, *, moving: str = "") -> None:
    """Refuse a file whose labels name versions that are not there: servers refuse it whole.

    Args:
        config: The file.
        model: The model's name.
        folder: Where its versions are.
        moving: A label that is about to be moved, and so may name anything.

    Raises:
        ModelsConfigError: One does.
    """
    there = version_folders(folder) if folder.is_dir() else {}
    for label, version in config.labels(model).items():
        if label != moving and version not in there:
            raise ModelsConfigError(
                f"{config.path} labels version {version} of {model} {label}, and there is none",
                hint=f"`servable rollback` moves stable; else take {label} out of the file",
            )


def set_versions(entry: wire.ModelConfig, versions: set[int]) -> None:
    """Have servers load these versions."""
    # Assigned only where it differs, so that what stays the same is not written again.
    if sorted(entry.model_version_policy.specific.versions) != sorted(versions):
        entry.model_version_policy.specific.versions[:] = sorted(versions)


def _entry(config: wire.ModelServerConfig, model: str) -> wire.ModelConfig | None:
    return next((m for m in config.model_config_list.config if m.name == model), None)


def listed(entry: wire.ModelConfig, there: Callable[[], Iterable[int]]) -> set[int]:
    """The versions that a server loads by an entry's policy.

    Args:
        entry: A model's.
        there: Tells the versions that there are, where that counts.
    """
    policy = entry.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        return set(policy.specific.versions)
    found = sorted(there())
    return set(found if choice == "all" else found[-max(policy.latest.num_versions, 1) :])


def _listed(entry: wire.ModelConfig, folder: Path) -> set[int]:
    return listed(entry, lambda: version_folders(folder) if folder.is_dir() else ())
