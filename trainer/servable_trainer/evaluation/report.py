"""An evaluation as one self-contained HTML file, and as JSON next to it."""

from __future__ import annotations

import base64
import io
import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from servable_client import ServableError
from servable_serving.core.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from servable_trainer.data.dataset import Dataset
    from servable_trainer.evaluation.examination import Examination

_SUFFIXES = (".html", ".htm")


class ReportError(ServableError):
    """A report cannot be written."""


def check_report(path: Path) -> None:
    """Check that a report can be written, before any work is done for it.

    Raises:
        ReportError: `path` is not an HTML file name, or its directory cannot be written.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ReportError(
            f"{path} is not an HTML file name", hint=f"name it {path.with_suffix('.html').name}"
        )
    check_writable(path, path.with_suffix(".json"))


def check_writable(*paths: Path) -> None:
    """Create the directory of files, and check that it can be written.

    Raises:
        ReportError: It cannot, or one of the files is a directory.
    """
    for path in paths:
        if path.is_dir():
            raise ReportError(f"cannot write {path}: it is a directory")
    folder = paths[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ReportError(f"cannot write to {folder}: {error.strerror}") from error


def write_report(path: Path, examination: Examination, dataset: Dataset) -> Path:
    """Write the HTML to `path`, and JSON of the same name next to it.

    Args:
        path: A name that ends in .html; an existing file is replaced.
        examination: The evaluation to show.
        dataset: The dataset that was evaluated on; its worst mistakes are shown.

    Returns:
        The JSON file.

    Raises:
        ReportError: They cannot be written.
    """
    beside = path.with_suffix(".json")
    check_report(path)
    page = render(examination, dataset)
    write_file(beside, json.dumps(examination.as_dict(), indent=1, ensure_ascii=False) + "\n")
    write_file(path, page)
    return beside


def write_file(path: Path, text: str) -> None:
    """Write a file atomically.

    Raises:
        ReportError: It cannot be written.
    """
    try:
        atomic_write(path, text)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}") from error


def render(examination: Examination, dataset: Dataset) -> str:
    """The page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from servable_trainer.evaluation.plots import reliability_plot, robustness_plot

    environment = Environment(
        # Labels and names are user input.
        autoescape=True,
        loader=PackageLoader("servable_trainer.evaluation", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    images = dataset.test.images
    return environment.get_template("report.html").render(
        found=examination,
        labels=dataset.labels,
        rows=[_shaded(row) for row in examination.confusion],
        images={m.index: image_uri(images[m.index]) for m in examination.mistakes},
        size=images.shape[1:3],
        reliability=svg_uri(reliability_plot(examination.calibration.bins)),
        robustness=svg_uri(robustness_plot(examination.robustness))
        if examination.robustness
        else None,
        created=datetime.now(UTC),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        servable=version("servable"),
    )


def _percent(share: float, digits: int = 2) -> str:
    # Never 100 % or 0 % by rounding only; with a no-break space.
    text = f"{share * 100:.{digits}f}\u00a0%"
    least = f"{10**-digits:.{digits}f}\u00a0%"
    if 0 < share < 1 and text == f"{0:.{digits}f}\u00a0%":
        return f"< {least}".replace(" ", "\u00a0")
    if share < 1 and text == f"{100:.{digits}f}\u00a0%":
        return f">\u00a0{100 - 10**-digits:.{digits}f}\u00a0%"
    return text


def _shaded(row: list[int]) -> list[tuple[int, float]]:
    """Each count with the depth of its colour: the root of its share, so that few show too."""
    total = max(sum(row), 1)
    return [(count, round(0.75 * (count / total) ** 0.5, 2)) for count in row]


def svg_uri(svg: str) -> str:
    """An SVG as the source of an <img>."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def image_uri(image: NDArray[np.uint8]) -> str:
    """An image, uint8 [height, width] or [height, width, 3], likewise."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
