"""What is different between two versions: figures, settings, and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable_serving.repository.manifest import manifest_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from servable_serving.gates.holdout import Holdout

# What differs between any two versions, and is told by `servable versions`.
_APART = {"created", "git_revision", "golden", "history", "sha256", "signatures", "versions"}


@dataclass(frozen=True, kw_only=True)
class Answers:
    """How the answers to the held-out pictures differ.

    Attributes:
        pictures: How many there are.
        changed: How many are named otherwise.
        mended: How many the second names rightly and the first did not.
        broken: How many the first names rightly and the second does not.
    """

    pictures: int
    changed: int
    mended: int
    broken: int


def differences(one: Path, other: Path) -> dict[str, tuple[Any, Any]]:
    """What the manifests of two versions say differently, by the names of the figures.

    Example: `{"metrics.test.accuracy": (0.93, 0.94)}`; None stands for what one does not say.
    """
    first, second = _flat(manifest_of(one)), _flat(manifest_of(other))
    return {
        name: (first.get(name), second.get(name))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    }


def compare_answers(one: Path, other: Path, holdout: Holdout) -> Answers:
    """Ask two versions for the same pictures.

    Args:
        one: A version's folder.
        other: Another's.
        holdout: The pictures.

    Raises:
        Refused: The pictures are of another size, or of classes that one does not know.
        ModelError: One cannot be loaded or run.
    """
    from servable_serving.gates.accuracy import classes

    first, right = classes(one, holdout)
    second, right_too = classes(other, holdout)
    return Answers(
        pictures=len(first),
        changed=int((first != second).sum()),
        mended=int((~right & right_too).sum()),
        broken=int((right & ~right_too).sum()),
    )


def _flat(manifest: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested figures by dotted names; lists, as curves and classes are, are left out."""
    flat: dict[str, Any] = {}
    for name, value in manifest.items():
        if not before and name in _APART:
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{name}.")
        elif not isinstance(value, list):
            flat[before + name] = value
    return flat
