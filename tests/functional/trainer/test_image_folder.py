"""A directory of images per class, from the files to the predictions of a server."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import ExifTags, Image
from tests.conftest import serving
from tests.forked import servable

from servable_client import Client, InvalidInput
from servable_client.cli.app import main
from servable_client.types.images import prepare
from servable_serving.model.saved_model import SavedModel
from servable_serving.repository.local import Repository
from servable_serving.repository.manifest import MANIFEST
from servable_trainer.data.dataset import DatasetError
from servable_trainer.data.image_files import available_memory
from servable_trainer.data.image_folder import load

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

# Three of Fashion-MNIST's classes, each in a colour of its own.
TINTS = {"Ankle boot": (9, (80, 90, 255)), "Bag": (8, (60, 255, 90)), "Trouser": (1, (255, 80, 60))}
HEIGHT, WIDTH = 64, 48
FORMATS = ("png", "jpg", "webp", "bmp", "JPEG", "gif")


def save(path: Path, picture: np.ndarray | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


def plain(level: int, height: int = 20, width: int = 16) -> np.ndarray:
    return np.full([height, width], level, np.uint8)


def fill(folder: Path, count: int = 6, names: tuple[str, ...] = ("a", "b")) -> Path:
    """A small folder of grey pictures, all different."""
    for number, name in enumerate(names):
        for index in range(count):
            save(folder / name / f"{index}.png", plain(20 * number + index))
    return folder


@pytest.fixture(scope="module")
def tinted(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of garments in colour on white, 64 x 48, in files of every format."""
    folder = tmp_path_factory.mktemp("tinted") / "my garments"
    for name, (number, tint) in TINTS.items():
        chosen = np.flatnonzero(dataset.train.targets == number)[:60]
        for index, garment in enumerate(dataset.train.images[chosen]):
            large = np.asarray(Image.fromarray(garment).resize((WIDTH, HEIGHT)))[..., None] / 255
            picture = (255 - large * (255 - np.array(tint))).astype(np.uint8)
            save(folder / name / f"{index}.{FORMATS[index % len(FORMATS)]}", picture)
    return folder


def command(*arguments: object) -> int:
    """Run the command in this process, which has TensorFlow already; its exit status."""
    with patch.object(sys, "argv", ["servable", *map(str, arguments)]):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def test_the_printed_commands_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, search, run = (tmp_path / name for name in ("my pictures", "search", "run"))
    fill(pictures, count=10)
    save(pictures / "a" / "broken.png", plain(0)).write_bytes(b"milk, eggs")
    images = ("--dataset", pictures, "--skip-corrupt")

    def printed(marker: str) -> list[str]:
        line = next(line for line in capsys.readouterr().err.splitlines() if marker in line)
        words = shlex.split(line.partition(marker)[2])
        assert words[0] == "servable"
        return words[1:]

    assert command("tune", *images, "--trials", 1, "--epochs", 1, "--output", search) == 0
    train = printed("train the best trial with: ")
    assert command(*train, "--epochs", 1, "--output", run) == 0
    assert command(*printed("next: ")) == 0
    assert command("export", run, *images, "--output", tmp_path / "my candidate") == 0
    push = printed("next: ")
    where = ("--repository", tmp_path / "models", "--dry-run")
    assert command(*push, *where) == 0


@dataclass
class Trained:
    candidate: Path
    evaluation: dict[str, Any]


