"""The REST side: rows and columns, paths, bad input."""

from __future__ import annotations

import gzip
import http.client
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import requests
from tests.conftest import NAME
from tests.functional.serving.calls import post

if TYPE_CHECKING:
    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{instances:", "JSON Parse error"),
        (b"\xff\xfe", "JSON Parse error"),
        (b"[1, 2]", "JSON Value: [1, 2] Is not object"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b"[" * 100_000, "JSON Parse error"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": [1], "inputs": [1]}, "expecting only one of"),
        ({"inputs": {"nosuch": 1}}, "Missing named input: image in 'inputs' object."),
        ({"instances": [{"nosuch": 1}]}, "does not have named input: nosuch"),
        ({"instances": [[["a"]]]}, "is not of expected type: uint8"),
        ({"instances": [[[1.5]]]}, "is not of expected type: uint8"),
        ({"instances": [[1, 2], [1]]}, "Expecting tensor size: 2 but got: 1"),
        ({"instances": [1]}, "not compatible with expected shape"),
        ({"instances": [[1, 2]]}, "not compatible with expected shape"),
        ({"instances": [[[1, 2], [3, 4]]]}, "not compatible with expected shape"),
        ({"signature_name": "nosuch", "instances": [1]}, '"nosuch" not found in signature def'),
        ({"signature_name": 3, "instances": [1]}, "must be a string value"),
        (
            {"signature_name": "serving_bytes", "instances": [{"b64": "bm8gcGljdHVyZQ=="}]},
            "Unknown image file format",
        ),
        ({"signature_name": "serving_bytes", "instances": [{"b64": "#"}]}, "Unable to base64"),
        ({"signature_name": "serving_bytes", "instances": [5]}, "not of expected type: string"),
        (b'{"instances": ' + b"9" * 5000 + b"}", "JSON Parse error"),
        (b'{"instances": ' + b"[" * 200 + b"1" + b"]" * 200 + b"}", "tensor parsing error: image"),
        (b'{"instances": ' + b'{"a":' * 600 + b"1" + b"}" * 600 + b"}", "to be an list/array"),
        (b'{"instances": ["\\ud800"]}', "The surrogate pair in string is invalid."),
        (b'{"signature_name": "\\udc00", "instances": [1]}', "not found in signature def"),
    ],
)
def test_a_malformed_request_is_a_400_with_a_reason(
    server: RunningServer, body: object, error: str
) -> None:
    reply = post(server, body)
    assert reply.status_code == 400
    assert reply.headers["Content-Type"] == "application/json"
    assert error in reply.json()["error"]


def test_rows_and_columns(server: RunningServer, dataset: Dataset) -> None:
    pictures = dataset.test.images[:2].tolist()
    rows = post(server, {"instances": pictures}).json()["predictions"]
    assert [row["label"] for row in rows] == ["Ankle boot", "Pullover"]
    named = post(server, {"instances": [{"image": p} for p in pictures]}).json()["predictions"]
    assert named == rows
    columns = post(server, {"inputs": {"image": pictures}}).json()["outputs"]
    assert columns["label"] == ["Ankle boot", "Pullover"]
    assert columns["probabilities"][0] == rows[0]["probabilities"]
    assert (
        post(server, {"inputs": pictures}, f"{NAME}/versions/1:predict").json()["outputs"]
        == columns
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/v1/models/{NAME}", 200),
        ("GET", f"/V1/MODELS/{NAME}/versions/1", 200),
        ("GET", f"/v1/models/{NAME}/metadata", 200),
        ("GET", f"/v1/models/{NAME}/versions/9", 404),
        ("GET", f"/v1/models/{NAME}/versions/{'9' * 20}", 400),
        ("GET", f"/v1/models/{NAME}/versions/abc", 400),
        ("GET", f"/v1/models/{NAME}/versions/0", 404),
        ("POST", f"/v1/models/{NAME}/versions/0:predict", 404),
        ("GET", f"/v1/models/{NAME}/versions/\u0661", 400),
        ("GET", "/v1/models/nosuch", 404),
        ("GET", "/v1/models/nosuch/metadata", 404),
        ("GET", "/v1/models", 400),
        ("GET", "/", 404),
        ("GET", "/v2/models", 404),
        ("PUT", f"/v1/models/{NAME}:predict", 400),
        ("DELETE", f"/v1/models/{NAME}", 400),
        ("GET", f"/v1/models/{NAME}:predict", 400),
        ("POST", f"/v1/models/{NAME}:explain", 400),
        ("POST", f"/v1/models/{NAME}/labels/canary:predict", 400),
    ],
)
def test_paths(server: RunningServer, method: str, path: str, status: int) -> None:
    body = b'{"instances": []}' if method == "POST" else None
    reply = requests.request(method, server.http + path, data=body, timeout=120)
    assert reply.status_code == status


