"""The messages of the client against those of upstream, field by field and byte by byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import servable_client
from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import fill_proto, from_proto, to_proto

WIRE = Path(servable_client.__file__).parent / "_wire"


def upstream_messages() -> dict[str, Descriptor]:
    """Every message of the services of TensorFlow Serving, by its short name."""
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


# Messages of google.rpc, which no service of TensorFlow Serving refers to.
RPC = {"RpcStatus", "RetryInfo"}
OURS = [name for name in wire.DESCRIPTOR.message_types_by_name if name not in RPC]


@pytest.mark.parametrize("name", OURS)
def test_every_field_matches_upstream(name: str) -> None:
    compare(wire.DESCRIPTOR.message_types_by_name[name], upstream_messages()[name])


def compare(ours: Descriptor, theirs: Descriptor) -> None:
    for nested in ours.nested_types:
        compare(nested, theirs.nested_types_by_name[nested.name])
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert field.number == other.number
        assert field.is_repeated == other.is_repeated
        kinds = {field.type, other.type}
        # An enum is an integer on the wire, and error codes are one here. Text is bytes, and error
        # messages are, since servers write some that are not UTF-8.
        assert len(kinds) == 1 or kinds in (
            {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM},
            {FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING},
        )
        assert field.json_name == other.json_name
        assert (field.message_type and field.message_type.name) == (
            other.message_type and other.message_type.name
        )
        for value in field.enum_type.values if field.enum_type else ():
            assert other.enum_type is not None
            assert other.enum_type.values_by_name[value.name].number == value.number


def test_data_types_match_upstream() -> None:
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


FIELDS = {
    "half_val": st.integers(0, 65535),
    "int_val": st.integers(-70_000, 70_000),
    "float_val": st.floats(width=32, allow_nan=False),
    "double_val": st.floats(allow_nan=False),
    "string_val": st.binary(max_size=3),
    "scomplex_val": st.floats(-9, 9, width=32),
    "int64_val": st.integers(-(1 << 63), (1 << 63) - 1),
    "bool_val": st.booleans(),
    "dcomplex_val": st.floats(-9, 9),
    "uint32_val": st.integers(0, (1 << 32) - 1),
    "uint64_val": st.integers(0, (1 << 64) - 1),
}
OPAQUE = {wire.DT_INVALID, wire.DT_RESOURCE, wire.DT_VARIANT}
DATA_TYPES = st.sampled_from(sorted(set(wire.DataType.values()) - OPAQUE))
# Large sizes only where TensorFlow does not allocate them.
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, -1]), max_size=4) | st.sampled_from(
    [[1 << 40, 1 << 40], [1 << 40, 1 << 40, 0], [0, 1 << 40], [1] * 64, [1] * 255]
)


@st.composite
def tensors(draw: st.DrawFn) -> wire.TensorProto:
    """Tensors of any dtype, with content or with a field that may be another dtype's."""
    proto = wire.TensorProto(dtype=wire.DataType(draw(DATA_TYPES)))
    for size in draw(SHAPES):
        proto.tensor_shape.dim.add(size=size)
    field = draw(st.sampled_from([*FIELDS, "float8_val", "tensor_content"]))
    if field in FIELDS:
        getattr(proto, field).extend(draw(st.lists(FIELDS[field], max_size=6)))
    else:
        sizes = st.sampled_from([0, 1, 2, 3, 4, 6, 8, 16, 32])
        setattr(proto, field, draw(sizes.flatmap(lambda n: st.binary(min_size=n, max_size=n))))
    return proto


@settings(max_examples=500, deadline=None)
@given(tensors())
def test_tensors_of_any_form_are_refused_or_read(proto: wire.TensorProto) -> None:
    # Not compared with tf.io.parse_tensor, which ends the process at some of them.
    try:
        array = from_proto(proto)
    except InvalidInput:
        return
    assert array.shape == tuple(dim.size for dim in proto.tensor_shape.dim)
    for typed in (True, False):
        written = wire.TensorProto()
        fill_proto(written, array, typed=typed)
        assert written.dtype == proto.dtype
        assert not (typed and written.tensor_content)
        again = from_proto(written)
        assert (again.dtype, again.shape) == (array.dtype, array.shape)
        assert again.tobytes() == array.tobytes() or again.tolist() == array.tolist()


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
    # And back, from the typed fields that upstream writes for small tensors.
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
