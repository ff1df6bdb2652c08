"""The bytes of a PredictRequest against the message's own."""

from __future__ import annotations

import numpy as np
import pytest

from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto
from servable_client.codec.predict_request import fill_spec, predict_body
from servable_client.types.operations import PredictOperation, Target

TARGET = Target(model="m", version=3)


def parsed(inputs: dict[str, np.ndarray], outputs: tuple[str, ...] = ()) -> wire.PredictRequest:
    operation = PredictOperation(target=TARGET, signature="s", inputs=inputs, outputs=outputs)
    return wire.PredictRequest.FromString(predict_body(operation))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(5, np.int64),
        np.zeros([0, 3], np.uint8),
        np.array([True, False]),
        np.array([1 + 2j], np.complex64),
        np.arange(4, dtype=">i2"),
        np.arange(6, dtype=np.int32).reshape(2, 3).T,
        np.zeros(70_000, np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_numbers_are_what_the_message_reads(array: np.ndarray) -> None:
    found = from_proto(parsed({"x": array}).inputs["x"])
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "array", [np.array([b"a\0", "é"], object), np.array([["x", "yz"]]), np.array(b"z")]
)
def test_strings_are_what_the_message_reads(array: np.ndarray) -> None:
    found = from_proto(parsed({"x": array}).inputs["x"])
    assert found.shape == array.shape


def test_several_inputs_and_the_filter() -> None:
    request = parsed({"a": np.zeros(1), "b" * 300: np.ones(2)}, ("y", "z"))
    assert set(request.inputs) == {"a", "b" * 300}
    assert list(request.output_filter) == ["y", "z"]
    assert request.model_spec.version.value == 3


def test_the_same_array_gives_the_same_bytes() -> None:
    operation = PredictOperation(target=TARGET, signature="s", inputs={"x": np.ones([2, 2])})
    assert predict_body(operation) == predict_body(operation)


@pytest.mark.parametrize(
    "array", [np.zeros(1, "datetime64[s]"), np.array([1, "a"], object)], ids=["dates", "mixed"]
)
def test_arrays_without_a_counterpart_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        parsed({"x": array})


def test_a_spec_without_signature() -> None:
    spec = wire.ModelSpec()
    fill_spec(spec, Target(model="m", label="stable"))
    assert (spec.name, spec.version_label, spec.signature_name) == ("m", "stable", "")
    assert not spec.HasField("version")
