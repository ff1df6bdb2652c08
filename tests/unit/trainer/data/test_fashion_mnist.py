"""Fashion-MNIST's files: parsing, verification and the places that are searched."""

from __future__ import annotations

import gzip
import hashlib
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from servable_trainer.data import fashion_mnist
from servable_trainer.data.dataset import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"train": 20, "t10k": 10}


def idx(part: str, kind: str) -> bytes:
    """A file of the IDX format, with few images."""
    count = SMALL[part]
    if kind == "labels":
        return struct.pack(">II", 2049, count) + bytes(n % 10 for n in range(count))
    pixels = np.arange(count, dtype=np.uint8).repeat(28 * 28)
    return struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The four files, small, whose checksums are expected; nothing else is on this machine."""
    made = tmp_path / "data"
    made.mkdir()
    sums = {}
    for name in fashion_mnist.CHECKSUMS:
        part, kind, *_ = name.split("-")
        content = idx(part, kind)
        sums[name] = hashlib.sha256(content).hexdigest()
        (made / name).write_bytes(gzip.compress(content))
    monkeypatch.setattr(fashion_mnist, "CHECKSUMS", sums)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(fashion_mnist, "keras_cache", lambda: tmp_path / "keras")
    monkeypatch.setattr(fashion_mnist, "own_cache", lambda: tmp_path / "own")
    monkeypatch.delenv("SERVABLE_DATA", raising=False)
    return made


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No source can be reached; which ones were tried."""
    tried: list[str] = []

    def fail(source: str, *_: object) -> None:
        tried.append(source)
        raise DatasetError(f"{source} cannot be reached")

    monkeypatch.setattr(fashion_mnist, "_download", fail)
    monkeypatch.setattr(fashion_mnist, "copy_from_package", fail)
    return tried


IMAGES = "t10k-images-idx3-ubyte.gz"


def test_images_and_labels_are_parsed(folder: Path) -> None:
    dataset = fashion_mnist.load(folder)
    assert dataset.train.images.shape == (20, 28, 28)
    assert dataset.test.images[3, 27, 27] == 3
    assert dataset.test.targets.tolist() == list(range(10))
    assert dataset.test.targets.dtype == np.int64


def test_the_dataset_names_its_classes_and_files(folder: Path) -> None:
    dataset = fashion_mnist.load(folder)
    assert (dataset.name, len(dataset.labels)) == ("fashion_mnist", 10)
    assert dataset.checksums == fashion_mnist.CHECKSUMS


@pytest.mark.parametrize(
    "content",
    [b"<html>", gzip.compress(b"other images"), gzip.compress(b"x" * 5000)[:20], b""],
    ids=["HTML", "other content", "cut short", "empty"],
)
def test_a_damaged_file_is_named(folder: Path, content: bytes) -> None:
    (folder / IMAGES).write_bytes(content)
    with pytest.raises(DatasetError, match=IMAGES) as caught:
        fashion_mnist.load(folder)
    assert caught.value.hint


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / IMAGES).unlink()
    with pytest.raises(DatasetError, match=IMAGES):
        fashion_mnist.load(folder)


def test_a_given_directory_is_used(folder: Path) -> None:
    assert fashion_mnist.find(folder)[0] == folder


def test_the_variable_names_a_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVABLE_DATA", str(folder))
    assert fashion_mnist.find()[0] == folder


@pytest.mark.parametrize("place", ["debian", "keras", "own"])
def test_each_usual_place_is_searched(folder: Path, tmp_path: Path, place: str) -> None:
    folder.rename(tmp_path / place)
    assert fashion_mnist.find()[0] == tmp_path / place


def test_a_damaged_cache_is_skipped(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "debian").mkdir()
    for name in fashion_mnist.CHECKSUMS:
        (tmp_path / "debian" / name).write_bytes(b"damaged")
    folder.rename(tmp_path / "keras")
    assert fashion_mnist.find()[0] == tmp_path / "keras"
    assert str(tmp_path / "debian") in capsys.readouterr().err


def test_a_damaged_file_in_a_given_directory_is_not_replaced(
    folder: Path, offline: list[str]
) -> None:
    (folder / IMAGES).write_bytes(b"damaged")
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DatasetError, match=IMAGES):
        fashion_mnist.find(folder)
    assert not offline
    assert (folder / IMAGES).read_bytes() == b"damaged"


def test_every_source_is_tried_and_the_error_names_them(folder: Path, offline: list[str]) -> None:
    (folder / IMAGES).unlink()
    with pytest.raises(DatasetError) as caught:
        fashion_mnist.find(folder)
    assert offline == [*fashion_mnist.UPSTREAM, fashion_mnist.DEBIAN_PACKAGE]
    assert all(source in str(caught.value) for source in offline)
    assert len(list(folder.iterdir())) == 3


def test_a_download_is_verified_before_it_is_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: list[str]
) -> None:
    def download(source: str, target: Path) -> None:
        for name in fashion_mnist.CHECKSUMS:
            damaged = source == fashion_mnist.UPSTREAM[0] and name == IMAGES
            (target / name).write_bytes(b"x" if damaged else (folder / name).read_bytes())

    monkeypatch.setattr(fashion_mnist, "_download", download)
    assert len(fashion_mnist.fetch(tmp_path / "fetched").test) == 10
    assert sorted(p.name for p in (tmp_path / "fetched").iterdir()) == sorted(
        fashion_mnist.CHECKSUMS
    )
    assert not offline


def test_a_directory_that_cannot_be_written(folder: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        fashion_mnist.fetch(folder / IMAGES / "below")
    assert caught.value.hint


def test_keras_home_moves_keras_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert fashion_mnist.keras_cache() == tmp_path / "datasets" / "fashion-mnist"
