"""Fashion-MNIST: its files, where they are looked for and how they are downloaded.

Xiao, Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747. Nothing outside this module
knows the number of its classes or their names.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
import zlib
from pathlib import Path

import numpy as np

from servable_client import ServableError
from servable_client.cli.console import progress_bar, say
from servable_trainer.data.dataset import Dataset, DatasetError, Pictures
from servable_trainer.data.debian_package import copy_from_package

NAME = "fashion_mnist"

LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# SHA-256 of each file's decompressed content: Debian strips the name from the gzip headers, so its
# compressed bytes differ from upstream's while the images are the same.
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",  # noqa: E501
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",  # noqa: E501
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

UPSTREAM = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
# Where that package puts the files.
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

# An IDX file starts with its type and dimensions: http://yann.lecun.com/exdb/mnist/
_IMAGES_HEADER, _LABELS_HEADER = 16, 8
_CONNECT_SECONDS, _READ_SECONDS = 5, 30


def own_cache() -> Path:
    """The directory that a download goes to by default."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("servable")) / "fashion-mnist"


def keras_cache() -> Path:
    """The directory that `keras.datasets.fashion_mnist.load_data` fills."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets" / "fashion-mnist"


def load(folder: Path) -> Dataset:
    """Read the four files in `folder`.

    Returns:
        60,000 training and 10,000 test images, uint8 [N, 28, 28].

    Raises:
        DatasetError: A file is missing, truncated or not Fashion-MNIST's; the message names it.
    """
    data = {name: _read(folder / name, checksum) for name, checksum in CHECKSUMS.items()}

    def pictures(part: str) -> Pictures:
        images, targets = data[f"{part}-images-idx3-ubyte.gz"], data[f"{part}-labels-idx1-ubyte.gz"]
        return Pictures(
            images=np.frombuffer(images, np.uint8, offset=_IMAGES_HEADER).reshape(-1, 28, 28),
            targets=np.frombuffer(targets, np.uint8, offset=_LABELS_HEADER).astype(np.int64),
        )

    return Dataset(
        name=NAME,
        labels=LABELS,
        train=pictures("train"),
        test=pictures("t10k"),
        checksums=dict(CHECKSUMS),
    )


def _read(path: Path, checksum: str) -> bytes:
    if not path.is_file():
        raise DatasetError(f"{path} is missing", hint="`servable data fetch` downloads it")
    hint = "delete it and run `servable data fetch` again"
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} is truncated or not a gzip file: {error}", hint=hint) from error
    if hashlib.sha256(data).hexdigest() != checksum:
        raise DatasetError(f"{path} is not Fashion-MNIST's file: its SHA-256 differs", hint=hint)
    return data


def find(data: Path | None = None) -> tuple[Path, Dataset]:
    """Find the dataset, or download it.

    Looks in `data` or in the directory that SERVABLE_DATA names, and nowhere else if either is
    given; otherwise in Debian's directory, Keras' cache and Servable's own. Missing files are
    downloaded from upstream or, if upstream cannot be reached, taken from Debian's package (which
    does not need root).

    Args:
        data: The directory to look in and to download to.

    Returns:
        The directory and the dataset.

    Raises:
        DatasetError: A file in the given directory is damaged, or cannot be downloaded.
    """
    if data is None and (named := os.environ.get("SERVABLE_DATA")):
        data = Path(named)
    if data is not None:
        # A damaged file in a directory of the user's is reported; a missing one is downloaded.
        present = [name for name in CHECKSUMS if _exists(data / name)]
        if len(present) == len(CHECKSUMS):
            return data, load(data)
        for name in present:
            _read(data / name, CHECKSUMS[name])
        target = data
    else:
        for folder in (DEBIAN_FOLDER, keras_cache(), own_cache()):
            if not all(_exists(folder / name) for name in CHECKSUMS):
                continue
            try:
                return folder, load(folder)
            except DatasetError as error:
                say(f"skipped {folder}: {error}")
        target = own_cache()
    return target, fetch(target)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # in a directory that this user may not read


def fetch(target: Path) -> Dataset:
    """Download the four files to `target`, each verified before it gets its name.

    Raises:
        DatasetError: Neither upstream nor Debian's archive provided them.
    """
    tried: list[str] = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".incoming-") as incoming:
            for source in (*UPSTREAM, None):
                try:
                    if source:
                        _download(source, Path(incoming))
                    else:
                        say(f"upstream cannot be reached; using Debian's {DEBIAN_PACKAGE}")
                        copy_from_package(
                            DEBIAN_PACKAGE, DEBIAN_FOLDER, list(CHECKSUMS), Path(incoming)
                        )
                    dataset = load(Path(incoming))
                except ServableError as error:
                    tried.append(str(error))
                    continue
                for name in CHECKSUMS:
                    (Path(incoming) / name).replace(target / name)
                return dataset
    except OSError as error:
        raise DatasetError(
            f"cannot write to {target}: {error.strerror or error}",
            hint="choose another directory with --data",
        ) from error
    raise DatasetError(
        "Fashion-MNIST could not be downloaded: " + "; ".join(tried),
        hint=f"put {', '.join(CHECKSUMS)} into a directory and set --data or SERVABLE_DATA",
    )


def _download(source: str, folder: Path) -> None:
    import requests

    host = source.split("/")[2]
    with progress_bar() as progress:
        for name, checksum in CHECKSUMS.items():
            if (folder / name).exists():
                continue
            task = progress.add_task(name, total=None)
            try:
                with requests.get(
                    source + name, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)
                ) as reply:
                    reply.raise_for_status()
                    size = reply.headers.get("Content-Length")
                    progress.update(task, total=int(size) if size else None)
                    with (folder / name).open("wb") as file:
                        for chunk in reply.iter_content(1 << 16):
                            file.write(chunk)
                            progress.update(task, advance=len(chunk))
            except requests.ConnectionError as error:
                raise DatasetError(f"{host} cannot be reached") from error
            except requests.RequestException as error:
                raise DatasetError(f"{host}: {error}") from error
            try:
                _read(folder / name, checksum)
            except DatasetError:
                (folder / name).unlink()
                raise