def test_numbers_of_64_bits_are_strings_in_status(server: RunningServer) -> None:
    body = requests.get(f"{server.http}/v1/models/{NAME}", timeout=120).json()
    assert body == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def test_a_body_may_be_zipped(rich: RunningServer) -> None:
    body = b'{"instances": [[1, 2, 3]]}'

    def ask(data: bytes) -> requests.Response:
        return post(rich, data, "linear:predict", headers={"Content-Encoding": "gzip"})

    assert ask(gzip.compress(body)).json() == {"predictions": [[6.0, 11.0, 16.0]]}
    # What is not zipped, or not to its end, or is small only while it is zipped, is empty.
    for data in (body, gzip.compress(body)[:-4], gzip.compress(bytes(200 << 20))):
        assert ask(data).status_code == 400
        assert ask(data).json() == {"error": "JSON Parse error: The document is empty"}


def test_a_request_may_take_so_long_and_no_longer(rich: RunningServer) -> None:
    # A step takes a millisecond, and the server was given two seconds.
    began = time.monotonic()
    reply = post(rich, {"inputs": [100_000] * 10}, "slow:predict")
    assert reply.status_code == 504
    assert reply.json()["error"]
    assert time.monotonic() - began >= 2
    # What it did is given up with it: the next one has the processor for itself.
    assert post(rich, {"inputs": [10]}, "slow:predict").json()["outputs"]["steps"] == [10]


def test_connections_are_kept(rich: RunningServer) -> None:
    with requests.Session() as session:
        ports = set()
        for path in ("linear", "nosuch", "linear/metadata", "linear/versions/abc"):
            with session.get(f"{rich.http}/v1/models/{path}", stream=True, timeout=120) as reply:
                connection = reply.raw.connection
                assert connection is not None
                ports.add(connection.sock.getsockname()[1])
                assert reply.content is not None
        assert len(ports) == 1


def test_an_upgrade_to_http_2_keeps_the_body(server: RunningServer) -> None:
    """As Java's HttpClient sends its first POST."""
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AA"}
    address = server.http.removeprefix("http://")
    with closing(http.client.HTTPConnection(address, timeout=120)) as connection:
        for _ in range(2):  # on one connection
            connection.request("POST", f"/v1/models/{NAME}:predict", b'{"what": 1}', headers)
            answer = connection.getresponse()
            assert answer.status == 400
            assert b"Missing 'inputs' or 'instances' key" in answer.read()


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_an_input_name_that_is_not_utf_8_is_a_bad_request(server: RunningServer, key: str) -> None:
    named = b'{"\xff": 1}'
    body = b'{"%b": %b}' % (key.encode(), b"[%b]" % named if key == "instances" else named)
    with closing(http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)) as asked:
        asked.request("POST", f"/v1/models/{NAME}:predict", body)
        answer = asked.getresponse()
        assert answer.status == 400, answer.read()
        assert b"input" in answer.read()
