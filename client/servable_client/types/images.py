"""Images in all supported forms, prepared for sending."""

from __future__ import annotations

import io
import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from servable_client._errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from servable_client.types.answers import Signature, TensorSpec
    from servable_client.types.operations import Description

Picture: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[np.uint8]"
"""A path, the bytes of a file, an open file, a Pillow image, or an array of uint8."""

# A prepared image: pixels for `serving_default`, or a file for `serving_bytes`.
Prepared: TypeAlias = "NDArray[np.uint8] | bytes"

PIXELS, ENCODED = "serving_default", "serving_bytes"

# The formats that TensorFlow decodes. Any other format that Pillow supports is sent as PNG, and so
# is BMP, of which TensorFlow decodes some variants only.
_FORMATS = frozenset({"PNG", "JPEG", "GIF", "WEBP"})

# Chunks that may hold an orientation; Pillow decodes a PNG whole to find them behind the pixels.
_PNG_NOTES = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")

# The limits of the model contract; larger images are resized here, as the model would.
MAX_SIDE = 4096
MAX_BYTES = 10 << 20
# The maximum size of a file that is read at all.
MAX_READ = 64 << 20

# The longest side in pixels to which an image is reduced, step by step, while its PNG is too
# large.
_SHRINK_TO = (2048, 1024, 512)

_GREY16 = 65535
_UINT8 = np.dtype(np.uint8)


def prepare(source: Picture) -> Prepared:
    """Prepare an image for sending: an array stays as it is, all else becomes an encoded file.

    Raises:
        InvalidInput: It is not a valid image, too large, or an array of another dtype or rank.
    """
    if isinstance(source, np.ndarray):
        return checked(source)
    return _encoded(source)


def fit(prepared: Prepared, description: Description, model: str) -> tuple[str, str, Any]:
    """The signature that accepts an image, the name of its input, and the image for it.

    Raises:
        InvalidInput: The model does not accept such an image.
    """
    if isinstance(prepared, bytes):
        name, _ = _input_of(description, ENCODED, "DT_STRING", "image files", model)
        return ENCODED, name, prepared
    name, form = _pixels(description, prepared.shape, model)
    return PIXELS, name, prepared if prepared.shape == form else prepared.reshape(form)


@lru_cache(maxsize=256)
def _pixels(
    description: Description, shape: tuple[int, ...], model: str
) -> tuple[str, tuple[int, ...]]:
    """The name of the input that accepts arrays of pixels, and the shape it expects."""
    name, spec = _input_of(description, PIXELS, "DT_UINT8", "arrays of pixels", model)
    wanted = spec.shape[1:] if spec.shape else (-1, -1)
    for form in _forms(shape):
        if len(form) == len(wanted) and all(
            size in (-1, given) for size, given in zip(wanted, form, strict=True)
        ):
            return name, form
    raise InvalidInput(
        f"{model} takes images of shape {_shape(wanted)}, got an array of shape {list(shape)}",
        hint="pass a path, bytes or a Pillow image, which the model resizes itself",
        model=model,
    )


def _input_of(
    description: Description, signature: str, dtype: str, what: str, model: str
) -> tuple[str, TensorSpec]:
    found: Signature | None = description.signatures.get(signature)
    if found is None or len(found.inputs) != 1:
        raise InvalidInput(
            f"{model} does not accept {what}: it has no signature {signature} with one input",
            hint="use `predict` for models of any other kind",
            model=model,
        )
    name, spec = next(iter(found.inputs.items()))
    if spec.dtype != dtype:
        raise InvalidInput(
            f"{model} does not accept {what}: its input {name} is {spec.dtype}, not {dtype}",
            hint="use `predict` for models of any other kind",
            model=model,
        )
    return name, spec


def _shape(sizes: tuple[int, ...]) -> str:
    return "[" + ", ".join("any" if size == -1 else str(size) for size in sizes) + "]"


def checked(array: NDArray[Any]) -> NDArray[np.uint8]:
    """An array that is a valid image.

    Raises:
        InvalidInput: Its dtype or rank is not that of an image.
    """
    if array.dtype is not _UINT8 and array.dtype != _UINT8:
        raise InvalidInput(
            f"an array of dtype {array.dtype} is not a valid image",
            hint="pixels are uint8, 0 to 255; convert a float image in 0 to 1 by "
            "`(255 * array).round().astype('uint8')`",
        )
    if not _is_image(array.shape):
        raise InvalidInput(
            f"an array of shape {list(array.shape)} is not a valid image",
            hint="pass [height, width] or [height, width, channels]; use `classify_many` "
            "for an array of several images",
        )
    return array


@lru_cache(maxsize=256)
def _is_image(shape: tuple[int, ...]) -> bool:
    return any(len(form) == 2 or form[-1] in (3, 4) for form in _forms(shape))


