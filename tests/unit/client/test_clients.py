"""What both clients refuse when they are made or called, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from servable_client import AsyncClient, Client, InvalidInput

KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])


@KINDS
@pytest.mark.parametrize(
    "options",
    [
        {"version": 0},
        {"version": 1 << 63},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"model": ""},
        {"model": "a\0b"},
        {"label": ""},
        {"version": 1, "label": "stable"},
        {"server": "localhost:8500"},
    ],
    ids=str,
)
def test_invalid_options_are_refused(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        kind(**{"model": "shoes", **options})


@KINDS
@pytest.mark.parametrize(
    ("pictures", "options"),
    [
        ("boot.png", {}),
        (b"\x89PNG", {}),
        (3, {}),
        ([], {"batch_size": 0}),
        ([], {"concurrency": 0}),
        ([], {"on_error": "ignore"}),
        ([], {"timeout": -1}),
        ([], {"version": 1, "label": "stable"}),
    ],
    ids=str,
)
def test_classify_many_refuses_invalid_arguments_at_once(
    kind: Any, pictures: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        kind(model="shoes").classify_many(pictures, **options)


@KINDS
def test_a_client_shows_its_servers(kind: Any) -> None:
    client = kind("grpc://one,grpc://two", model="shoes", version=3)
    assert client.endpoint == "grpc://one:8500"
    assert client.endpoints == ("grpc://one:8500", "grpc://two:8500")
    assert repr(client).startswith(kind.__name__)
    assert "version=3" in repr(client)
    assert "split={'canary': 0.1}" in repr(kind(model="shoes", split={"canary": 0.1}))


def test_a_closed_client_refuses_calls() -> None:
    with Client("grpc://one", model="shoes") as client:
        pass
    with pytest.raises(InvalidInput):
        client.status()
