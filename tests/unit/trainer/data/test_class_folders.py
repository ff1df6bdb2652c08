"""Which files of a directory are images, and of which class."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from servable_trainer.data.class_folders import (
    TEST,
    TRAIN,
    UNDIVIDED,
    ImageFile,
    check_counts,
    scan,
    shown,
    some,
)
from servable_trainer.data.dataset import DatasetError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_an_undivided_directory(tmp_path: Path) -> None:
    labels, files = scan(make(tmp_path, "b/1.png", "a/2.jpg", "a/1.webp"))
    assert labels == ["a", "b"]
    assert [(f.label, f.path.name, f.part) for f in files] == [
        ("a", "1.webp", UNDIVIDED),
        ("a", "2.jpg", UNDIVIDED),
        ("b", "1.png", UNDIVIDED),
    ]


def test_a_divided_directory(tmp_path: Path) -> None:
    folder = make(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png")
    labels, files = scan(folder)
    assert labels == ["a", "b"]
    assert {(f.part, f.path.name) for f in files} == {(TRAIN, "1.png"), (TEST, "2.png")}


def test_train_with_images_in_it_is_a_class(tmp_path: Path) -> None:
    assert scan(make(tmp_path, "train/1.png", "bus/1.png"))[0] == ["bus", "train"]


def test_train_without_test_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        scan(make(tmp_path, "train/a/1.png", "train/b/1.png"))
    assert str(tmp_path / "train") in str(caught.value.hint)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_both_parts_need_the_same_classes(tmp_path: Path, missing: str) -> None:
    make(tmp_path, *(f"{part}/{label}/1.png" for part in (TRAIN, TEST) for label in "ab"))
    (tmp_path / missing / "b" / "1.png").unlink()
    (tmp_path / missing / "b").rmdir()
    with pytest.raises(DatasetError, match=f"{missing} .* b"):
        scan(tmp_path)


@pytest.mark.parametrize("name", ["a.PNG", "a.Jpeg", "a.jfif", "a.gif", "a.bmp"])
def test_suffixes_of_images(tmp_path: Path, name: str) -> None:
    _, files = scan(make(tmp_path, f"a/{name}", "b/1.png"))
    assert [f.path.name for f in files] == [name, "1.png"]


@pytest.mark.parametrize("name", ["notes.txt", "1.tiff", "png", "deeper/1.png"])
def test_other_files_are_named_and_skipped(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, files = scan(make(tmp_path, "a/1.png", "b/1.png", f"a/{name}"))
    assert len(files) == 2
    assert f"a/{name.partition('/')[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a/.hidden.png", "a/Thumbs.db", "desktop.ini", "__MACOSX/1.png"])
def test_litter_is_skipped_silently(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, files = scan(make(tmp_path, "a/1.png", "b/1.png", name))
    assert (labels, len(files)) == (["a", "b"], 2)
    assert capsys.readouterr().err == ""


def test_links_are_followed(tmp_path: Path) -> None:
    real = make(tmp_path / "real", "a/1.png", "b/1.png")
    linked = tmp_path / "linked"
    linked.mkdir()
    for label in "ab":
        (linked / label).symlink_to(real / label)
    assert len(scan(linked)[1]) == 2


@pytest.mark.parametrize("names", [(), ("1.png",), ("a/1.png",)])
def test_fewer_than_two_classes_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DatasetError):
        scan(make(tmp_path, *names))


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        scan(tmp_path / "nowhere")


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        scan(make(tmp_path, "file") / "file")


@pytest.mark.parametrize("name", ["A", "ﬁsh", os.fsdecode(b"caf\xe9"), "a\nb"])
def test_invalid_labels_are_refused_with_a_printable_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError) as caught:
        scan(make(tmp_path, "a/1.png", "fish/1.png", f"{name}/1.png"))
    assert str(caught.value).encode().isascii() or name == "ﬁsh"


def files_of(**counts: int) -> list[ImageFile]:
    return [
        ImageFile(path=Path(f"{key}{n}.png"), part=part, label=label)
        for key, count in counts.items()
        for part, label in [key.split("_")]
        for n in range(count)
    ]


def test_enough_images_of_each_class(tmp_path: Path) -> None:
    check_counts(tmp_path, ["a", "b"], files_of(pictures_a=3, pictures_b=3))
    check_counts(tmp_path, ["a"], files_of(train_a=2, test_a=1))


@pytest.mark.parametrize(
    "counts", [{"pictures_a": 2}, {"train_a": 1, "test_a": 1}, {"train_a": 2}, {}]
)
def test_too_few_images_of_a_class_are_refused(tmp_path: Path, counts: dict[str, int]) -> None:
    with pytest.raises(DatasetError) as caught:
        check_counts(tmp_path, ["a"], files_of(**counts))
    assert caught.value.hint


def test_a_long_list_names_ten() -> None:
    assert some(str(n) for n in range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert some(["a", "b"]) == "a, b"


def test_paths_are_printable_whatever_their_bytes() -> None:
    assert shown(Path(os.fsdecode(b"/x/\xff.png"))) == "/x/\\xff.png"
