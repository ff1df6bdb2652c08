"""Which requests the gateway allows, in front of a real server."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
import requests
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2
from tests.functional.gateway.gateway import (
    ADMIN_KEY,
    KEY,
    OTHER_KEY,
    ROWS,
    Gateway,
    gateway,
    slope_of,
)
from tests.functional.serving.calls import METHODS, MODEL, PREDICTION, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunningServer

from servable_client import AccessDenied, InvalidInput, Retry, ServableError, ServerBusy

SCHEMES = ("grpcs", "https", "grpc", "http")
ONCE = Retry(attempts=1)
HEADERS = {"x-api-key": KEY}


def secure_channel(gateway: Gateway) -> grpc.Channel:
    root = (gateway.folder / "certs" / "tls.crt").read_bytes()
    port = gateway.ports["tls"]
    return grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(root))


def refusal(gateway: Gateway, path: str, *, key: str = KEY, body: bytes = b"") -> grpc.RpcError:
    with secure_channel(gateway) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path, None, None)(body, metadata=(("x-api-key", key),), timeout=60)
    return caught.value


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme(guarded: Gateway, scheme: str) -> None:
    with guarded.client(scheme, api_key=KEY, retry=ONCE) as client:
        answer = client.predict({"x": np.array(ROWS, np.float32)}, version=2)
        assert answer["y"].tolist() == [[4.0, 7.0, 16.0]]
        assert {v.version for v in client.status()} == {1, 2, 3, 4}
        assert client.ready()
        assert "serving_default" in client.metadata()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("key", [None, "no-key-of-anybodys-at-all", KEY.upper(), KEY + "x"])
def test_a_missing_or_unknown_key_is_unauthenticated(
    guarded: Gateway, scheme: str, key: str | None
) -> None:
    with (
        guarded.client(scheme, api_key=key, retry=ONCE) as client,
        pytest.raises(AccessDenied, match="API key") as caught,
    ):
        client.status()
    assert caught.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_errors_of_the_client_name_the_request_of_the_log(
    guarded: Gateway, scheme: str
) -> None:
    found = []
    with guarded.client(scheme, api_key="no-key-of-anybodys-at-all", retry=ONCE) as client:
        with pytest.raises(AccessDenied) as refused:
            client.status()
        found.append(refused.value.request_id)
    with guarded.client(scheme, api_key=KEY, retry=ONCE) as client:
        with pytest.raises(InvalidInput) as invalid:
            client.predict({"nosuch": [1.0]})
        found.append(invalid.value.request_id)
    assert None not in found
    eventually(lambda: set(found) <= {line["request_id"] for line in guarded.lines()})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_key_may_come_as_a_bearer_token(guarded: Gateway, scheme: str) -> None:
    with guarded.client(scheme, token=OTHER_KEY, retry=ONCE) as client:
        assert client.ready()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /%2e%2e/x HTTP/1.1", 400),
        (b"GET /a%00 HTTP/1.1", 400),
        (b"POST /v1/models/%zz:predict HTTP/1.1", 400),
        (b"GET /v1/models/a b HTTP/1.1", 400),
        (b"GET x HTTP/1.1", 400),
        (b"PRI * HTTP/2.0", 400),
        (b"PRI * HTTP/1.1", 400),
        (b"\x16\x03\x01\x00\x05hello", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1", 414),
        (b"GET / HTTP/9.9", 505),
    ],
    ids=lambda value: None if isinstance(value, int) else repr(value[:24]),
)
def test_what_is_not_a_valid_request_line(guarded: Gateway, line: bytes, status: int) -> None:
    at = urlsplit(guarded.rest)
    with socket.create_connection((at.hostname, at.port), timeout=60) as connection:
        connection.sendall(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, list(json.loads(answer.read()))) == (status, ["error"])
        assert answer.headers["x-request-id"]


def test_refusals_over_rest_have_tensorflow_servings_shape(guarded: Gateway) -> None:
    for answer, status in (
        (guarded.ask(), 401),
        (guarded.ask("linear:regress", headers=HEADERS), 403),
        (guarded.ask("linear:multiInference", headers=HEADERS), 403),
        (guarded.get("/v1/models/linear:predict", headers=HEADERS), 405),
        (guarded.get("/v1/models", headers=HEADERS), 404),
        (guarded.get("/monitoring/prometheus/metrics", headers=HEADERS), 404),
        (requests.put(f"{guarded.rest}/v1/models/linear", headers=HEADERS, timeout=60), 405),
        (guarded.ask(data=b"x" * (5 << 20), json=None, headers=HEADERS), 413),
        # What it unpacks to is not known here.
        (guarded.ask(headers={**HEADERS, "content-encoding": "gzip"}), 415),
        (guarded.ask(headers={**HEADERS, "content-encoding": "x"}), 415),
        # The server's own errors are passed on.
        (guarded.ask("linear:predict", json={"instances": "?"}, headers=HEADERS), 400),
        (guarded.ask("shoes:predict", headers=HEADERS), 404),
    ):
        assert answer.status_code == status, (answer.status_code, answer.text)
        assert answer.headers["content-type"].startswith("application/json")
        assert list(answer.json()) == ["error"]
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "method",
    [f"{PREDICTION}Regress", f"{PREDICTION}MultiInference", f"{MODEL}HandleReloadConfigRequest"],
)
def test_other_methods_are_rejected(guarded: Gateway, method: str) -> None:
    error = refusal(guarded, method)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    details = error.details()
    assert details is not None
    assert "predict, classify, status and metadata" in details
    assert refusal(guarded, method, key="nobodys").code() is grpc.StatusCode.UNAUTHENTICATED


def test_unknown_services_are_unimplemented(guarded: Gateway) -> None:
    for path in ("/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/Nothing"):
        assert refusal(guarded, path).code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_reload_needs_an_admin_key(guarded: Gateway, backend: RunningServer) -> None:
    method = f"{MODEL}HandleReloadConfigRequest"
    response_type = METHODS[method][1]
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse((backend.log.parent / "models.config").read_text(), request.config)
    with secure_channel(guarded) as channel:
        answer = channel.unary_unary(method, None, None)(
            request.SerializeToString(), metadata=(("x-api-key", ADMIN_KEY),), timeout=60
        )
    response_type.FromString(answer)
    with guarded.client("grpcs", api_key=ADMIN_KEY) as client:
        assert client.ready()


def test_a_callers_own_text_is_no_admin_key(
    backend: RunningServer, keys: dict[str, Any], tmp_path: Path
) -> None:
    """Where callers need no key, every text is let through, and makes nobody an administrator."""
    admins = {"SERVABLE_ADMIN_KEYS_FILE": keys["SERVABLE_ADMIN_KEYS_FILE"]}
    forged = (
        "x:x:admin/", "x:x:admin/x", "x::x::admin/", "a::a", ":::admin/", "admin/", "admin/release",
        "admin/:admin/:admin/", f"{ADMIN_KEY}:", f"{ADMIN_KEY}:{ADMIN_KEY}:admin/release",
        ADMIN_KEY.upper(), f"k:{ADMIN_KEY}", "$stored_name", "\\k<same_key>:admin/",
    )  # fmt: skip
    method = f"{MODEL}HandleReloadConfigRequest"
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse((backend.log.parent / "models.config").read_text(), request.config)
    with gateway(tmp_path, grpc_port=backend.port, rest_port=backend.rest_port, **admins) as opened:
        channel = grpc.insecure_channel(f"127.0.0.1:{opened.ports['grpc']}")
        reload = channel.unary_unary(method, None, None)
        for header in ("x-api-key", "authorization"):
            for text in forged:
                said = text if header == "x-api-key" else f"Bearer {text}"
                with pytest.raises(grpc.RpcError) as caught:
                    reload(request.SerializeToString(), metadata=((header, said),), timeout=60)
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED, text
        reload(request.SerializeToString(), metadata=(("x-api-key", ADMIN_KEY),), timeout=60)
        channel.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_large_bodies(guarded: Gateway, scheme: str) -> None:
    """4 MiB may pass, in gRPC's messages as in JSON."""
    rows = 250_000
    with guarded.client(scheme, api_key=KEY, retry=ONCE, timeout=120) as client:
        # 3 MB over gRPC, 3.5 as JSON.
        answer = client.predict({"x": np.ones([rows, 3], np.float32)}, version=1)
        assert answer["y"].shape == (rows, 3)
        with pytest.raises((ServerBusy, InvalidInput), match="maximum size"):
            client.predict({"x": np.ones([3 * rows, 3], np.float32)}, version=1)


