"""Arrays in NumPy's files."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read_arrays(path: Path, *, unnamed: bool = False) -> dict[str, NDArray[Any]]:
    """Read an .npz file.

    Args:
        path: The file.
        unnamed: Whether it may be an .npy file too, whose array gets the name "".

    Raises:
        OSError: It cannot be read.
        ValueError: It is not such a file, or has pickled objects.
    """
    import numpy as np

    try:
        # NumPy leaves a file that it opened itself open if it is not valid.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                return {name: loaded[name] for name in loaded.files}
            if unnamed:
                return {"": loaded}
    except (EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a valid .npz file") from error
    raise ValueError(f"{path} holds an array without a name")
