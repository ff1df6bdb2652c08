"""Validation of a remote models.config, and the intermediate one that a sync writes first."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from servable_client import InvalidInput, ServableError
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.model_config import config_of
from servable_serving.core.names import CONTAINER_ROOT, shadow_name
from servable_serving.repository.manifest import CandidateError, check_name
from servable_serving.repository.models_config import NAME as CONFIG
from servable_serving.repository.models_config import set_versions

if TYPE_CHECKING:
    from pathlib import Path

_MODELS = PurePosixPath(CONTAINER_ROOT)


class SyncError(ServableError):
    """The content of a remote repository cannot be mirrored."""


def checked_config(text: str, url: str) -> wire.ModelServerConfig:
    """Parse a models.config that servers will apply.

    Raises:
        SyncError: It is not valid, or names places outside of the repository.
    """
    try:
        config = config_of(text)
    except InvalidInput as error:
        raise SyncError(f"{CONFIG} at {url}: {error}") from error
    models = config.model_config_list.config
    if not models:
        # An empty file too: half an upload must not unload every model.
        raise SyncError(f"{CONFIG} at {url} names no model")
    for entry in models:
        try:
            check_name(entry.name)
        except CandidateError as error:
            raise SyncError(f"{CONFIG} at {url}: {error}") from error
        if entry.name not in (folder_of(entry), shadow_name(folder_of(entry))) or (
            PurePosixPath(entry.base_path) != _MODELS / folder_of(entry)
        ):
            raise SyncError(
                f"{CONFIG} at {url} has {entry.base_path} for {entry.name}",
                hint=f"servers read it at {_MODELS / entry.name}",
            )
        for version in (*entry.version_labels.values(), *_specific(entry)):
            if version < 1:
                raise SyncError(f"{CONFIG} at {url} names version {version} of {entry.name}")
    return config


def config_between(
    path: Path, new: wire.ModelServerConfig, *, asked: bool
) -> tuple[wire.ModelServerConfig, set[tuple[str, int]], bool]:
    """The intermediate models.config between the current one and a new one.

    It lists the versions of both; labels that move to a version which may not be loaded yet stay.

    Args:
        path: The current one.
        new: The new one.
        asked: Whether the server will be asked for each version; otherwise versions that are
            listed already are assumed to be loaded.

    Returns:
        It, the versions to wait for as (model, version), and whether any label in use moves.
    """
    moved = False
    between = wire.ModelServerConfig()
    between.CopyFrom(new)
    moving: set[tuple[str, int]] = set()
    try:
        old = {m.name: m for m in config_of(path).model_config_list.config}
    except InvalidInput:  # missing, or no server could have applied it
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
    """Whether servers load new versions without a new models.config."""
    return bool(entry.model_version_policy.WhichOneof("policy_choice") != "specific")


def folder_of(entry: wire.ModelConfig) -> str:
    """The name of the folder with a model's versions; that of another one in the shadow."""
    return PurePosixPath(entry.base_path).name


def described(config: wire.ModelServerConfig) -> str:
    """Models and labels of a models.config, on one line."""
    return "; ".join(
        " ".join([
            entry.name,
            *(f"{label} {version}" for label, version in sorted(entry.version_labels.items())),
        ])
        for entry in config.model_config_list.config
    )  # fmt: skip