def test_the_response_names_its_version(guarded: Gateway) -> None:
    for path, label, version in (
        ("linear:predict", "stable", "1"),
        ("linear/labels/canary:predict", "canary", "2"),
        ("linear/versions/2:predict", None, "2"),
    ):
        answer = guarded.ask(path, headers=HEADERS)
        assert slope_of(answer.json()["predictions"]) == int(version) + 1
        assert answer.headers.get("x-servable-label") == label
        assert answer.headers["x-servable-version"] == version


def test_the_log_names_the_key_the_model_and_the_version(guarded: Gateway) -> None:
    mine = "a-request-of-this-test"

    def told() -> list[dict[str, str]]:
        return [line for line in guarded.lines() if line["request_id"] == mine]

    body = json.dumps({"instances": ROWS}).encode()
    with closing(HTTPConnection("127.0.0.1", guarded.ports["rest"], timeout=60)) as connection:
        connection.putrequest("POST", "/v1/models/linear/labels/canary:predict")
        for name, value in {**HEADERS, "x-request-id": mine, "content-length": len(body)}.items():
            connection.putheader(name, str(value))
        connection.endheaders()
        # The server is asked once all is there. So the whole takes longer than the server by far
        # more than nginx' two clocks are apart, of milliseconds each.
        time.sleep(0.05)
        connection.send(body)
        assert connection.getresponse().status == 200
    # A line is written when the answer has been sent, each by the worker that sent it.
    eventually(lambda: len(told()) == 1)
    guarded.ask(headers={"x-api-key": "wrong-key-that-must-stay-out", "x-request-id": mine})
    eventually(lambda: len(told()) == 2)
    with secure_channel(guarded) as channel:
        method = f"{MODEL}GetModelStatus"
        request = METHODS[method][0](model_spec={"name": "linear"}).SerializeToString()
        channel.unary_unary(method, None, None)(
            request, metadata=(("x-api-key", KEY), ("x-request-id", mine)), timeout=60
        )
    eventually(lambda: len(told()) == 3)
    first, second, third = told()
    assert first["key"] == "alice"
    assert (first["model"], first["label"], first["version"]) == ("linear", "canary", "2")
    assert (first["method"], first["status"], first["transport"]) == ("predict", "200", "rest")
    assert float(first["upstream_seconds"]) <= float(first["seconds"])
    assert (second["key"], second["status"], second["upstream"]) == ("", "401", "")
    assert (third["method"], third["transport"]) == ("GetModelStatus", "grpc")
    assert (third["status"], third["grpc_status"], third["tls"]) == ("200", "0", "TLSv1.3")
    assert "wrong-key" not in (guarded.folder / "access.log").read_text() + guarded.said


