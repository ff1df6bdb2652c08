"""What both clients refuse when they are made or called, before anything is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from servable_client import TLS, AsyncClient, Client, InvalidInput, Retry, Split

KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])


@KINDS
@pytest.mark.parametrize(
    "options",
    [
        {"version": -1},
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
    ("name", "value"),
    [
        ("server", 5),
        ("server", [1]),
        ("server", b"grpc://user:secret@host"),
        ("model", None),
        ("model", b"shoes"),
        ("version", "1"),
        ("version", True),
        ("version", 1.0),
        ("label", 1),
        ("split", 5),
        ("timeout", "5"),
        ("timeout", None),
        ("timeout", True),
        ("timeout", float("nan")),
        ("retry", 3),
        ("tls", "ca.pem"),
        ("api_key", 5),
        ("token", b"secret"),
        ("plaintext_credentials", "no"),
        ("proxy", 5),
        ("trust_env", "no"),
        ("on_request", 5),
        ("on_response", "show"),
    ],
    ids=str,
)
def test_an_argument_of_another_type_is_named(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} must be .+") as caught:
        kind(**{"model": "shoes", name: value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("version", lambda client: client.predict({}, version="1")),
        ("version", lambda client: client.wait_until_available("1")),
        ("label", lambda client: client.classify(b"", label=1)),
        ("timeout", lambda client: client.predict({}, timeout="5")),
        ("timeout", lambda client: client.status(timeout=float("nan"))),
        ("timeout", lambda client: client.wait_until_available(timeout="5")),
        ("timeout", lambda client: client.reload_config("", timeout="5")),
        ("signature", lambda client: client.predict({}, signature=None)),
        ("signature", lambda client: client.classify_examples([{}], signature=5)),
        ("name", lambda client: client.signature(5)),
        ("inputs", lambda client: client.predict(None)),
        ("output_filter", lambda client: client.predict({}, output_filter=5)),
        ("examples", lambda client: client.classify_examples(5)),
        ("config", lambda client: client.reload_config(5)),
        ("batch_size", lambda client: client.classify_many([], batch_size="3")),
        ("concurrency", lambda client: client.classify_many([], concurrency=2.5)),
        ("on_error", lambda client: client.classify_many([], on_error=None)),
    ],
)
def test_an_argument_of_a_call_is_named(name: str, call: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} must be .+"):
        call(Client(model="shoes"))


@KINDS
def test_a_version_may_be_an_integer_of_numpy(kind: Any) -> None:
    assert "version=3" in repr(kind(model="shoes", version=np.int64(3)))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("attempts", lambda: Retry(attempts="3")),  # type: ignore[arg-type]
        ("attempts", lambda: Retry(attempts=2.5)),  # type: ignore[arg-type]
        ("initial", lambda: Retry(initial="1")),  # type: ignore[arg-type]
        ("budget", lambda: Retry(budget=None)),  # type: ignore[arg-type]
        ("ca", lambda: TLS(ca=5)),  # type: ignore[arg-type]
        ("server_name", lambda: TLS(server_name=5)),  # type: ignore[arg-type]
        ("seed", lambda: Split({"canary": 0.1}, seed="x")),  # type: ignore[arg-type]
        ("key", lambda: Split({"canary": 0.1}, key="x")),  # type: ignore[arg-type]
        ("the share of canary", lambda: Split({"canary": "x"})),  # type: ignore[dict-item]
    ],
)
def test_a_setting_of_another_type_is_named(name: str, make: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} must be .+"):
        make()


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