def _forms(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The shape of an array, and of the same image with an axis of size one added or removed."""
    if len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) in (2, 3):
        yield shape
    if len(shape) == 2:
        yield (*shape, 1)
    elif len(shape) == 3:
        if shape[-1] == 1:
            yield shape[:-1]
        if shape[0] == 1:
            yield shape[1:]
            yield (*shape[1:], 1)


def _encoded(source: Any) -> bytes:
    if isinstance(source, Image.Image):
        name = "this image"
        try:
            return _as_png(source, name)
        except InvalidInput:
            raise
        except Exception as error:
            # A lazy image is read only here, and decoders fail in many ways.
            raise _invalid(name, f"is damaged: {error}") from error
    name, data = _read(source)
    if len(data) > MAX_READ:
        raise _invalid(
            name,
            f"exceeds {MAX_READ >> 20} MiB",
            hint="resize it first; the model reads a small copy anyway",
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes that are reduced below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
        with image:
            if image.format not in _FORMATS or max(image.size) > MAX_SIDE or len(data) > MAX_BYTES:
                return _as_png(image, name)
            # Models refuse animated WebP files, at which TensorFlow's decoder crashes, and large
            # GIF files; of an animation they read the first frame anyway.
            if image.format in {"GIF", "WEBP"} and getattr(image, "is_animated", False):
                return _as_png(image, name)
            bare = image.format == "PNG" and not any(note in data for note in _PNG_NOTES)
            _check_whole(image, data, verify=bare)
            # Models apply the Exif orientation of JPEG files, and of no others.
            if image.format != "JPEG" and not bare and _needs_rotation(image):
                return _as_png(image, name)
    except UnidentifiedImageError:
        raise _invalid(
            name, "is not a valid image", hint="pass a PNG, JPEG, GIF, BMP or WebP file"
        ) from None
    except Image.DecompressionBombError:
        raise _invalid(name, "has too many pixels", hint="resize it first") from None
    except InvalidInput:
        raise
    except Exception as error:
        # The decoders of Pillow raise exceptions of many types.
        raise _invalid(name, f"is damaged: {error}") from error
    return data


def _check_whole(image: Image.Image, data: bytes, *, verify: bool) -> None:
    """Find a damaged or truncated file here and not at the server, for as little as that takes.

    A WebP has its length, and the last scan of a JPEG its end (ITU-T T.81, B.1.1: within a scan FF
    is never followed by DA or D9). Other files are decoded; of a JPEG without an end an eighth of
    each side, to say what it lacks.

    Args:
        image: The image as it was opened.
        data: The file.
        verify: Whether its checksums are enough, those of a PNG. It cannot be read afterwards.

    Raises:
        Exception: It is damaged; of whichever type Pillow's decoder raises.
    """
    if image.format == "WEBP":
        if len(data) < 8 + int.from_bytes(data[4:8], "little"):
            raise OSError("the file is truncated")
    elif verify:
        image.verify()
    elif image.format != "JPEG" or data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        image.draft("L", (1, 1))
        image.load()


def _invalid(name: str, reason: str, *, hint: str | None = None) -> InvalidInput:
    return InvalidInput(f"{name} {reason}", reason=reason, hint=hint)


def _read(source: Any) -> tuple[str, bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        return "this image", bytes(source)
    if isinstance(source, str | os.PathLike):
        try:
            # To open a FIFO would wait for its writer; a shell's <(...) has one.
            path = Path(source)
            if path.is_fifo() and not str(path).startswith(("/dev/", "/proc/")):
                raise InvalidInput(f"cannot read {source}: it is not a regular file")
            with path.open("rb") as file:
                return str(source), file.read(MAX_READ + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidInput(f"cannot read {source}: {reason}") from error
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "this image"))
        try:
            data = source.read(MAX_READ + 1)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot read {name}: {error}") from error
        if not isinstance(data, bytes):
            raise _invalid(name, "is open in text mode", hint='open it with mode "rb"')
        return name, data
    raise InvalidInput(
        f"a {type(source).__name__} is not a valid image",
        hint="pass a path, bytes, a file, a Pillow image or a uint8 array",
    )


def _needs_rotation(image: Image.Image) -> bool:
    """Whether the Exif orientation of an image has to be applied."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except Exception:  # noqa: BLE001  # corrupt Exif data do not make the pixels invalid
        return False


def _as_png(image: Image.Image, name: str) -> bytes:
    if not image.width or not image.height:
        raise _invalid(name, "has no pixels")
    if _needs_rotation(image):
        image = ImageOps.exif_transpose(image)
    if max(image.size) > MAX_SIDE:
        image = image.copy()
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image, name)
    if image.mode == "La":
        image = image.convert("LA")  # the only conversion from La
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    for side in _SHRINK_TO:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        if buffer.tell() <= MAX_BYTES:
            break
        # The model reads a small copy anyway.
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.BOX)
    return buffer.getvalue()


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Convert grey of 16 or 32 bits or of floats to 0 to 255.

    Values up to 255 are kept, integers up to 65535 are scaled from 16 bits.
    """
    pixels = np.asarray(image)
    low, high = pixels.min(), pixels.max()
    sixteen = image.mode != "F" and (high > 255 or image.mode.startswith("I;16"))
    limit = _GREY16 if sixteen else 255
    # Floats up to 1 are more likely another scale than a nearly black image.
    if not (low >= 0 and high <= limit) or (image.mode == "F" and 0 < high <= 1):
        raise _invalid(
            name,
            f"has pixels of mode {image.mode} from {low:g} to {high:g}, expected 0 to {limit}",
            hint='scale it to 0 to 255, then `image.convert("L")`',
        )
    scaled = pixels // 257 if sixteen else pixels.round()
    return Image.fromarray(scaled.astype(np.uint8))
