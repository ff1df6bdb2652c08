"""TLS, keys and tokens, and that no secret is shown."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.conftest import NAME
from tests.functional.client.conftest import KINDS
from tests.functional.client.gateways import Refusal

import servable_client as sdk
from servable_client import TLS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from tests.functional.client.conftest import Certificates

SECRET = "s3cr3t-of-mine"


def credentials(scheme: str, certificates: Certificates, *, mutual: bool = False) -> Any:
    if scheme == "https":
        return certificates.server_context(mutual=mutual)
    pair = certificates.server
    return grpc.ssl_server_credentials(
        [(pair.private_key_pem.bytes(), b"".join(c.bytes() for c in pair.cert_chain_pems))],
        certificates.ca.read_bytes() if mutual else None,
        mutual,
    )


@pytest.mark.parametrize("secure", ["grpcs", "https"])
def test_tls(
    make: Callable[..., Any],
    gateway: Callable[..., Any],
    certificates: Certificates,
    secure: str,
    boot: np.ndarray,
) -> None:
    at = gateway(secure, lambda *_: None, credentials=credentials(secure, certificates)).address
    assert at.startswith(f"{secure}://")
    with make(at, model=NAME, tls=TLS(ca=certificates.ca)) as client:
        assert client.classify(boot).label == "Ankle boot"
        assert len(list(client.classify_many([boot] * 9, batch_size=4))) == 9
    with make(at, model=NAME, timeout=2) as client, pytest.raises(sdk.ConnectionFailed):
        client.classify(boot)  # signed by an unknown CA
    tls = TLS(ca=certificates.ca, server_name="models.example")
    with make(at, model=NAME, tls=tls) as client:
        assert client.ready()
    tls = TLS(ca=certificates.ca, server_name="other.example")
    with (
        make(at, model=NAME, tls=tls, timeout=2) as client,
        pytest.raises(sdk.ConnectionFailed),
    ):
        client.status()


@pytest.mark.parametrize(
    ("kind", "secure"),
    # grpcio does not tell a certificate that is not valid from a server that is down.
    [("sync", "grpcs"), ("sync", "https"), ("async", "https")],
)
def test_a_certificate_of_an_unknown_authority_fails_at_once(
    gateway: Callable[..., Any], certificates: Certificates, kind: str, secure: str
) -> None:
    at = gateway(secure, lambda *_: None, credentials=credentials(secure, certificates)).address
    attempts: list[object] = []
    with (
        KINDS[kind](at, model=NAME, timeout=60, on_response=attempts.append) as client,
        pytest.raises(sdk.ConnectionFailed) as caught,
    ):
        client.status()
    assert len(attempts) == 1
    assert "certificate" in (caught.value.hint or "")


@pytest.mark.parametrize("secure", ["grpcs", "https"])
def test_mutual_tls(
    make: Callable[..., Any], gateway: Callable[..., Any], certificates: Certificates, secure: str
) -> None:
    wanted = credentials(secure, certificates, mutual=True)
    at = gateway(secure, lambda *_: None, credentials=wanted).address
    mine = TLS(ca=certificates.ca, certificate=certificates.certificate, key=certificates.key)
    with make(at, model=NAME, tls=mine) as client:
        assert client.status()[0].version == 1
    with (
        make(at, model=NAME, tls=TLS(ca=certificates.ca), timeout=2) as client,
        pytest.raises(sdk.ConnectionFailed),
    ):
        client.status()


def rotating() -> Any:
    count = itertools.count(1)
    return lambda: f"{SECRET}-{next(count)}"


def test_keys_and_tokens_are_sent(
    make: Callable[..., Any], gateway: Callable[..., Any], scheme: str
) -> None:
    def decide(_: str, headers: dict[str, str]) -> Refusal | None:
        if "x-api-key" not in headers and "authorization" not in headers:
            return Refusal("UNAUTHENTICATED", "who are you?")
        return None

    front = gateway(scheme, decide)
    for options, header, values in (
        ({"api_key": SECRET}, "x-api-key", [SECRET, SECRET]),
        ({"token": SECRET}, "authorization", [f"Bearer {SECRET}"] * 2),
        ({"api_key": rotating()}, "x-api-key", [f"{SECRET}-1", f"{SECRET}-2"]),
        ({"token": rotating()}, "authorization", [f"Bearer {SECRET}-1", f"Bearer {SECRET}-2"]),
    ):
        front.seen.clear()
        with make(front.address, model=NAME, **options) as client:
            client.status()
            client.status()
            assert [headers[header] for _, headers in front.seen] == values
            assert SECRET not in repr(client)
    with make(front.address, model=NAME) as client, pytest.raises(sdk.AccessDenied) as caught:
        client.status()
    assert "api_key" in (caught.value.hint or "")


def test_a_token_may_come_from_a_coroutine(gateway: Callable[..., Any], scheme: str) -> None:
    from tests.functional.client.conftest import Blocking

    async def token() -> str:
        return SECRET

    front = gateway(scheme, lambda *_: None)
    with Blocking(front.address, model=NAME, token=token) as client:
        client.status()
    assert front.seen[0][1]["authorization"] == f"Bearer {SECRET}"


def test_no_secret_is_shown(
    make: Callable[..., Any],
    gateway: Callable[..., Any],
    scheme: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[object] = []
    front = gateway(scheme, lambda *_: Refusal("UNAVAILABLE"))
    with make(
        front.address, model=NAME, api_key=SECRET, token=SECRET,
        on_request=seen.append, on_response=seen.append,
    ) as client, pytest.raises(sdk.ConnectionFailed) as caught:  # fmt: skip
        client.status()
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert seen
    assert SECRET not in repr(seen)
    assert caplog.records
    assert all(SECRET not in record.getMessage() for record in caplog.records)