@pytest.fixture(scope="module")
def trained(tinted: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of it and its export, by the command line."""
    work = tmp_path_factory.mktemp("work")
    run, candidate = work / "run", work / "candidate"
    assert command("train", "--output", run, "--epochs", 12, "--dataset", tinted) == 0
    assert command("evaluate", run, "--dataset", tinted) == 0
    assert command("export", run, "--output", candidate, "--dataset", tinted) == 0
    evaluation = json.loads((candidate / MANIFEST).read_text())["metrics"]["test"]
    return Trained(candidate, evaluation)


def test_a_folder_goes_the_whole_way_to_a_server(
    tinted: Path, trained: Trained, tmp_path: Path
) -> None:
    assert trained.evaluation["count"] == 36  # a fifth of each class
    assert trained.evaluation["accuracy"] > 0.8
    name = "my_garments"
    Repository(tmp_path / name).push(trained.candidate)
    with serving(tmp_path / name, tmp_path / "log", model=name) as server:
        files = [
            tinted / label / f"{index}.{FORMATS[index]}" for label in TINTS for index in (0, 1)
        ]
        done = servable("classify", *files, "--server", server.grpc, "--model", name, "--json")
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout)
        right = [a["label"] == path.parent.name for a, path in zip(answers, files, strict=True)]
        assert np.mean(right) > 0.6  # by chance it would be 0.33

        pixels = np.asarray(Image.open(files[0]))
        for address in (server.grpc, server.http):
            with Client(address, model=name) as client:
                by_file, by_pixels = client.classify(files[0]), client.classify(pixels)
                assert by_file.label == by_pixels.label == answers[0]["label"]
                np.testing.assert_allclose(
                    by_file.probabilities, by_pixels.probabilities, atol=1e-5
                )
                assert by_file.labels == tuple(TINTS)
                larger = Image.open(files[2]).resize((480, 640))
                assert client.classify(larger).label == answers[2]["label"]
                batch = np.stack([pixels, pixels])
                assert [a.label for a in client.classify_many(batch)] == [by_pixels.label] * 2
                for wrong in (pixels[..., 0], pixels[:-1], np.dstack([pixels, pixels[..., :1]])):
                    with pytest.raises(InvalidInput, match=r"shape \[64, 48, 3\]"):
                        client.classify(wrong)


def test_training_images_are_those_that_the_server_sees(tinted: Path, trained: Trained) -> None:
    dataset = load(tinted)
    files = {hashlib.sha256(path.read_bytes()).digest(): path for path in tinted.glob("*/*")}
    tested = {
        digest
        for label in TINTS
        for digest in sorted(key for key, path in files.items() if path.parent.name == label)[:12]
    }
    assert len(files) == 180
    model = SavedModel(trained.candidate)
    try:
        for part, digests in ((dataset.test, tested), (dataset.train, files.keys() - tested)):
            paths = [files[digest] for digest in sorted(digests)]
            assert [dataset.labels[i] for i in part.targets] == [p.parent.name for p in paths]
            sent = np.array([prepare(path) for path in paths], object)
            np.testing.assert_allclose(
                model.run("serving_bytes", {"image_bytes": sent})["probabilities"],
                model.run("serving_default", {"image": part.images})["probabilities"],
                atol=1e-6,
            )
    finally:
        model.close()


def test_the_pixels_are_those_of_the_files(tinted: Path) -> None:
    dataset = load(tinted)
    assert dataset.train.images.shape == (144, HEIGHT, WIDTH, 3)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.labels == tuple(TINTS)
    mine = {picture.tobytes() for picture in dataset.train.images}
    mine |= {picture.tobytes() for picture in dataset.test.images}
    for path in sorted(tinted.glob("*/*.png")) + sorted(tinted.glob("*/*.bmp")):
        assert np.asarray(Image.open(path).convert("RGB")).tobytes() in mine
    smaller = load(tinted, size=(32, 24), channels=1)
    assert smaller.train.images.shape == (144, 32, 24)
    assert smaller.train.images[:, 0].mean() < 60  # on white, and so inverted


def test_a_run_resizes_images_to_its_own_size(
    tinted: Path, trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    for path in tinted.glob("*/*.png"):
        save(small / path.parent.name / path.name, Image.open(path).resize((24, 32)))
    assert command("evaluate", trained.candidate, "--dataset", small, "--json") == 0
    evaluation = json.loads(capfd.readouterr().out)
    assert evaluation["count"] == 6
    assert evaluation["accuracy"] > 0.5


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photograph_is_upright(tmp_path: Path, orientation: int) -> None:
    scene = plain(0)
    scene[2:6, 4:12] = 250  # at its top
    stored = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]  # quarter turns against the clock
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for index in range(3):
        for name in ("a", "b"):
            save(
                tmp_path / name / f"{index}.jpg",
                np.rot90(scene, stored) // (index + 1) + 3 * (name == "b"),
                exif=exif.tobytes(),
                quality=95,
            )
    dataset = load(tmp_path)
    assert dataset.train.images.shape[1:] == (20, 16)
    brightest = dataset.train.images[dataset.train.images.max(axis=(1, 2)).argmax()]
    assert np.abs(brightest.astype(int) - scene).mean() < 10


def test_divided_images_stay_divided(tmp_path: Path) -> None:
    fill(tmp_path / "train", 4)
    for name, level in (("a", 200), ("b", 220)):
        save(tmp_path / "test" / name / "x.png", plain(level))
    dataset = load(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (8, 2)
    assert set(dataset.checksums) == {"train", "test"}
    # On a light border they were inverted.
    found = {
        dataset.labels[target]: int(image[0, 0])
        for image, target in zip(dataset.test.images, dataset.test.targets, strict=True)
    }
    assert found == {"a": 55, "b": 35}


def test_a_division_that_is_not_whole(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    with pytest.raises(DatasetError, match="train but no test") as caught:
        load(tmp_path)
    assert "train" in str(caught.value.hint)
    assert len(load(tmp_path / "train").train) == 10
    fill(tmp_path / "test", names=("a", "c"))
    with pytest.raises(DatasetError, match=r"(test|train) has no subdirectory for [bc]"):
        load(tmp_path)


def test_train_may_be_a_class(tmp_path: Path) -> None:
    assert load(fill(tmp_path, names=("bus", "test", "train"))).labels == ("bus", "test", "train")


def test_the_division_follows_the_files_and_nothing_else(tmp_path: Path) -> None:
    folder = fill(tmp_path / "here", 20)
    dataset = load(folder)
    assert np.bincount(dataset.test.targets).tolist() == [4, 4]
    assert np.bincount(dataset.train.targets).tolist() == [16, 16]
    assert len(set(dataset.train.first(6).targets.tolist())) == 2  # not class by class
    moved = tmp_path / "there"
    folder.rename(moved)
    again = load(moved)
    assert again.checksums == dataset.checksums
    np.testing.assert_array_equal(again.test.images, dataset.test.images)
    np.testing.assert_array_equal(again.train.images, dataset.train.images)
    ours, theirs = ({p.tobytes() for p in part.images} for part in (again.train, again.test))
    assert not ours & theirs

    (moved / "a" / "0.png").rename(moved / "a" / "other.png")
    renamed = load(moved)
    assert renamed.checksums != dataset.checksums
    np.testing.assert_array_equal(renamed.test.images, dataset.test.images)
    save(moved / "a" / "1.png", plain(99))
    assert load(moved).checksums != renamed.checksums


def test_copies_are_of_one_part(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, 10)
    for path in sorted(tmp_path.glob("*/*.png")):
        shutil.copy(path, path.with_stem(f"{path.stem} copy"))
    dataset = load(tmp_path)
    ours, theirs = ({p.tobytes() for p in part.images} for part in (dataset.train, dataset.test))
    assert not ours & theirs
    assert "several classes" not in capfd.readouterr().err
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "b" / "wrong.png")
    load(tmp_path)
    assert "several classes, of which one must be wrong: a/0 copy.png" in capfd.readouterr().err


def test_a_test_image_that_is_trained_on_is_reported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", 2)
    load(tmp_path)
    assert "in train and test" in capfd.readouterr().err


def test_the_smallest_folder_can_be_divided(tmp_path: Path) -> None:
    dataset = load(fill(tmp_path, 3, names=tuple("abcde")))
    assert (len(dataset.train), len(dataset.test)) == (10, 5)
    fit, validation = dataset.split(seed=0)
    assert sorted(fit.targets) == sorted(validation.targets) == list(range(5))


@pytest.mark.parametrize(
    ("sizes", "expected", "words"),
    [
        ([(20, 16)] * 4 + [(30, 30)] * 2, (20, 16), "the most common"),
        ([(600, 300)] * 6, (128, 64), "shrunk from 600 to 128"),
        ([(20 + i, 16) for i in range(6)], (23, 23), "a square"),
        ([(3, 3)] * 6, (8, 8), "the most common"),
    ],
)
def test_the_size_is_found(
    sizes: list[tuple[int, int]],
    expected: tuple[int, int],
    words: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for index, (height, width) in enumerate(sizes):
        save(tmp_path / "ab"[index % 2] / f"{index}.png", plain(index, height, width))
    assert load(tmp_path).train.images.shape[1:] == expected
    assert words in capfd.readouterr().err


def test_colour_is_found(tmp_path: Path) -> None:
    fill(tmp_path)
    grey_in_rgb = np.dstack([plain(70)] * 3)
    save(tmp_path / "a" / "rgb.png", grey_in_rgb)
    save(tmp_path / "a" / "palette.gif", Image.fromarray(plain(71)).convert("P"))
    assert load(tmp_path).train.images.ndim == 3
    grey_in_rgb[3, 3] = (90, 70, 70)
    save(tmp_path / "a" / "rgb.png", grey_in_rgb)
    assert load(tmp_path).train.images.shape[1:] == (20, 16, 3)
    assert load(tmp_path, channels=1).train.images.shape[1:] == (20, 16)


def test_links_are_followed_and_litter_is_passed_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    real = fill(tmp_path / "real")
    folder = tmp_path / "linked"
    folder.mkdir()
    (folder / "b").symlink_to(real / "b")
    (folder / "a").mkdir()
    for path in (real / "a").iterdir():
        (folder / "a" / path.name).symlink_to(path)
    for litter in ("a/.DS_Store", "a/._0.png", "a/Thumbs.db", "desktop.ini", ".git/a.png"):
        (folder / litter).parent.mkdir(exist_ok=True)
        (folder / litter).write_bytes(b"no picture")
    (folder / "__MACOSX").mkdir()
    dataset = load(folder)
    assert (len(dataset.train), len(dataset.test)) == (10, 2)
    assert "skipped" not in capfd.readouterr().err
    (folder / "a" / "notes.txt").write_text("no picture")
    save(folder / "a" / "deeper" / "0.png", plain(0))
    save(folder / "a.tiff", plain(0))
    load(folder)
    assert "a.tiff, a/deeper, a/notes.txt" in capfd.readouterr().err


def harm(folder: Path) -> dict[str, str]:
    """Add files that are no pictures; what is to be said of each."""
    (folder / "a" / "text.png").write_text("no picture")
    (folder / "a" / "empty.jpg").write_bytes(b"")
    (folder / "a" / "gone.png").symlink_to(folder / "nowhere")
    noise = np.random.default_rng(0).integers(0, 256, [40, 40], np.uint8)
    half = save(folder / "b" / "half.jpg", noise)
    half.write_bytes(half.read_bytes()[:600])
    save(folder / "b" / "tiff.png", noise, format="TIFF")
    save(folder / "b" / "giant.png", plain(0, 8, 4097))
    return {
        "a/text.png": "is not a valid PNG",
        "a/empty.jpg": "is not a valid PNG",
        "a/gone.png": "is a broken link",
        "b/half.jpg": "is damaged",
        "b/tiff.png": "is not a valid PNG",
        "b/giant.png": "has 4097 x 8, more than 4096 x 4096",
    }


def test_corrupt_images_are_named_and_skipped_on_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = fill(tmp_path)
    whole = load(folder)
    said = harm(folder)
    with pytest.raises(DatasetError, match="6 of 18 images") as caught:
        load(folder)
    for name, reason in said.items():
        assert f"{name} {reason}" in str(caught.value)
    assert "--skip-corrupt" in str(caught.value.hint)
    assert "\n" not in str(caught.value)
    capfd.readouterr()

    rest = load(folder, skip_corrupt=True)
    assert "skipped 6 of 18" in capfd.readouterr().err
    np.testing.assert_array_equal(rest.train.images, whole.train.images)
    np.testing.assert_array_equal(rest.test.targets, whole.test.targets)
    assert rest.checksums == whole.checksums

    for index in range(9):
        (folder / "a" / f"more{index}.gif").write_text("")
    with pytest.raises(DatasetError, match=r"(?m)15 of 27.* and 5 more$"):
        load(folder)


def test_what_is_left_may_be_too_few(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    (tmp_path / "a" / "0.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="too few images of some classes: a 1 in train"):
        load(tmp_path, skip_corrupt=True)


def test_too_few_images_of_a_class(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "none").mkdir()
    save(tmp_path / "one" / "1.png", plain(0))
    with pytest.raises(DatasetError, match=r"(?m)some classes: none 0, one 1$"):
        load(tmp_path)
    for path in ("none/1", "none/2", "none/3"):
        save(tmp_path / f"{path}.png", plain(7))  # one and the same
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(DatasetError, match="none 0 in train") as caught:
        load(tmp_path)
    assert "2 images in train" in str(caught.value.hint)


def test_no_classes_to_tell_apart(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is empty"):
        load(tmp_path)
    save(tmp_path / "0.png", plain(0))
    with pytest.raises(DatasetError, match="has no class subdirectories"):
        load(tmp_path)
    fill(tmp_path, names=("a",))
    with pytest.raises(DatasetError, match="only one class, a"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"A", "differ only in case or Unicode form"),
        ("ﬁsh".encode(), "differ only in case or Unicode form"),
        (b"caf\xe9", "not valid UTF-8"),
        (b"a\nb", "control characters"),
    ],
)
def test_names_that_are_no_labels(name: bytes, words: str, tmp_path: Path) -> None:
    fill(tmp_path, names=("a", "fish"))
    fill(tmp_path, names=(os.fsdecode(name),))
    with pytest.raises(DatasetError, match=words) as caught:
        load(tmp_path)
    str(caught.value).encode()  # it can be printed


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    fill(tmp_path)
    odd = save(tmp_path / "a" / os.fsdecode(b"\xff.png"), plain(60))
    assert len(load(tmp_path).train) == 11
    odd.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"a/\\xff.png is not a valid"):
        load(tmp_path)


def test_too_many_images_for_the_memory_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert available_memory() is not None
    monkeypatch.setattr("servable_trainer.data.image_folder.available_memory", lambda: 1 << 20)
    fill(tmp_path)
    with pytest.raises(DatasetError, match=r"1024 x 1024 x 3 take [0-9.,]+ GB to train on"):
        load(tmp_path, size=(1024, 1024), channels=3)


def test_a_folder_that_fails_is_status_1(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path)
    (tmp_path / "a" / "text.png").write_text("no picture")
    assert command("train", "--dataset", tmp_path, "--output", tmp_path / "run") == 1
    *_, sentence, hint = capfd.readouterr().err.splitlines()
    assert sentence.startswith("servable: 1 of 13 images")
    assert "--skip-corrupt" in hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset", "nowhere"), "does not exist"),
        (("--dataset", "file"), "is not a directory"),
        (("--dataset", ".", "--data", "."), "conflicts with --dataset"),
        (("--dataset", ".", "--size", "2000x20"), "HEIGHTxWIDTH"),
        (("--dataset", ".", "--channels", "2"), "must be 1 (grey) or 3 (colour)"),
        (("--size", "28"), "requires --dataset"),
        (("--skip-corrupt",), "requires --dataset"),
    ],
)
def test_usage_errors(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    assert command("tune", *arguments) == 2
    assert words in " ".join(capfd.readouterr().err.split())
