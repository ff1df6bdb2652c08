"""Operations as REST requests, and the answers back."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
import pytest
from tests.unit.client.harness import MODEL, http, http_metadata, http_status

from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client.codec.http import HttpReply, HttpRequest, decode, encode
from servable_client.net.endpoints import parse_servers
from servable_client.types.answers import Signature, TensorSpec
from servable_client.types.operations import (
    ClassifyOperation,
    Failure,
    MetadataOperation,
    PredictOperation,
    ReloadOperation,
    StatusOperation,
    Target,
    UnexpectedResponse,
)

(ENDPOINT,) = parse_servers("http://one")
TARGET = Target(model=MODEL)
METADATA = MetadataOperation(target=TARGET)
STATUS = StatusOperation(target=TARGET)
CLASSIFY = ClassifyOperation(target=Target(model=MODEL, version=2), signature="c", examples=[])


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def predict(
    inputs: dict[str, Any] | None = None,
    outputs: dict[str, str] | None = None,
    wanted: tuple[str, ...] = (),
    known_inputs: dict[str, str] | None = None,
) -> PredictOperation:
    known = Signature(
        inputs={n: TensorSpec(dtype=d, shape=None) for n, d in (known_inputs or {}).items()},
        outputs={n: TensorSpec(dtype=d, shape=None) for n, d in (outputs or {}).items()},
        method="m",
    )
    return PredictOperation(
        target=Target(model=MODEL, version=4),
        signature="s",
        inputs={name: np.asarray(value) for name, value in (inputs or {}).items()},
        outputs=wanted,
        known=known,
    )


def sent(operation: Any) -> HttpRequest:
    return encode(ENDPOINT, operation, (("x-api-key", "k"),))


def body(operation: Any) -> Any:
    request = sent(operation)
    assert request.body is not None
    return orjson.loads(request.body)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (TARGET, f"/v1/models/{MODEL}"),
        (Target(model=MODEL, version=7), f"/v1/models/{MODEL}/versions/7"),
        (Target(model=MODEL, label="a b"), f"/v1/models/{MODEL}/labels/a%20b"),
        (Target(model="a/b?c"), "/v1/models/a%2Fb%3Fc"),
    ],
)
def test_the_target_is_in_the_path(target: Target, path: str) -> None:
    assert sent(StatusOperation(target=target)).path == path
    assert sent(MetadataOperation(target=target)).path == path + "/metadata"


def test_a_request_without_a_body_has_the_headers_alone() -> None:
    request = sent(STATUS)
    assert request.body is None
    assert request.headers == [(b"x-api-key", b"k")]


def test_a_request_with_a_body_names_its_type() -> None:
    assert (b"Content-Type", b"application/json") in sent(predict()).headers


def test_predict_carries_signature_and_inputs() -> None:
    operation = predict({"x": np.array([[1, 2]], np.int32)})
    assert sent(operation).path.endswith("/versions/4:predict")
    assert body(operation) == {"signature_name": "s", "inputs": {"x": [[1, 2]]}}


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([1.5, 2], np.float32), [1.5, 2]),
        (np.array([1.5], np.float16), [1.5]),
        (np.array(3, np.int64), 3),
        (np.array([True, False]), [True, False]),
        (np.array([1, 2], ">i4"), [1, 2]),
        (np.array([[1, 2], [3, 4]], np.uint8).T, [[1, 3], [2, 4]]),
        (np.array([b"a\0", "é"], object), [b64(b"a\0"), b64("é".encode())]),
        (np.array([[b"a"]], "S1"), [[b64(b"a")]]),
        (np.zeros([0, 2], np.float32), []),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_arrays_as_json(array: np.ndarray, expected: Any) -> None:
    assert body(predict({"x": array}))["inputs"]["x"] == expected


def test_numbers_that_are_not_finite_are_written_by_name() -> None:
    request = sent(predict({"x": np.array([np.nan, np.inf, -np.inf])}))
    assert b"[NaN, Infinity, -Infinity]" in (request.body or b"")


def test_complex_numbers_have_no_form_in_json() -> None:
    with pytest.raises(InvalidInput):
        sent(predict({"x": np.array([1j])}))


@pytest.mark.parametrize("array", [np.zeros(1, np.float32), np.zeros(1, np.int32)])
def test_another_dtype_than_the_signatures_is_a_failure(array: np.ndarray) -> None:
    with pytest.raises(Failure) as caught:
        sent(predict({"x": array}, known_inputs={"x": "DT_UINT8", "missing": "DT_FLOAT"}))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_the_signatures_dtype_is_sent() -> None:
    operation = predict({"x": np.zeros(1, np.uint8)}, known_inputs={"x": "DT_UINT8"})
    assert body(operation)["inputs"] == {"x": [0]}


def test_classify_carries_examples_and_their_context() -> None:
    operation = ClassifyOperation(
        target=TARGET,
        signature="c",
        examples=[{"i": 1, "f": [0.5], "b": b"x"}],
        context={"t": "y"},
    )
    assert sent(operation).path.endswith(":classify")
    assert body(operation) == {
        "examples": [{"i": [1], "f": [0.5], "b": [b64(b"x")]}],
        "signature_name": "c",
        "context": {"t": [b64(b"y")]},
    }


def test_classify_without_signature_or_context_leaves_them_out() -> None:
    operation = ClassifyOperation(target=TARGET, signature="", examples=[])
    assert body(operation) == {"examples": []}


def test_a_reload_has_no_form_in_rest() -> None:
    with pytest.raises(InvalidInput) as caught:
        sent(ReloadOperation(target=TARGET, config=wire.ModelServerConfig()))
    assert caught.value.hint


# -- answers ------------------------------------------------------------------------------------


def test_outputs_take_the_signatures_dtypes() -> None:
    operation = predict(outputs={"y": "DT_FLOAT", "n": "DT_INT64"})
    answer = decode(operation, http({"outputs": {"y": [[0.5]], "n": [3]}}))
    assert (answer["y"].dtype, answer["n"].dtype) == (np.float32, np.int64)
    assert answer["y"].tolist() == [[0.5]]
    assert answer.version == 4


def test_the_only_output_comes_without_its_name() -> None:
    answer = decode(predict(outputs={"y": "DT_FLOAT"}), http({"outputs": [1, 2]}))
    assert answer["y"].tolist() == [1, 2]


def test_strings_are_bytes() -> None:
    answer = decode(
        predict(outputs={"y": "DT_STRING"}), http({"outputs": [["a"], [b64(b"\xff\0")]]})
    )
    assert answer["y"].tolist() == [[b"a"], [b"\xff\0"]]


def test_no_strings_are_an_empty_array() -> None:
    answer = decode(predict(outputs={"y": "DT_STRING"}), http({"outputs": []}))
    assert answer["y"].shape == (0,)


def test_a_string_that_is_not_utf8_keeps_its_bytes() -> None:
    reply = HttpReply(200, [], b'{"outputs": ["\xff\xfe"]}')
    assert decode(predict(outputs={"y": "DT_STRING"}), reply)["y"].tolist() == [b"\xff\xfe"]


def test_names_of_numbers_that_are_not_finite_are_read() -> None:
    reply = HttpReply(200, [], b'{"outputs": [NaN, Infinity, -Infinity]}')
    values = decode(predict(outputs={"y": "DT_FLOAT"}), reply)["y"]
    np.testing.assert_array_equal(values, [np.nan, np.inf, -np.inf])


def test_only_the_outputs_wanted_are_kept() -> None:
    operation = predict(outputs={"y": "DT_FLOAT", "z": "DT_FLOAT"}, wanted=("z",))
    answer = decode(operation, http({"outputs": {"y": [1], "z": [2]}}))
    assert list(answer) == ["z"]


def test_classes_have_labels_and_scores() -> None:
    answer = decode(CLASSIFY, http({"results": [[["boot", 0.1], ["bag", 0.9]], []]}))
    assert answer.results == [
        [("boot", float(np.float32(0.1)), None), ("bag", float(np.float32(0.9)), None)],
        [],
    ]
    assert answer.version == 2


def test_metadata_has_each_signature() -> None:
    signatures: Any = {"s": ({"x": ("DT_FLOAT", (-1, 3))}, {"y": ("DT_STRING", None)})}
    answer = decode(METADATA, http_metadata(2, signatures))
    found = answer.signatures["s"]
    assert answer.version == 2
    assert (found.inputs["x"].dtype, found.inputs["x"].shape) == ("DT_FLOAT", (-1, 3))
    assert found.outputs["y"].shape is None


def test_version_0_is_a_version() -> None:
    assert decode(METADATA, http_metadata(0)).version == 0
    assert sent(StatusOperation(target=Target(model=MODEL, version=0))).path.endswith("/versions/0")


def test_a_server_may_leave_out_the_version() -> None:
    body = orjson.loads(http_metadata(1).body)
    del body["model_spec"]["version"]
    assert decode(METADATA, http(body)).version is None


def test_statuses_come_highest_first() -> None:
    answer = decode(STATUS, http_status((1, "END"), (2, "AVAILABLE")))
    assert [(v.version, v.state) for v in answer] == [(2, "AVAILABLE"), (1, "END")]


UNEXPECTED: list[Any] = [
    {},
    [],
    None,
    3,
    "text",
    {"outputs": 3},
    {"results": [[1]]},
    {"metadata": 1},
]


@pytest.mark.parametrize("content", UNEXPECTED, ids=str)
@pytest.mark.parametrize(
    "operation",
    [predict(outputs={"y": "DT_FLOAT", "z": "DT_FLOAT"}), CLASSIFY, METADATA, STATUS],
    ids=lambda o: o.method,
)
def test_json_in_another_form_is_unexpected(operation: Any, content: Any) -> None:
    with pytest.raises(UnexpectedResponse):
        decode(operation, http(content))


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"", b"\xff\xfe", b"[" * 100_000],
    ids=["html", "empty", "bytes", "deep"],
)
def test_a_body_that_is_not_json_is_unexpected(body: bytes) -> None:
    with pytest.raises(UnexpectedResponse):
        decode(STATUS, HttpReply(200, [], body))


def test_an_operation_without_a_known_signature_is_unexpected() -> None:
    operation = PredictOperation(target=TARGET, signature="s", inputs={})
    with pytest.raises(UnexpectedResponse):
        decode(operation, http({"outputs": [1]}))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (408, "DEADLINE_EXCEEDED"),
        (409, "ABORTED"),
        (412, "FAILED_PRECONDITION"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (418, "UNKNOWN"),
        (204, "UNKNOWN"),
    ],
)
def test_each_status_has_its_code(status: int, code: str) -> None:
    with pytest.raises(Failure) as caught:
        decode(STATUS, http({"error": "the reason"}, status))
    failure = caught.value
    assert (failure.code, failure.message) == (code, "the reason")
    assert failure.http_status == status


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"error": ""}'])
def test_an_error_without_a_reason_names_the_status(body: bytes) -> None:
    with pytest.raises(Failure) as caught:
        decode(STATUS, HttpReply(503, [], body))
    assert "503" in caught.value.message


@pytest.mark.parametrize(
    ("value", "delay"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
    ],
)
def test_retry_after(value: str, delay: float | None) -> None:
    with pytest.raises(Failure) as caught:
        decode(STATUS, http({"error": "busy"}, 429, {"Retry-After": value}))
    assert caught.value.retry_after == delay


def test_retry_after_as_a_date_ahead() -> None:
    with pytest.raises(Failure) as caught:
        decode(STATUS, http({}, 429, {"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}))
    assert (caught.value.retry_after or 0) > 0


def test_no_retry_after() -> None:
    with pytest.raises(Failure) as caught:
        decode(STATUS, http({}, 429, {"Server": "x"}))
    assert caught.value.retry_after is None


def test_text_that_is_not_utf8_is_shown() -> None:
    body = http_status((1, "END")).body.replace(b'"error_message":""', b'"error_message":"caf\xe9"')
    (status,) = decode(STATUS, HttpReply(200, [], body))
    assert status.error_message == "caf\N{REPLACEMENT CHARACTER}"
    with pytest.raises(Failure, match="caf\N{REPLACEMENT CHARACTER}"):
        decode(STATUS, HttpReply(500, [], b'{"error": "caf\xe9"}'))


@pytest.mark.parametrize("dtype", ["DT_VARIANT", "DT_99"])
def test_an_output_whose_dtype_is_not_supported_is_named(dtype: str) -> None:
    known = Signature(inputs={}, outputs={"y": TensorSpec(dtype=dtype, shape=(1,))}, method="")
    operation = PredictOperation(target=Target(MODEL), signature="s", inputs={}, known=known)
    with pytest.raises(InvalidInput, match="output y"):
        decode(operation, http({"outputs": [1]}))
