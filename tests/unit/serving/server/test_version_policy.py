"""Which of the versions that exist a policy selects."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from servable_client._wire import wire_pb2 as wire
from servable_serving.repository.models_config import VersionPolicy, listed


def entry(policy: str) -> wire.ModelConfig:
    text = f"model_version_policy {{ {policy} }}" if policy else ""
    return text_format.Parse(text, wire.ModelConfig())


def read(policy: str) -> VersionPolicy:
    return VersionPolicy.read(entry(policy).model_version_policy)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", VersionPolicy(latest=1)),
        ("latest {}", VersionPolicy(latest=1)),
        ("latest { num_versions: 0 }", VersionPolicy(latest=1)),
        ("latest { num_versions: 3 }", VersionPolicy(latest=3)),
        ("all {}", VersionPolicy(latest=None, all=True)),
        ("specific {}", VersionPolicy(latest=None, specific=frozenset())),
        (
            "specific { versions: 2 versions: 5 }",
            VersionPolicy(latest=None, specific=frozenset({2, 5})),
        ),
    ],
)
def test_what_an_entry_says(text: str, policy: VersionPolicy) -> None:
    assert read(text) == policy


@pytest.mark.parametrize(
    ("policy", "selected"),
    [
        (VersionPolicy(), {10}),
        (VersionPolicy(latest=2), {9, 10}),
        (VersionPolicy(latest=9), {1, 2, 9, 10}),
        (VersionPolicy(latest=None, all=True), {1, 2, 9, 10}),
        (VersionPolicy(latest=None, specific=frozenset({2, 3})), {2}),
        (VersionPolicy(latest=None, specific=frozenset()), set()),
    ],
)
def test_what_is_selected(policy: VersionPolicy, selected: set[int]) -> None:
    assert policy.select([9, 1, 10, 2]) == selected


@pytest.mark.parametrize(
    "policy",
    [
        VersionPolicy(),
        VersionPolicy(latest=None, all=True),
        VersionPolicy(latest=None, specific=frozenset({1})),
    ],
)
def test_of_no_versions_none_is_selected(policy: VersionPolicy) -> None:
    assert policy.select([]) == set()


def test_specific_versions_are_listed_without_a_look_at_the_folder() -> None:
    def unexpected() -> list[int]:
        raise AssertionError

    assert listed(entry("specific { versions: 7 }"), unexpected) == {7}


def test_other_policies_list_what_is_there() -> None:
    assert listed(entry("latest { num_versions: 2 }"), lambda: [1, 2, 3]) == {2, 3}
