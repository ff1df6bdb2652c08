"""The gate of the size: what a version takes on the disk, and about what it takes to bring it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable_serving.gates.verdict import Refused, Verdict

if TYPE_CHECKING:
    from pathlib import Path

_NEVER_TOO_MUCH = 1 << 20


def compare_size(candidate: Path, served: Path | None, ratio: float) -> Verdict:
    """Hold a candidate's size against the served version's.

    Raises:
        Refused: It is more than `ratio` times as large, and a mebibyte larger.
    """
    size = folder_size(candidate)
    figures: dict[str, object] = {"bytes": size}
    if served is None:
        return Verdict(said=f"{_mb(size)}; nothing is served to hold it against", figures=figures)
    before = folder_size(served)
    figures |= {"served_bytes": before, "ratio": round(size / before, 3), "tolerance": ratio}
    said = f"{_mb(size)}, {size / before:.2f} times the served version's {_mb(before)}"
    if size > max(before * ratio, before + _NEVER_TOO_MUCH):
        raise Refused(
            f"{said}, and at most {ratio:g} times is tolerated",
            hint="skip the gate 'size' with a reason, or raise its tolerance",
            figures=figures,
        )
    return Verdict(said=said, figures=figures)


def folder_size(folder: Path) -> int:
    """Bytes in all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
