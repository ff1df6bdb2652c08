"""Our messages against upstream's, field by field and byte by byte."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import servable_client
from servable_client import InvalidInput, Prediction
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import fill_proto, from_proto, to_proto
from servable_client.codec.grpc import delay_of
from servable_client.codec.predict_response import read

WIRE = Path(servable_client.__file__).parent / "_wire"


def upstream_messages() -> dict[str, Descriptor]:
    """Every message that TensorFlow Serving's services speak of, by its short name."""
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_management_pb2,
        predict_pb2,
        prediction_log_pb2,
    )

    found: dict[str, Descriptor] = {}

    def collect(message: Descriptor) -> None:
        if message.name not in found:
            found[message.name] = message
            for field in message.fields:
                if field.message_type:
                    collect(field.message_type)
                    if field.message_type.containing_type:
                        collect(field.message_type.containing_type)

    for module in (
        get_model_metadata_pb2, get_model_status_pb2, model_management_pb2, predict_pb2,
        prediction_log_pb2,
    ):  # fmt: skip
        for message in module.DESCRIPTOR.message_types_by_name.values():
            collect(message)
    return found


# google.rpc's, which no service of TensorFlow Serving's names.
RPC = {"RpcStatus", "RetryInfo"}
OURS = [name for name in wire.DESCRIPTOR.message_types_by_name if name not in RPC]


@pytest.mark.parametrize("name", OURS)
def test_every_field_is_upstreams(name: str) -> None:
    compare(wire.DESCRIPTOR.message_types_by_name[name], upstream_messages()[name])


def compare(ours: Descriptor, theirs: Descriptor) -> None:
    for nested in ours.nested_types:
        compare(nested, theirs.nested_types_by_name[nested.name])
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert field.number == other.number
        assert field.is_repeated == other.is_repeated
        kinds = {field.type, other.type}
        # An enum is an integer on the wire, and error codes are one here.
        assert len(kinds) == 1 or kinds == {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM}
        assert field.json_name == other.json_name
        assert (field.message_type and field.message_type.name) == (
            other.message_type and other.message_type.name
        )
        for value in field.enum_type.values if field.enum_type else ():
            assert other.enum_type.values_by_name[value.name].number == value.number


def test_the_delay_of_a_busy_server_is_read_as_google_rpc_writes_it() -> None:
    # google.rpc.Status{code: 8, details: [Any(google.rpc.RetryInfo{retry_delay: 1.5 s})]}
    info = b"\n\x08\x08\x01\x10\x80\xca\xb5\xee\x01"
    url = b"type.googleapis.com/google.rpc.RetryInfo"
    packed = b"\n" + bytes([len(url)]) + url + b"\x12" + bytes([len(info)]) + info
    status = b"\x08\x08\x12\x04busy\x1a" + bytes([len(packed)]) + packed
    assert delay_of([("grpc-status-details-bin", status)]) == 1.5


def test_data_types_are_upstreams() -> None:
    from tensorflow.core.framework import types_pb2

    ours = wire.DESCRIPTOR.enum_types_by_name["DataType"]
    assert all(types_pb2.DataType.Value(v.name) == v.number for v in ours.values)


def test_the_generated_files_are_current(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{WIRE}", "--include_imports",
            f"--descriptor_set_out={tmp_path / 'wire.binpb'}", f"--pyi_out={tmp_path}",
            "wire.proto",
        ],
        check=True,
    )  # fmt: skip
    for name in ("wire.binpb", "wire_pb2.pyi"):
        assert (WIRE / name).read_bytes() == (tmp_path / name).read_bytes(), "run `make proto`"


DTYPES = st.sampled_from(
    [
        "float16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
        "complex64",
        "complex128",
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4)))
)
def test_numbers_mean_the_same_upstream(array: np.ndarray) -> None:
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    there = tf.make_ndarray(tensor_pb2.TensorProto.FromString(to_proto(array).SerializeToString()))
    assert there.dtype == array.dtype
    np.testing.assert_array_equal(there, array)
    # Back, from the typed fields that upstream writes for small tensors.
    theirs = tf.make_tensor_proto(array).SerializeToString()
    np.testing.assert_array_equal(from_proto(wire.TensorProto.FromString(theirs)), array)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=5))
def test_strings_mean_the_same_upstream(items: list[bytes]) -> None:
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    array = np.array(items, object)
    there = tf.make_ndarray(tensor_pb2.TensorProto.FromString(to_proto(array).SerializeToString()))
    assert there.tolist() == items
    assert from_proto(to_proto(array)).tolist() == items


def test_a_list_of_bytes_keeps_the_zeros_at_its_ends() -> None:
    # NumPy's own strings drop them, and a file may well end so.
    assert list(to_proto([b"a\0\0", b"b"]).string_val) == [b"a\0\0", b"b"]
    assert list(to_proto(b"\0").string_val) == [b"\0"]
    assert list(to_proto([["a\0"], ["é"]]).string_val) == [b"a\0", "é".encode()]
    with pytest.raises(InvalidInput, match="holds a int"):
        to_proto([b"a", 1])