def test_a_key_in_an_address_is_none_and_is_not_logged(guarded: Gateway) -> None:
    answer = guarded.ask(f"linear:predict?key={KEY}")
    assert answer.status_code == 401


def test_cors(guarded: Gateway) -> None:
    address = f"{guarded.rest}/v1/models/linear:predict"
    asked = {"access-control-request-method": "POST", "origin": "https://app.example"}
    answer = requests.options(address, headers=asked, timeout=60)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-api-key" in answer.headers["access-control-allow-headers"]
    for headers in (HEADERS, {}):  # its page can read the refusal too
        answer = guarded.ask(headers={**headers, "origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["vary"] == "Origin"
        answer = guarded.ask(headers={**headers, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers
    asked["origin"] = "https://evil.example"
    answer = requests.options(address, headers=asked, timeout=60)
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_needs_no_key_and_may_load_nothing_from_elsewhere(guarded: Gateway) -> None:
    page = guarded.get("/")
    assert page.ok
    assert "<title>Servable</title>" in page.text
    assert page.headers["content-type"] == "text/html"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "trusted-types 'none'" in policy
    (guarded.folder / "web" / "README.md").write_text("for people")
    assert guarded.get("/README.md").status_code == 404
    assert guarded.get("/../log").status_code == 404
    nothing = guarded.get("/nothing")
    assert (nothing.status_code, list(nothing.json())) == (404, ["error"])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_invalid_input_is_rejected_by_the_server(guarded: Gateway, scheme: str) -> None:
    with (
        guarded.client(scheme, api_key=KEY, retry=ONCE) as client,
        pytest.raises(ServableError, match="input") as caught,
    ):
        client.predict({"nonsense": np.ones([1, 3], np.float32)}, version=1)
    assert caught.value.code in {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}
