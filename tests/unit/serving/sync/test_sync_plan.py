"""Which models.config a sync accepts, and which intermediate one it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable_client._wire.model_config import config_of
from servable_serving.repository.sync_plan import (
    SyncError,
    checked_config,
    config_between,
    described,
    follows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from servable_client._wire import wire_pb2 as wire

URL = "s3://bucket/models"


def entry(
    name: str = "m",
    *,
    versions: Sequence[int] = (),
    labels: Mapping[str, int] | None = None,
    policy: str | None = None,
    base_path: str | None = None,
) -> str:
    specific = "specific { " + " ".join(f"versions: {v}" for v in versions) + " }"
    return (
        f'config {{ name: "{name}" base_path: "{base_path or f"/models/{name}"}" '
        f"model_version_policy {{ {policy or specific} }} "
        + " ".join(
            f'version_labels {{ key: "{label}" value: {version} }}'
            for label, version in (labels or {}).items()
        )
        + " }"
    )


def text_of(*entries: str) -> str:
    return f"model_config_list {{ {' '.join(entries)} }}"


def parsed(*entries: str) -> wire.ModelServerConfig:
    return config_of(text_of(*entries))


def listed(config: wire.ModelServerConfig, model: str = "m") -> list[int]:
    (found,) = (e for e in config.model_config_list.config if e.name == model)
    return sorted(found.model_version_policy.specific.versions)


def labels(config: wire.ModelServerConfig, model: str = "m") -> dict[str, int]:
    (found,) = (e for e in config.model_config_list.config if e.name == model)
    return dict(found.version_labels)


def test_a_usual_config_is_accepted() -> None:
    config = checked_config(text_of(entry(versions=[1], labels={"stable": 1})), URL)
    assert (listed(config), labels(config)) == ([1], {"stable": 1})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# a comment alone",
        "model_config_list { }",
        "model_config_list {",
        "<html>",
        text_of(entry("../x", base_path="/models/../x")),
        text_of(entry("m", base_path="/etc")),
        text_of(entry("m", base_path="/models/other")),
        text_of(entry("m", base_path="models/m")),
        text_of(entry(versions=[0])),
        text_of(entry(versions=[-1])),
        text_of(entry(versions=[1], labels={"stable": 0})),
        text_of(entry("good", versions=[1]), entry("bad", base_path="/etc")),
    ],
)
def test_a_config_that_no_server_may_apply_is_refused(text: str) -> None:
    with pytest.raises(SyncError, match=URL):
        checked_config(text, URL)


@pytest.mark.parametrize("base_path", ["/models/m", "/models/m/", "/models//m"])
def test_spellings_of_the_models_folder_are_accepted(base_path: str) -> None:
    checked_config(text_of(entry(versions=[1], base_path=base_path)), URL)


@pytest.mark.parametrize("policy", ["latest { num_versions: 2 }", "all { }"])
def test_a_policy_that_names_no_versions_follows_the_folder(policy: str) -> None:
    (found,) = parsed(entry(policy=policy)).model_config_list.config
    assert follows(found)


def test_a_policy_that_names_versions_does_not_follow_the_folder() -> None:
    (found,) = parsed(entry(versions=[1])).model_config_list.config
    assert not follows(found)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "models.config"


def test_a_label_that_moves_to_a_new_version_waits(here: Path) -> None:
    here.write_text(text_of(entry(versions=[1], labels={"stable": 1})))
    new = parsed(entry(versions=[1, 2], labels={"stable": 2}))
    between, moving, moved = config_between(here, new, asked=True)
    assert (listed(between), labels(between)) == ([1, 2], {"stable": 1})
    assert (moving, moved) == ({("m", 2)}, True)


def test_the_new_config_is_not_changed(here: Path) -> None:
    here.write_text(text_of(entry(versions=[1], labels={"stable": 1})))
    new = parsed(entry(versions=[2], labels={"stable": 2}))
    config_between(here, new, asked=True)
    assert (listed(new), labels(new)) == ([2], {"stable": 2})


def test_versions_that_are_dropped_stay_in_between(here: Path) -> None:
    here.write_text(text_of(entry(versions=[1, 2], labels={"stable": 2})))
    new = parsed(entry(versions=[3], labels={"stable": 3}))
    between, _, _ = config_between(here, new, asked=False)
    assert listed(between) == [1, 2, 3]


def test_a_label_that_moves_to_a_listed_version_waits_for_the_server(here: Path) -> None:
    here.write_text(text_of(entry(versions=[1, 2], labels={"stable": 1})))
    new = parsed(entry(versions=[1, 2], labels={"stable": 2}))
    between, moving, moved = config_between(here, new, asked=True)
    assert labels(between) == {"stable": 1}
    assert (moving, moved) == ({("m", 2)}, True)


def test_a_listed_version_is_taken_to_be_loaded_where_no_server_is_asked(here: Path) -> None:
    here.write_text(text_of(entry(versions=[1, 2], labels={"stable": 1})))
    new = parsed(entry(versions=[1, 2], labels={"stable": 2}))
    between, moving, moved = config_between(here, new, asked=False)
    assert labels(between) == {"stable": 2}
    assert (moving, moved) == (set(), True)


@pytest.mark.parametrize("asked", [True, False])
def test_a_new_label_moves_nothing(here: Path, asked: bool) -> None:
    here.write_text(text_of(entry(versions=[1], labels={"stable": 1})))
    new = parsed(entry(versions=[1, 2], labels={"stable": 1, "canary": 2}))
    between, moving, moved = config_between(here, new, asked=asked)
    assert labels(between) == {"stable": 1, "canary": 2}
    assert (moving, moved) == (set(), False)


def test_a_label_that_is_dropped_moves_nothing(here: Path) -> None:
    here.write_text(text_of(entry(versions=[1, 2], labels={"stable": 1, "canary": 2})))
    new = parsed(entry(versions=[1], labels={"stable": 1}))
    between, moving, moved = config_between(here, new, asked=True)
    assert labels(between) == {"stable": 1}
    assert (moving, moved) == (set(), False)


def test_only_the_labels_that_move_wait(here: Path) -> None:
    here.write_text(text_of(entry(versions=[1, 2], labels={"stable": 1, "canary": 2})))
    new = parsed(entry(versions=[1, 2, 3], labels={"stable": 1, "canary": 3}))
    between, moving, _ = config_between(here, new, asked=True)
    assert labels(between) == {"stable": 1, "canary": 2}
    assert moving == {("m", 3)}


def test_models_are_independent(here: Path) -> None:
    here.write_text(text_of(
        entry("a", versions=[1], labels={"stable": 1}),
        entry("b", versions=[1], labels={"stable": 1}),
    ))  # fmt: skip
    new = parsed(
        entry("a", versions=[1, 2], labels={"stable": 2}),
        entry("b", versions=[1], labels={"stable": 1}),
    )
    between, moving, _ = config_between(here, new, asked=True)
    assert moving == {("a", 2)}
    assert (labels(between, "b"), listed(between, "b")) == ({"stable": 1}, [1])


def test_a_new_model_waits_for_nothing(here: Path) -> None:
    here.write_text(text_of(entry("a", versions=[1], labels={"stable": 1})))
    new = parsed(entry("b", versions=[2], labels={"stable": 2}))
    assert config_between(here, new, asked=True) == (new, set(), False)


@pytest.mark.parametrize("content", [None, "model_config_list {", ""])
def test_without_a_config_that_was_applied_nothing_waits(here: Path, content: str | None) -> None:
    if content is not None:
        here.write_text(content)
    new = parsed(entry(versions=[2], labels={"stable": 2}))
    assert config_between(here, new, asked=True) == (new, set(), False)


@pytest.mark.parametrize("before", ["all { }", "latest { num_versions: 1 }"])
def test_a_policy_that_followed_the_folder_waits_for_nothing(here: Path, before: str) -> None:
    here.write_text(text_of(entry(policy=before, labels={"stable": 1})))
    new = parsed(entry(versions=[2], labels={"stable": 2}))
    assert config_between(here, new, asked=True)[1] == set()


def test_a_config_is_described_on_one_line() -> None:
    config = parsed(
        entry("a", versions=[1, 2], labels={"stable": 1, "canary": 2}), entry("b", versions=[1])
    )
    assert described(config) == "a canary 2 stable 1; b"