def test_big_endian_arrays_are_sent_little_endian() -> None:
    array = np.arange(5, dtype=">i4")
    np.testing.assert_array_equal(from_proto(to_proto(array)), array)


def test_a_few_values_fill_a_shape_as_in_tensorflow() -> None:
    proto = to_proto(np.zeros([2, 3], np.float32))
    proto.tensor_content = b""
    proto.float_val.extend([1, 2])
    assert from_proto(proto).tolist() == [[1, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize("sizes", [[-1], [1 << 40], [1 << 20, 1 << 20]])
def test_a_shape_that_cannot_be_is_refused(sizes: list[int]) -> None:
    proto = wire.TensorProto(dtype=wire.DT_FLOAT, float_val=[1])
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(servable_client.InvalidInput):
        from_proto(proto)


@pytest.mark.parametrize("array", [np.array([1, "a"], object), np.zeros(1, "datetime64[s]")])
def test_what_has_no_dtype_is_refused(array: np.ndarray) -> None:
    with pytest.raises(servable_client.InvalidInput):
        to_proto(array)


def by_reading(body: bytes) -> tuple[dict[str, np.ndarray], int | None] | None:
    found = read(body)
    if found is None:
        return None
    prediction = Prediction(outputs=found[0], version=found[1])
    return prediction.outputs, prediction.version


def by_message(body: bytes) -> tuple[dict[str, np.ndarray], int | None]:
    message = wire.PredictResponse.FromString(body)
    outputs = {name: from_proto(tensor) for name, tensor in message.outputs.items()}
    return outputs, message.model_spec.version.value or None


def assert_same(
    found: tuple[dict[str, np.ndarray], int | None], by: tuple[dict[str, np.ndarray], int | None]
) -> None:
    assert found[1] == by[1]
    assert found[0].keys() == by[0].keys()
    for name, array in found[0].items():
        assert array.dtype == by[0][name].dtype
        assert array.flags.aligned
        np.testing.assert_array_equal(array, by[0][name])


ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0)))
TEXTS = st.lists(st.binary(max_size=200), max_size=40).map(lambda items: np.array(items, object))


def answer_of(arrays: dict[str, np.ndarray], version: int) -> wire.PredictResponse:
    response = wire.PredictResponse()
    response.model_spec.name = "any"
    response.model_spec.version.value = version
    for name, array in arrays.items():
        fill_proto(response.outputs[name], array)
    return response


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=200), ARRAYS | TEXTS, max_size=4), st.integers(0, 1 << 62))
def test_what_is_read_without_the_message_is_what_the_message_holds(
    arrays: dict[str, np.ndarray], version: int
) -> None:
    body = answer_of(arrays, version).SerializeToString()
    found = by_reading(body)
    if found is None:
        # Left to the message: what has no elements.
        assert any(array.size == 0 for array in arrays.values())
    else:
        assert_same(found, by_message(body))


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays("float32", [3, 10], elements=st.floats(0, 1, width=32)),
    st.lists(st.integers(0, 300), min_size=3, max_size=3),
)
def test_so_are_typed_fields(probabilities: np.ndarray, class_ids: list[int]) -> None:
    arrays = {
        "probabilities": probabilities,
        "class_id": np.array(class_ids, np.int64),
        "label": np.array([b"Bag", b"Coat", b"Sandal"], object),
    }
    response = answer_of(arrays, 7)
    for name, field in (("probabilities", "float_val"), ("class_id", "int64_val")):
        response.outputs[name].ClearField("tensor_content")
        getattr(response.outputs[name], field).extend(arrays[name].ravel().tolist())
    found = by_reading(response.SerializeToString())
    if found is None:
        assert max(class_ids) > 127
    else:
        assert_same(found, (arrays, 7))


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_damaged_answers_are_never_read_otherwise_than_by_the_message(data: st.DataObject) -> None:
    arrays = {
        "probabilities": np.full([2, 3], 1 / 3, np.float32),
        "class_id": np.array([1, 2]),
        "label": np.array([b"Bag", b"Coat"], object),
    }
    body = bytearray(answer_of(arrays, 3).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        kind = data.draw(st.sampled_from(["change", "remove", "add", "cut"]))
        if kind == "change":
            body[at] = data.draw(st.integers(0, 255))
        elif kind == "remove":
            del body[at]
        elif kind == "add":
            body.insert(at, data.draw(st.integers(0, 255)))
        else:
            del body[at:]
        if not body:
            break
    try:
        by = by_message(bytes(body))
    except (DecodeError, InvalidInput):
        # What is wrong may be in a row of strings, which is read later.
        with suppress(servable_client.ServableError):
            assert by_reading(bytes(body)) is None
        return
    found = by_reading(bytes(body))
    if found is not None:
        assert_same(found, by)
