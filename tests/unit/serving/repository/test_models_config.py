"""models.config: read, changed, refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable_serving.core.errors import FolderError
from servable_serving.repository.models_config import (
    ModelsConfig,
    ModelsConfigError,
    check_labels,
    set_versions,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def config(tmp_path: Path) -> ModelsConfig:
    return ModelsConfig(tmp_path)


def entry(name: str, policy: str = "", labels: str = "") -> str:
    return (
        f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" '
        f"{policy} {labels} }}"
    )


def write(config: ModelsConfig, *entries: str) -> None:
    config.path.write_text(f"model_config_list {{ {' '.join(entries)} }}")


def versions(folder: Path, *numbers: int) -> Path:
    for number in numbers:
        (folder / str(number)).mkdir(parents=True)
    return folder


SPECIFIC = "model_version_policy { specific { versions: 1 versions: 3 } }"
STABLE = 'version_labels { key: "stable" value: 1 }'
CANARY = 'version_labels { key: "canary" value: 3 }'


def test_without_a_file_there_are_no_labels(config: ModelsConfig, tmp_path: Path) -> None:
    assert config.text() == ""
    assert config.labels("garments") == {}
    assert config.all_labels() == {}
    assert config.listed("garments", tmp_path / "garments") == set()


def test_a_template_holds_until_there_is_a_file(config: ModelsConfig, tmp_path: Path) -> None:
    assert not config.exists
    template = tmp_path / "models.config.template"
    template.write_text(
        f"# Shipped.\nmodel_config_list {{ {entry('garments', SPECIFIC, STABLE)} }}"
    )
    assert config.exists
    assert config.labels("garments") == {"stable": 1}
    assert not config.path.exists()
    config.path.write_text("model_config_list {}")
    assert config.labels("garments") == {}


def test_the_first_change_begins_with_the_template(config: ModelsConfig, tmp_path: Path) -> None:
    template = tmp_path / "models.config.template"
    template.write_text(
        f"# Shipped.\nmodel_config_list {{ {entry('garments', SPECIFIC, STABLE)} }}"
    )
    before = template.read_text()
    with config.change("garments", tmp_path / "garments") as changed:
        set_versions(changed, {1, 4})
    assert config.listed("garments", tmp_path / "garments") == {1, 4}
    assert config.labels("garments") == {"stable": 1}
    assert config.path.read_text().startswith("# Shipped.\n")
    assert template.read_text() == before


def test_a_template_that_is_no_file_is_refused(config: ModelsConfig, tmp_path: Path) -> None:
    (tmp_path / "models.config.template").mkdir()
    with pytest.raises(ModelsConfigError, match="template"):
        config.labels("garments")


def test_labels_of_a_model(config: ModelsConfig) -> None:
    write(config, entry("garments", SPECIFIC, STABLE + CANARY), entry("other"))
    assert config.labels("garments") == {"canary": 3, "stable": 1}
    assert config.labels("other") == {}
    assert config.labels("unknown") == {}
    assert config.all_labels() == {"garments": {"canary": 3, "stable": 1}, "other": {}}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (SPECIFIC, {1, 3}),
        ("model_version_policy { all {} }", {1, 2, 5}),
        ("model_version_policy { latest { num_versions: 2 } }", {2, 5}),
        ("model_version_policy { latest { } }", {5}),
        ("", {5}),
    ],
)
def test_listed_versions_by_policy(
    config: ModelsConfig, tmp_path: Path, policy: str, expected: set[int]
) -> None:
    write(config, entry("garments", policy))
    folder = versions(tmp_path / "garments", 1, 2, 5)
    assert config.listed("garments", folder) == expected


def test_a_policy_of_a_missing_folder_lists_nothing(config: ModelsConfig, tmp_path: Path) -> None:
    write(config, entry("garments"))
    assert config.listed("garments", tmp_path / "garments") == set()


@pytest.mark.parametrize(
    "text",
    [
        "model_config_list {",
        "custom_model_config { }",
        "nonsense: 1",
        'model_config_list { config { name: "a" } config { name: "a" } }',
    ],
)
def test_an_invalid_file_is_refused(config: ModelsConfig, text: str) -> None:
    config.path.write_text(text)
    with pytest.raises(ModelsConfigError) as caught:
        config.labels("a")
    assert caught.value.hint is not None
    assert str(config.path) in caught.value.hint


def test_the_error_has_the_place_in_the_file(config: ModelsConfig) -> None:
    config.path.write_text("model_config_list {\n  nonsense: 1\n}")
    with pytest.raises(ModelsConfigError, match=r"2:3"):
        config.labels("a")


def test_a_file_that_cannot_be_read_is_refused(config: ModelsConfig) -> None:
    config.path.mkdir()
    with pytest.raises(ModelsConfigError):
        config.text()


def test_a_file_that_is_not_text_is_refused(config: ModelsConfig) -> None:
    config.path.write_bytes(b"\xff\xfe")
    with pytest.raises(ModelsConfigError):
        config.text()


def test_a_change_creates_the_file(tmp_path: Path) -> None:
    config = ModelsConfig(tmp_path / "models")
    with config.change("garments", tmp_path / "models" / "garments") as changed:
        set_versions(changed, {2, 1})
        changed.version_labels["stable"] = 1
    assert config.labels("garments") == {"stable": 1}
    assert config.listed("garments", tmp_path) == {1, 2}
    assert 'base_path: "/models/garments"' in config.text()
    assert config.text().startswith("#")


def test_a_change_keeps_the_other_models(config: ModelsConfig, tmp_path: Path) -> None:
    write(config, entry("other", SPECIFIC, STABLE), entry("garments"))
    with config.change("garments", tmp_path / "garments") as changed:
        changed.version_labels["stable"] = 4
    assert config.all_labels() == {"other": {"stable": 1}, "garments": {"stable": 4}}


def test_a_change_keeps_the_comments_at_the_top(config: ModelsConfig, tmp_path: Path) -> None:
    config.path.write_text("# by hand\n\nmodel_config_list { }")
    with config.change("garments", tmp_path / "garments") as changed:
        changed.version_labels["stable"] = 4
    assert config.text().startswith("# by hand\n\nmodel_config_list {")


def test_a_change_makes_the_policy_specific(config: ModelsConfig, tmp_path: Path) -> None:
    write(config, entry("garments", "model_version_policy { all {} }"))
    folder = versions(tmp_path / "garments", 1, 2)
    with config.change("garments", folder) as changed:
        changed.version_labels["stable"] = 1
    (folder / "3").mkdir()
    assert config.listed("garments", folder) == {1, 2}


def test_a_change_of_nothing_does_not_write(config: ModelsConfig, tmp_path: Path) -> None:
    write(config, entry("garments", SPECIFIC, STABLE))
    before = config.text()
    with config.change("garments", tmp_path / "garments") as changed:
        set_versions(changed, {3, 1})
    assert config.text() == before


def fail_after_a_change(config: ModelsConfig, folder: Path) -> None:
    with config.change("garments", folder) as changed:
        changed.version_labels["stable"] = 3
        raise RuntimeError


def test_a_change_that_fails_does_not_write(config: ModelsConfig, tmp_path: Path) -> None:
    write(config, entry("garments", SPECIFIC, STABLE))
    before = config.text()
    with pytest.raises(RuntimeError):
        fail_after_a_change(config, tmp_path / "garments")
    assert config.text() == before


def test_a_change_writes_through_a_link(config: ModelsConfig, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "real.config"
    real.parent.mkdir()
    real.write_text("model_config_list { }")
    config.path.symlink_to(real)
    with config.change("garments", tmp_path / "garments") as changed:
        changed.version_labels["stable"] = 4
    assert config.path.is_symlink()
    assert "garments" in real.read_text()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    config = ModelsConfig(tmp_path / "models")
    with pytest.raises(FolderError), config.change("garments", tmp_path / "garments"):
        pass


def test_a_label_of_a_missing_version_is_refused(config: ModelsConfig, tmp_path: Path) -> None:
    write(config, entry("garments", SPECIFIC, STABLE + CANARY))
    folder = versions(tmp_path / "garments", 1)
    with pytest.raises(ModelsConfigError):
        check_labels(config, "garments", folder)


def test_the_label_that_is_moved_may_be_of_a_missing_version(
    config: ModelsConfig, tmp_path: Path
) -> None:
    write(config, entry("garments", SPECIFIC, STABLE + CANARY))
    folder = versions(tmp_path / "garments", 1)
    check_labels(config, "garments", folder, moving="canary")


def test_labels_of_existing_versions_are_accepted(config: ModelsConfig, tmp_path: Path) -> None:
    write(config, entry("garments", SPECIFIC, STABLE + CANARY))
    check_labels(config, "garments", versions(tmp_path / "garments", 1, 3))


@pytest.mark.parametrize("labels", ["", STABLE])
def test_no_folder_fits_no_labels_only(config: ModelsConfig, tmp_path: Path, labels: str) -> None:
    write(config, entry("garments", SPECIFIC, labels))
    if labels:
        with pytest.raises(ModelsConfigError):
            check_labels(config, "garments", tmp_path / "garments")
    else:
        check_labels(config, "garments", tmp_path / "garments")
