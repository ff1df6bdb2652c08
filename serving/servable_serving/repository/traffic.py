"""models.traffic: the share of requests without a label that the gateway sends to each label.

One line a label of models.config, `MODEL LABEL VERSION PERCENT`; `#` begins a comment. The gateway
reads it once a second. It is written whole, by a rename, after each change of a label.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable_client import ServableError
from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write, read_lines, remove_leftovers
from servable_serving.core.locks import locked
from servable_serving.core.names import STABLE
from servable_serving.repository.models_config import ModelsConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "models.traffic"
_LOCK = f".{NAME}.lock"
_HEAD = """\
# Where the gateway sends requests that name no version, in percent: MODEL LABEL VERSION PERCENT.
# Written by `servable` whenever a label moves; `servable canary` sets the shares.
"""
# A label that the gateway can put into a path unescaped.
_LABEL = re.compile(r"[A-Za-z0-9._-]+")
_WHOLE = 100.0
_UNTIL = re.compile(r"# ([A-Za-z0-9._-]+) until ([0-9]{1,12})")


class TrafficError(ServableError):
    """Shares are not valid, or models.traffic cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """One line of the file.

    Attributes:
        label: A label of the model.
        version: The version of the label.
        percent: How much of the requests that name no version goes to it, 0 to 100.
    """

    label: str
    version: int
    percent: float


def read_traffic(models_root: Path) -> dict[str, list[Route]]:
    """The routes of each model; empty without the file.

    Raises:
        TrafficError: It cannot be read, or a line is not valid.
    """
    path = models_root / NAME
    routes: dict[str, list[Route]] = {}
    for line in read_lines(path, TrafficError):
        try:
            model, label, version, percent = line.split(" ")
            route = Route(label=label, version=int(version), percent=float(percent))
        except ValueError:
            raise TrafficError(
                f"{path}: {line!r} is not a valid MODEL LABEL VERSION PERCENT",
                hint=f"remove {path}: the next change of a label writes it again",
            ) from None
        routes.setdefault(model, []).append(route)
    return routes


def read_deadlines(models_root: Path) -> dict[str, int]:
    """Until when the shares of a model hold, in seconds since 1970; see `write_traffic`."""
    try:
        text = (models_root / NAME).read_text()
    except (OSError, ValueError):
        return {}
    found = (_UNTIL.fullmatch(line) for line in text.splitlines())
    return {line[1]: int(line[2]) for line in found if line}


def write_traffic(
    models_root: Path,
    shares: Mapping[str, Mapping[str, float]],
    *,
    until: Mapping[str, float] | None = None,
) -> None:
    """Write where requests go that name no version; the labels are those of models.config.

    Labels that `shares` does not name keep theirs, new labels get 0, and `stable` has the rest, so
    that a removed label does not route requests to a version that no one chose.

    Args:
        models_root: The folder with models.config.
        shares: Percent by model and label, 0 to 100.
        until: Seconds since 1970, by model, after which the gateway sends all of it to the label
            with the largest share: a trial ends even if its process has died.

    Raises:
        TrafficError: A share is not a percentage, they add up to more than 100, or a label is not
            in models.config.
        ModelsConfigError: models.config cannot be read.
        FolderError: The file cannot be written.
    """
    with locked(models_root / _LOCK):
        labels = ModelsConfig(models_root).all_labels()
        try:
            before = read_traffic(models_root)
        except TrafficError:
            before = {}  # an invalid file is replaced
        _check(shares, labels)
        lines = [_HEAD]
        for model, versions in sorted(labels.items()):
            if not all(_LABEL.fullmatch(name) for name in (model, *versions)):
                continue  # the gateway does not rewrite these
            if model in (until or {}):
                lines.append(f"# {model} until {math.ceil((until or {})[model])}\n")
            kept = {route.label: route.percent for route in before.get(model, ())}
            percents = _percents(versions, shares.get(model, {}), kept)
            for label, version in sorted(versions.items()):
                lines.append(f"{model} {label} {version} {percents[label]:g}\n")
        try:
            remove_leftovers(models_root / NAME)  # the lock is ours
            atomic_write(models_root / NAME, "".join(lines), durable=True)
        except OSError as error:
            raise FolderError(f"cannot write {models_root / NAME}: {error.strerror}") from error


def _percents(
    versions: Mapping[str, int], asked: Mapping[str, float], kept: Mapping[str, float]
) -> dict[str, float]:
    percents = {label: asked.get(label, kept.get(label, 0.0)) for label in versions}
    if STABLE in versions and STABLE not in asked:
        rest = sum(percent for label, percent in percents.items() if label != STABLE)
        percents[STABLE] = max(_WHOLE - rest, 0.0)
    if sum(percents.values()) > _WHOLE:
        # The requested shares replace all previous ones.
        percents = {label: asked.get(label, 0.0) for label in versions}
        if STABLE in versions and STABLE not in asked:
            percents[STABLE] = _WHOLE - sum(percents.values())
    # nginx has a resolution of a hundredth of a percent.
    return {label: round(percent, 2) for label, percent in percents.items()}


def _check(
    shares: Mapping[str, Mapping[str, float]], labels: Mapping[str, Mapping[str, int]]
) -> None:
    for model, asked in shares.items():
        for label, percent in asked.items():
            if not 0 <= percent <= _WHOLE:
                raise TrafficError(
                    f"{percent} is not a valid share of {model}'s requests",
                    hint="give 0 to 100 percent",
                )
            if label not in labels.get(model, {}):
                raise TrafficError(
                    f"{model} has no label {label} in models.config",
                    hint="`servable versions` shows its labels",
                )
        if sum(asked.values()) > _WHOLE:
            raise TrafficError(f"the shares of {model} come to more than 100 percent")
