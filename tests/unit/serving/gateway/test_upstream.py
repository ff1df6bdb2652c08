"""The addresses behind a name."""

from __future__ import annotations

import pytest

from servable_serving.gateway.upstream import parse_getent, resolve


def test_addresses_need_no_lookup() -> None:
    assert resolve(["127.0.0.2", "::1", "127.0.0.1", "127.0.0.2"], 0.0) == (
        "127.0.0.1",
        "127.0.0.2",
        "::1",
    )


@pytest.mark.parametrize(
    ("output", "addresses"),
    [
        ("10.0.0.1      STREAM serving\n10.0.0.2 STREAM \n", ["10.0.0.1", "10.0.0.2"]),
        ("fd00::1 STREAM serving\n", ["fd00::1"]),
        ("", []),
        ("\nserving STREAM\n", []),
    ],
)
def test_what_getent_prints(output: str, addresses: list[str]) -> None:
    assert parse_getent(output) == addresses
