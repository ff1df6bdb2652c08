"""The differences between two versions: figures, settings, and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable_serving.repository.manifest import manifest_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from servable_serving.gates.holdout import Holdout

# These differ between any two versions; `servable versions` shows them.
_APART = {"created", "git_revision", "golden", "history", "sha256", "signatures", "versions"}


@dataclass(frozen=True, kw_only=True)
class Answers:
    """How the answers to the held-out images differ.

    Attributes:
        pictures: The number of images.
        changed: How many are classified differently.
        mended: How many only the second classifies correctly.
        broken: How many only the first classifies correctly.
    """

    pictures: int
    changed: int
    mended: int
    broken: int


def differences(one: Path, other: Path) -> dict[str, tuple[Any, Any]]:
    """The values that differ between the manifests of two versions, by name.

    Example: `{"metrics.test.accuracy": (0.93, 0.94)}`; None where one has no such value.
    """
    first, second = _flat(manifest_of(one)), _flat(manifest_of(other))
    return {
        name: (first.get(name), second.get(name))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    }


def compare_answers(one: Path, other: Path, holdout: Holdout) -> Answers:
    """Classify the same images with two versions.

    Args:
        one: A version's folder.
        other: Another's.
        holdout: The images.

    Raises:
        Refused: The images have another size, or classes that one does not know.
        ModelError: One cannot be loaded or run.
    """
    from servable_serving.gates.accuracy import classes
    from servable_serving.gates.inspected_version import InspectedVersion

    with InspectedVersion(one) as version:
        first, right = classes(version, holdout)
    with InspectedVersion(other) as version:
        second, right_too = classes(version, holdout)
    return Answers(
        pictures=len(first),
        changed=int((first != second).sum()),
        mended=int((~right & right_too).sum()),
        broken=int((right & ~right_too).sum()),
    )


def _flat(manifest: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested values by dotted names; lists, as curves and classes are, are left out."""
    flat: dict[str, Any] = {}
    for name, value in manifest.items():
        if not before and name in _APART:
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{name}.")
        elif not isinstance(value, list):
            flat[before + name] = value
    return flat
