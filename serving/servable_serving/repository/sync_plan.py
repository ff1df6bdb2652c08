"""What a sync changes: the configurations between two states."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from servable_client import InvalidInput, ServableError
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.model_config import config_of
from servable_serving.core.names import CONTAINER_ROOT
from servable_serving.repository.manifest import CandidateError, check_name
from servable_serving.repository.models_config import NAME as CONFIG
from servable_serving.repository.models_config import set_versions

if TYPE_CHECKING:
    from pathlib import Path

_MODELS = PurePosixPath(CONTAINER_ROOT)


class SyncError(ServableError):
    """What a URL holds is not what a repository can be brought to."""


def checked_config(text: str, url: str) -> wire.ModelServerConfig:
    """A models.config that servers can apply here.

    Raises:
        SyncError: It is none, or names places outside of the repository.
    """
    try:
        config = config_of(text)
    except InvalidInput as error:
        raise SyncError(f"{CONFIG} at {url}: {error}") from error
    models = config.model_config_list.config
    if not models:
        # An empty file too: half of an upload must not end what is served.
        raise SyncError(f"{CONFIG} at {url} names no model")
    for entry in models:
        try:
            check_name(entry.name)
        except CandidateError as error:
            raise SyncError(f"{CONFIG} at {url}: {error}") from error
        if PurePosixPath(entry.base_path) != _MODELS / entry.name:
            raise SyncError(
                f"{CONFIG} at {url} has {entry.base_path} for {entry.name}",
                hint=f"servers find it at {_MODELS / entry.name}",
            )
        for version in (*entry.version_labels.values(), *_specific(entry)):
            if version < 1:
                raise SyncError(f"{CONFIG} at {url} names version {version} of {entry.name}")
    return config


def config_between(
    path: Path, new: wire.ModelServerConfig, *, asked: bool
) -> tuple[wire.ModelServerConfig, set[tuple[str, int]], bool]:
    """A models.config between the one here and a new one.

    It lists the versions of both, with the labels still where they are that move to versions which
    may not be loaded yet.

    Args:
        path: The one here.
        new: The new one.
        asked: Whether the server will be asked for each; else those that are listed here are
            taken to be loaded.

    Returns:
        It, the versions that it has loaded, and whether a label in use moves at all.
    """
    moved = False
    between = wire.ModelServerConfig()
    between.CopyFrom(new)
    moving: set[tuple[str, int]] = set()
    try:
        old = {m.name: m for m in config_of(path).model_config_list.config}
    except InvalidInput:  # there is none, or none that a server could have taken
        return between, moving, moved
    for entry in between.model_config_list.config:
        was = old.get(entry.name)
        if was is None or follows(was) or follows(entry):
            continue
        listed = {*_specific(was)}
        for label, version in was.version_labels.items():
            to = entry.version_labels.get(label, version)
            moved = moved or to != version
            if to != version and (asked or to not in listed):
                moving.add((entry.name, to))
                entry.version_labels[label] = version
        set_versions(entry, {*_specific(entry), *listed})
    return between, moving, moved


def _specific(entry: wire.ModelConfig) -> list[int]:
    return list(entry.model_version_policy.specific.versions)


def follows(entry: wire.ModelConfig) -> bool:
    """Whether new versions are served without a new models.config."""
    return bool(entry.model_version_policy.WhichOneof("policy_choice") != "specific")


def described(config: wire.ModelServerConfig) -> str:
    """What models.config says, in a line."""
    return "; ".join(
        " ".join([
            entry.name,
            *(f"{label} {version}" for label, version in sorted(entry.version_labels.items())),
        ])
        for entry in config.model_config_list.config
    )  # fmt: skip
