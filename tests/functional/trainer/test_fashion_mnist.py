"""Fashion-MNIST: the four real files, and how commands find and download them."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import only_sentence
from tests.forked import servable
from tests.in_process import command

from servable_trainer.data import fashion_mnist
from servable_trainer.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

IMAGES = "t10k-images-idx3-ubyte.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with copies of the four files."""
    source, _ = fashion_mnist.find()
    copy = tmp_path / "data"
    copy.mkdir()
    for name in fashion_mnist.CHECKSUMS:
        shutil.copy(source / name, copy / name)
    return copy


def test_it_is_fashion_mnist(dataset: Dataset) -> None:
    assert dataset.train.images.shape == (60000, 28, 28)
    assert dataset.test.images.shape == (10000, 28, 28)
    assert dataset.train.images.dtype == dataset.test.images.dtype == np.uint8
    # 6,000 and 1,000 of each class.
    assert np.bincount(dataset.train.targets).tolist() == [6000] * 10
    assert np.bincount(dataset.test.targets).tolist() == [1000] * 10
    assert dataset.labels[dataset.test.targets[0]] == "Ankle boot"


def test_the_split_keeps_the_proportions_and_the_seed(dataset: Dataset) -> None:
    fit, validation = dataset.split(seed=3)
    assert (len(fit), len(validation)) == (50000, 10000)
    assert np.bincount(validation.targets).tolist() == [1000] * 10
    again, _ = dataset.split(seed=3)
    other, _ = dataset.split(seed=4)
    np.testing.assert_array_equal(fit.images, again.images)
    assert (fit.targets != other.targets).any()
    # Nothing is in both, and nothing is lost: a picture's bytes tell it from nearly any other.
    halves = [{picture.tobytes() for picture in part.images} for part in (fit, validation)]
    everything = {picture.tobytes() for picture in dataset.train.images}
    assert halves[0] | halves[1] == everything
    assert len(halves[0] & halves[1]) <= len(dataset.train) - len(everything)


def test_a_named_folder_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fashion_mnist.find(folder)[0] == folder
    monkeypatch.setenv("SERVABLE_DATA", str(folder))
    assert fashion_mnist.find()[0] == folder


def test_keras_cache_is_used(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "nowhere")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    cache = tmp_path / "keras" / "datasets" / "fashion-mnist"
    shutil.copytree(folder, cache)
    assert fashion_mnist.find()[0] == cache


def truncate(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:-1000])
    return "truncated"


def replace_the_content(path: Path) -> str:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1] + b"\x07"))
    return "not Fashion-MNIST's file"


def write_text(path: Path) -> str:
    path.write_text("<html>this host is blocked</html>")
    return "not a gzip file"


@pytest.mark.parametrize("damage", [truncate, replace_the_content, write_text])
def test_a_damaged_file_is_named_and_not_used(damage: Callable[[Path], str], folder: Path) -> None:
    words = damage(folder / IMAGES)
    with pytest.raises(DatasetError) as caught:
        fashion_mnist.find(folder)
    assert str(folder / IMAGES) in str(caught.value)
    assert words in str(caught.value)
    done = command("data", "fetch", "--data", folder)
    assert str(folder / IMAGES) in only_sentence(done)
    done = command("tune", "--data", folder, "--output", folder / "out")
    assert str(folder / IMAGES) in only_sentence(done)
    assert not (folder / "out").exists()


@pytest.fixture
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of Debian's tools on the path, and a proxy that does not exist."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")


@pytest.mark.usefixtures("_offline")
def test_missing_files_in_a_given_folder_are_downloaded(folder: Path) -> None:
    (folder / IMAGES).unlink()
    # No source can be reached: one error, and the three files are unchanged.
    done = command("data", "fetch", "--data", folder)
    assert "could not be downloaded" in only_sentence(done)
    assert len(list(folder.iterdir())) == 3
    with pytest.raises(DatasetError, match=IMAGES):
        fashion_mnist.load(folder)


def test_a_damaged_cache_is_skipped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", folder)
    monkeypatch.setattr(fashion_mnist, "keras_cache", lambda: tmp_path / "keras")
    shutil.copytree(folder, tmp_path / "keras")
    truncate(folder / IMAGES)
    assert fashion_mnist.find()[0] == tmp_path / "keras"
    assert str(folder / IMAGES) in capfd.readouterr().err


@pytest.mark.usefixtures("_offline")
def test_no_data_and_no_source(tmp_path: Path) -> None:
    target = tmp_path / "data"
    done = command("data", "fetch", "--data", target)
    sentence = only_sentence(done)
    assert "could not be downloaded" in sentence
    assert "storage.googleapis.com" in sentence
    assert "hint:" in done.stderr
    assert not list(target.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = command("data", "fetch", "--data", tmp_path / "file" / "data")
    assert "cannot write to" in only_sentence(done)


@pytest.mark.usefixtures("dataset")
@pytest.mark.skipif(not shutil.which("apt-get"), reason="not a Debian system")
def test_debians_package_gives_the_same_files(tmp_path: Path) -> None:
    target = tmp_path / "fetched"
    done = servable(
        "data", "fetch", "--data", target, "--json",
        env={**os.environ, "https_proxy": "http://127.0.0.1:1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sha256"] == fashion_mnist.CHECKSUMS
    assert sorted(path.name for path in target.iterdir()) == sorted(fashion_mnist.CHECKSUMS)


def test_upstreams_files_are_downloaded_and_checked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP from a server of our own: upstream itself may be out of reach."""
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    truncate(damaged / IMAGES)
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        # The first source has a bad file, which the second one makes good.
        monkeypatch.setattr(fashion_mnist, "UPSTREAM", (f"{base}/damaged/", f"{base}/data/"))
        fetched = fashion_mnist.fetch(tmp_path / "fetched")
        server.shutdown()
    assert len(fetched.train) == 60000
    assert len(fashion_mnist.load(tmp_path / "fetched").test) == 10000
