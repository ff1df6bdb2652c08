"""Photos like those of users: test garments on various backgrounds, at the size of a photo."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Garment = NDArray[np.uint8]
    Ground = Callable[[int, int], NDArray[np.float32]]

EXIF_ORIENTATION = 0x0112


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(*colour: int) -> Ground:
    return lambda height, width: np.broadcast_to(np.array(colour, np.float32), (height, width, 3))


def gradient(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Ground:
    def ground(height: int, width: int) -> NDArray[np.float32]:
        share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        return np.broadcast_to((1 - share) * top + share * bottom, (height, width, 3))

    return ground


def cloth(dark: tuple[int, int, int], light: tuple[int, int, int]) -> Ground:
    """Stripes and grain."""

    def ground(height: int, width: int) -> NDArray[np.float32]:
        grain = np.random.default_rng(0).normal(0, 6, (height, width, 1))
        stripes = (np.sin(np.arange(width) / 7.0)[None, :, None] + 1) / 2
        return (stripes * light + (1 - stripes) * np.array(dark, np.float32) + grain).astype(
            np.float32
        )

    return ground


def photo(
    garment: Garment, ground: Ground, *, width: int, height: int, colour: tuple[int, int, int]
) -> Image.Image:
    """A garment in one colour, with the shades of its image, in the middle of a background."""
    side = min(width, height) * 9 // 10
    soft = Image.fromarray(garment).resize((side, side), Image.Resampling.BICUBIC)
    tone = np.zeros((height, width, 1), np.float32)
    top, left = (height - side) // 2, (width - side) // 2
    tone[top : top + side, left : left + side, 0] = np.asarray(soft, np.float32) / 255
    cover = np.clip(tone * 8, 0, 1)
    painted = np.array(colour, np.float32) * (0.45 + 0.55 * tone)
    pixels = cover * painted + (1 - cover) * ground(height, width)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def varied(garments: Sequence[Garment]) -> dict[str, bytes]:
    """Ten photos by name, of a garment of each class of Fashion-MNIST, in the classes' order."""
    top, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, boot = garments
    white, navy, red, sand = (240, 240, 238), (24, 34, 66), (190, 30, 40), (214, 190, 150)
    turned = Image.Exif()
    turned[EXIF_ORIENTATION] = 6  # lies on its side, as phones store it
    transparent = photo(top, plain(255, 255, 255), width=900, height=900, colour=navy)
    alpha = Image.fromarray(
        np.where(np.asarray(transparent.convert("L")) > 250, 0, 255).astype(np.uint8)
    )
    transparent.putalpha(alpha)
    shots = {
        "on-white.jpg": photo(boot, plain(*white), width=1600, height=1200, colour=(60, 40, 30)),
        "on-black.png": photo(shirt, plain(8, 8, 10), width=800, height=1000, colour=white),
        "on-sand.jpg": photo(bag, plain(*sand), width=1200, height=1200, colour=(70, 20, 20)),
        "on-navy.webp": photo(trouser, plain(*navy), width=900, height=1600, colour=sand),
        "gradient.jpg": photo(
            coat, gradient((250, 250, 250), (150, 160, 170)), width=1500, height=2000, colour=navy
        ),
        "gradient-dark.jpg": photo(
            dress, gradient((10, 10, 20), (90, 60, 60)), width=1200, height=1800, colour=white
        ),
        "cloth.jpg": photo(
            sneaker,
            cloth((150, 120, 90), (220, 200, 180)),
            width=3000,
            height=2000,
            colour=(20,) * 3,
        ),
        "cloth-dark.png": photo(
            pullover,
            cloth((10, 20, 40), (40, 50, 90)),
            width=640,
            height=480,
            colour=(230, 210, 90),
        ),
    }
    files = {
        name: encoded(shot, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rsplit(".", 1)[1]])
        for name, shot in shots.items()
    }
    files["transparent.png"] = encoded(transparent, "PNG")
    upright = photo(sandal, plain(235, 225, 220), width=1200, height=1600, colour=red)
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    files["turned.jpg"] = encoded(lying, "JPEG", exif=turned, quality=90)
    return files
