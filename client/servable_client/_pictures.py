"""Pictures in the forms that people have them, made ready to send."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from servable_client._errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

Picture: TypeAlias = "str | Path | bytes | IO[bytes] | Image.Image | NDArray[np.uint8]"

# What TensorFlow's decoders read; any other format that Pillow knows is sent as PNG.
_FORMATS = frozenset({"PNG", "JPEG", "GIF", "BMP", "WEBP"})

# The limits of the model contract, checked here so that nothing is sent in vain.
MAX_SIDE = 4096
MAX_BYTES = 10 << 20

# What a picture is shrunk to, longest side in pixels, when it takes more bytes as PNG; the last
# of them always fits.
_SHRINK_TO = (2048, 1024, 512)


def as_request(picture: Picture) -> tuple[str, dict[str, NDArray[Any]]]:
    """The signature that takes a picture, and its inputs.

    An array goes to `serving_default` as it is; all else goes to `serving_bytes` encoded, where
    the model decodes, shrinks and inverts it.

    Raises:
        InvalidInput: It is no picture, too large, or an array of another dtype or rank.
    """
    if isinstance(picture, np.ndarray):
        return "serving_default", {"image": _checked(picture)[np.newaxis]}
    return "serving_bytes", {"image_bytes": np.array([_encoded(picture)], object)}


def _checked(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise InvalidInput(
            f"an array of dtype {array.dtype} is no picture",
            hint="pixels are uint8, 0 to 255; a float picture in 0 to 1 takes "
            "`(255 * array).round().astype('uint8')`",
        )
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2:
        raise InvalidInput(
            f"an array of shape {list(array.shape)} is no grey picture",
            hint="give [height, width] or [height, width, 1], one picture at a time",
        )
    return array


def _encoded(picture: str | Path | bytes | IO[bytes] | Image.Image) -> bytes:
    if isinstance(picture, Image.Image):
        return _as_png(picture, "this picture")
    name, data = _read(picture)
    if len(data) > MAX_BYTES:
        raise InvalidInput(
            f"{name} has more than {MAX_BYTES >> 20} MiB",
            hint="shrink it first; the model sees a small copy anyway",
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns of a size that is refused below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
        with image:
            _check_size(image, name)
            # TensorFlow reads no BMP of one bit a pixel.
            if image.format not in _FORMATS or (image.format == "BMP" and image.mode == "1"):
                return _as_png(image, name)
            # To the last row: half a picture is found here and not by the server.
            image.load()
    except UnidentifiedImageError:
        raise InvalidInput(
            f"{name} is no picture", hint="give a PNG, JPEG, GIF, BMP or WebP file"
        ) from None
    except Image.DecompressionBombError:
        raise InvalidInput(
            f"{name} is larger than {MAX_SIDE} x {MAX_SIDE} pixels", hint="shrink it first"
        ) from None
    except InvalidInput:
        raise
    except Exception as error:
        # Pillow's decoders fail in as many ways as files are damaged.
        raise InvalidInput(f"{name} is damaged: {error}") from error
    return data


def _read(picture: str | Path | bytes | IO[bytes]) -> tuple[str, bytes]:
    if isinstance(picture, bytes):
        return "this picture", picture
    if isinstance(picture, str | Path):
        try:
            with Path(picture).open("rb") as file:
                return str(picture), file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidInput(f"cannot read {picture}: {reason}") from error
    if hasattr(picture, "read"):
        name = str(getattr(picture, "name", "this picture"))
        try:
            return name, picture.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot read {name}: {error}") from error
    raise InvalidInput(
        f"a {type(picture).__name__} is no picture",
        hint="give a path, bytes, a file, a Pillow image or a uint8 array",
    )


def _check_size(image: Image.Image, name: str) -> None:
    if max(image.size) > MAX_SIDE:
        raise InvalidInput(
            f"{name} has {image.width} x {image.height} pixels, more than {MAX_SIDE} x {MAX_SIDE}",
            hint="shrink it first; the model sees a small copy anyway",
        )


def _as_png(image: Image.Image, name: str) -> bytes:
    _check_size(image, name)
    if image.mode in ("I;16", "I", "F"):
        raise InvalidInput(
            f"{name} has pixels of mode {image.mode}, which are not 0 to 255",
            hint='convert it first: `image.convert("L")` after scaling to 0 to 255',
        )
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    for side in _SHRINK_TO:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        if buffer.tell() <= MAX_BYTES:
            break
        # The model sees a small copy anyway.
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.BOX)
    return buffer.getvalue()
