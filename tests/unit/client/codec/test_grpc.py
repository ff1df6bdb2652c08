"""Operations as gRPC messages, and the answers back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.client.harness import (
    MODEL,
    grpc_metadata,
    grpc_prediction,
    grpc_status,
)

from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import FIELDS
from servable_client.codec.grpc import (
    GrpcRequest,
    code_by_number,
    decode,
    delay_of,
    encode,
    refuses_retry,
)
from servable_client.net.endpoints import parse_servers
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

(ENDPOINT,) = parse_servers("grpc://one")
TARGET = Target(model=MODEL)
PREDICT = PredictOperation(target=TARGET, signature="s", inputs={})
CLASSIFY = ClassifyOperation(target=TARGET, signature="classify", examples=[])
METADATA = MetadataOperation(target=TARGET)
STATUS = StatusOperation(target=TARGET)
RELOAD = ReloadOperation(target=TARGET, config=wire.ModelServerConfig())


def sent(operation: Any) -> GrpcRequest:
    return encode(ENDPOINT, operation, (("a", "b"),))


@pytest.mark.parametrize(
    ("operation", "path"),
    [
        (PREDICT, "/tensorflow.serving.PredictionService/Predict"),
        (CLASSIFY, "/tensorflow.serving.PredictionService/Classify"),
        (METADATA, "/tensorflow.serving.PredictionService/GetModelMetadata"),
        (STATUS, "/tensorflow.serving.ModelService/GetModelStatus"),
        (RELOAD, "/tensorflow.serving.ModelService/HandleReloadConfigRequest"),
    ],
    ids=lambda value: getattr(value, "method", ""),
)
def test_each_operation_has_its_method(operation: Any, path: str) -> None:
    request = sent(operation)
    assert (request.path, request.endpoint, request.metadata) == (path, ENDPOINT, (("a", "b"),))


@pytest.mark.parametrize(
    ("target", "version", "label"),
    [
        (TARGET, 0, ""),
        (Target(model=MODEL, version=7), 7, ""),
        (Target(model=MODEL, label="stable"), 0, "stable"),
    ],
)
def test_the_target_is_in_the_spec(target: Target, version: int, label: str) -> None:
    operation = PredictOperation(target=target, signature="s", inputs={})
    spec = wire.PredictRequest.FromString(sent(operation).body).model_spec
    assert (spec.name, spec.version.value, spec.version_label) == (MODEL, version, label)


def test_classify_carries_examples_and_their_context() -> None:
    operation = ClassifyOperation(
        target=TARGET, signature="c", examples=[{"a": 1}, {"a": 2}], context={"b": "x"}
    )
    request = wire.ClassificationRequest.FromString(sent(operation).body)
    assert request.model_spec.signature_name == "c"
    assert len(request.input.example_list_with_context.examples) == 2
    assert "b" in request.input.example_list_with_context.context.features.feature


def test_classify_without_context_carries_a_list() -> None:
    operation = ClassifyOperation(target=TARGET, signature="c", examples=[{"a": 1}])
    request = wire.ClassificationRequest.FromString(sent(operation).body)
    assert request.input.WhichOneof("kind") == "example_list"


def test_metadata_asks_for_the_signatures() -> None:
    request = wire.GetModelMetadataRequest.FromString(sent(METADATA).body)
    assert list(request.metadata_field) == ["signature_def"]


def test_reload_carries_the_configuration() -> None:
    config = wire.ModelServerConfig()
    config.model_config_list.config.add(name="m")
    request = wire.ReloadConfigRequest.FromString(
        sent(ReloadOperation(target=TARGET, config=config)).body
    )
    assert request.config.model_config_list.config[0].name == "m"


def test_an_example_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInput):
        sent(ClassifyOperation(target=TARGET, signature="c", examples=[{"a": 1 << 70}]))


# -- answers ------------------------------------------------------------------------------------


def test_a_prediction_has_arrays_and_the_version() -> None:
    answer = decode(
        PREDICT, grpc_prediction(5, y=np.array([[1, 2]], np.float32), n=np.array([b"a"], object))
    )
    assert answer.version == 5
    assert answer["y"].tolist() == [[1, 2]]
    assert answer["n"].tolist() == [b"a"]


def test_a_prediction_in_an_unusual_form_is_read_by_the_message() -> None:
    response = wire.PredictResponse()
    response.outputs["y"].dtype = wire.DT_INT32
    response.outputs["y"].tensor_shape.dim.add(size=3)
    response.outputs["y"].int_val.extend([1, 2])
    assert decode(PREDICT, response.SerializeToString())["y"].tolist() == [1, 2, 2]


def test_version_0_is_a_version() -> None:
    assert decode(PREDICT, grpc_prediction(0, y=np.array([1], np.float32))).version == 0
    assert decode(METADATA, grpc_metadata(0)).version == 0
    request = wire.GetModelMetadataRequest.FromString(
        sent(MetadataOperation(target=Target(model=MODEL, version=0))).body
    )
    assert request.model_spec.HasField("version")
    assert request.model_spec.version.value == 0


def test_a_prediction_without_a_version_has_none() -> None:
    assert decode(PREDICT, grpc_prediction(None, y=np.array([1], np.float32))).version is None


# What an answer of each DataType is: its dtype, and the value of the bits 1 or of the number 1.
FROM_BITS = {"bfloat16": 2.0**-133, "half": 2.0**-24}
NAMES = {"float": "float32", "double": "float64", "half": "float16", "string": "object"}


@pytest.mark.parametrize("data_type", sorted(wire.DataType.values()), ids=wire.DataType.Name)
def test_an_answer_of_each_data_type(data_type: wire.DataType) -> None:
    name = wire.DataType.Name(data_type).removeprefix("DT_").lower()
    response = wire.PredictResponse()
    tensor = response.outputs["y"]
    tensor.dtype = data_type
    tensor.tensor_shape.dim.add(size=1)
    field = FIELDS.get(data_type)
    if field is None:
        with pytest.raises(InvalidInput, match=f"output y .*{name}"):
            decode(PREDICT, response.SerializeToString())
        return
    one = {"string_val": b"a", "float8_val": b"\1"}.get(field, 1)
    if isinstance(one, bytes) and field == "float8_val":
        tensor.float8_val = one
    else:
        getattr(tensor, field).extend([one, 0] if "complex" in name else [one])
    answer = decode(PREDICT, response.SerializeToString())["y"]
    if answer.dtype.names is not None:
        assert answer.dtype.names == (name,)
        answer = answer[name]
    else:
        assert answer.dtype.name == NAMES.get(name, name)
    if field == "string_val":
        assert answer.tolist() == [b"a"]
    elif field == "float8_val":
        assert answer.view(np.uint8).tolist() == [1]
    else:
        assert answer.tolist() == [FROM_BITS.get(name, 1)]


def test_an_output_of_a_newer_data_type_is_named() -> None:
    response = wire.PredictResponse()
    response.outputs["y"].ParseFromString(b"\x08\x63\x12\x00")
    with pytest.raises(InvalidInput, match=r"output y .*99") as caught:
        decode(PREDICT, response.SerializeToString())
    assert "output_filter" in (caught.value.hint or "")


def test_an_error_message_that_is_not_utf8_is_shown() -> None:
    status = wire.GetModelStatusResponse()
    found = status.model_version_status.add(version=1, state="END")
    found.status.error_code, found.status.error_message = 2, b"caf\xe9"
    assert (
        decode(STATUS, status.SerializeToString())[0].error_message
        == "caf\N{REPLACEMENT CHARACTER}"
    )
    reloaded = wire.ReloadConfigResponse()
    reloaded.status.error_code, reloaded.status.error_message = 3, b"caf\xe9"
    with pytest.raises(Failure, match="caf\N{REPLACEMENT CHARACTER}"):
        decode(RELOAD, reloaded.SerializeToString())


def test_classes_have_labels_and_scores() -> None:
    response = wire.ClassificationResponse()
    row = response.result.classifications.add()
    row.classes.add(label="boot", score=0.75)
    row.classes.add(label="bag", score=0.25)
    response.result.classifications.add()
    response.model_spec.version.value = 3
    answer = decode(CLASSIFY, response.SerializeToString())
    assert answer.results == [[("boot", 0.75, None), ("bag", 0.25, None)], []]
    assert answer.version == 3


def test_metadata_has_each_signature() -> None:
    signatures: Any = {"s": ({"x": ("DT_FLOAT", (-1, 3))}, {"y": ("DT_STRING", None)})}
    answer = decode(METADATA, grpc_metadata(2, signatures))
    assert answer.version == 2
    found = answer.signatures["s"]
    assert (found.inputs["x"].dtype, found.inputs["x"].shape) == ("DT_FLOAT", (-1, 3))
    assert (found.outputs["y"].dtype, found.outputs["y"].shape) == ("DT_STRING", None)
    assert found.method == "tensorflow/serving/predict"


def test_metadata_without_signatures_is_empty() -> None:
    assert decode(METADATA, b"").signatures == {}


def test_an_unknown_dtype_is_named_by_its_number() -> None:
    definitions = wire.SignatureDefMap()
    # Field 2, dtype, of a TensorInfo: 99, which this package has no name for.
    definitions.signature_def["s"].inputs["x"].MergeFromString(b"\x10\x63")
    response = wire.GetModelMetadataResponse()
    response.metadata["signature_def"].value = definitions.SerializeToString()
    answer = decode(METADATA, response.SerializeToString())
    assert answer.signatures["s"].inputs["x"].dtype == "DT_99"


def test_statuses_come_highest_first() -> None:
    answer = decode(STATUS, grpc_status((1, "END"), (2, "AVAILABLE")))
    assert [(v.version, v.state, v.error_code) for v in answer] == [
        (2, "AVAILABLE", "OK"),
        (1, "END", "OK"),
    ]


def test_a_reload_that_went_well_answers_nothing() -> None:
    assert decode(RELOAD, wire.ReloadConfigResponse().SerializeToString()) is None


def test_a_reload_that_failed_is_a_failure() -> None:
    response = wire.ReloadConfigResponse()
    response.status.error_code = 3
    response.status.error_message = b"twice"
    with pytest.raises(Failure) as caught:
        decode(RELOAD, response.SerializeToString())
    assert (caught.value.code, caught.value.message) == ("INVALID_ARGUMENT", "twice")


@pytest.mark.parametrize(
    "operation", [PREDICT, CLASSIFY, METADATA, STATUS, RELOAD], ids=lambda o: o.method
)
@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05abc", b"<html>"], ids=repr)
def test_an_answer_that_is_no_message_is_unexpected(operation: Any, body: bytes) -> None:
    with pytest.raises(UnexpectedResponse):
        decode(operation, body)


@pytest.mark.parametrize(
    ("number", "code"),
    [(0, "OK"), (5, "NOT_FOUND"), (16, "UNAUTHENTICATED"), (17, "UNKNOWN"), (-1, "UNKNOWN")],
)
def test_codes_by_number(number: int, code: str) -> None:
    assert code_by_number(number) == code


# -- the delay that a busy server asks for --------------------------------------------------------


def details(
    seconds: int, nanos: int, url: str = "type.googleapis.com/google.rpc.RetryInfo"
) -> bytes:
    info = wire.RetryInfo()
    info.retry_delay.seconds = seconds
    info.retry_delay.nanos = nanos
    status = wire.RpcStatus()
    status.details.add(type_url=url, value=info.SerializeToString())
    return status.SerializeToString()


@pytest.mark.parametrize(
    ("metadata", "delay"),
    [
        ([], None),
        ([("grpc-status-details-bin", details(1, 500_000_000))], 1.5),
        ([("grpc-status-details-bin", details(-4, 0))], 0.0),
        ([("grpc-status-details-bin", details(1, 0, "type.googleapis.com/other"))], None),
        ([("grpc-status-details-bin", b"\xff")], None),
        ([("grpc-retry-pushback-ms", "250")], 0.25),
        ([("grpc-retry-pushback-ms", "-1")], None),
        ([("grpc-retry-pushback-ms", "soon")], None),
        ([("retry-after", "3")], 3.0),
        ([("retry-after", "-3")], 0.0),
        ([("other", "1"), ("retry-after", "2")], 2.0),
        ([("retry-after", "tomorrow"), ("grpc-retry-pushback-ms", "100")], 0.1),
    ],
)
def test_the_delay_in_trailers(
    metadata: list[tuple[str, str | bytes]], delay: float | None
) -> None:
    assert delay_of(metadata) == delay


@pytest.mark.parametrize(
    ("value", "refuses"),
    [("0", False), ("250", False), ("-1", True), ("soon", True), ("nan", True)],
)
def test_a_pushback_that_is_not_a_time_refuses_a_retry(value: str, refuses: bool) -> None:
    assert refuses_retry([("a", "b"), ("grpc-retry-pushback-ms", value)]) is refuses
    assert not refuses_retry([("retry-after", value)])
