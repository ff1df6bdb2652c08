"""Requests of the client, parsed by tensorflow-serving-api, in either import order."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Runs in a process of its own, since it depends on what is imported, and in which order.
PROGRAM = """
import sys
order, examples_count = sys.argv[1], int(sys.argv[2])
if order == "before":
    import tensorflow
from servable_client.net.endpoints import parse_servers
from servable_client.types.examples import features
from servable_client.codec.grpc import encode
from servable_client.types.operations import (
    ClassifyOperation, MetadataOperation, PredictOperation, StatusOperation, Target,
)
if order == "after":
    import tensorflow
import numpy as np
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as hnp

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
targets = st.builds(
    lambda model, pin: Target(model=model, **pin),
    names,
    st.one_of(
        st.just({}),
        st.fixed_dictionaries({"version": st.integers(1, 2**63 - 1)}),
        st.fixed_dictionaries({"label": names}),
    ),
)
dtypes = st.sampled_from(
    "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64 "
    "complex128 >f4 >i8".split()
)
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
arrays = st.one_of(
    dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes)),
    hnp.arrays(object, shapes, elements=st.binary(max_size=9), fill=st.nothing()),
)
examples = st.dictionaries(
    names,
    st.one_of(
        st.binary(max_size=9), st.text(st.characters(codec="utf-8"), max_size=9),
        st.integers(-2**63, 2**63 - 1), st.floats(width=32),
        st.lists(st.binary(max_size=9), min_size=1, max_size=3),
        st.lists(st.floats(width=32), min_size=1, max_size=3),
    ),
    max_size=3,
)
operations = st.one_of(
    st.builds(
        lambda target, signature, inputs, outputs: PredictOperation(
            target=target, signature=signature, inputs=inputs, outputs=outputs
        ),
        targets, names, st.dictionaries(names, arrays, max_size=3), st.lists(names, max_size=3),
    ),
    st.builds(
        lambda target, signature, listed, context: ClassifyOperation(
            target=target, signature=signature, examples=listed, context=context
        ),
        targets, names, st.lists(examples, max_size=3), st.none() | examples,
    ),
    st.builds(lambda target: MetadataOperation(target=target), targets),
    st.builds(lambda target: StatusOperation(target=target), targets),
)
(endpoint,) = parse_servers("grpc://localhost")
written = []


@settings(max_examples=examples_count, deadline=None, database=None, derandomize=True,
          suppress_health_check=list(HealthCheck))
@given(operations)
def write(operation):
    written.append((operation, encode(endpoint, operation, ()).body))

write()
assert order != "never" or "tensorflow" not in sys.modules
print(len(written), "written")

# From here on, the reader.
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2, get_model_metadata_pb2, get_model_status_pb2, predict_pb2,
)

READERS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
}

def same_example(theirs, example):
    ours = features(example)
    assert set(theirs.features.feature) == set(ours)
    for name, (kind, values) in ours.items():
        feature = theirs.features.feature[name]
        assert feature.WhichOneof("kind") == kind
        dtype = np.float32 if kind == "float_list" else object
        np.testing.assert_array_equal(
            np.array(getattr(feature, kind).value, dtype), np.array(values, dtype)
        )

for operation, body in written:
    theirs = READERS[operation.method].FromString(body)
    # No unknown fields, and upstream serializes the same bytes.
    again = READERS[operation.method]()
    again.CopyFrom(theirs)
    again.DiscardUnknownFields()
    assert again == theirs
    assert again.ByteSize() == len(body)
    spec, target = theirs.model_spec, operation.target
    assert spec.name == target.model
    assert spec.signature_name == operation.signature
    assert spec.WhichOneof("version_choice") == (
        "version" if target.version else "version_label" if target.label else None
    )
    assert spec.version.value == (target.version or 0)
    assert spec.version_label == (target.label or "")
    if operation.method == "Predict":
        assert list(theirs.output_filter) == list(operation.outputs)
        assert set(theirs.inputs) == set(operation.inputs)
        for name, array in operation.inputs.items():
            there = tf.make_ndarray(theirs.inputs[name])
            assert there.shape == array.shape
            assert there.dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(there, array)
    elif operation.method == "Classify":
        kind = theirs.input.WhichOneof("kind")
        with_context = operation.context is not None
        assert kind == ("example_list_with_context" if with_context else "example_list")
        listed = getattr(theirs.input, kind)
        if operation.context is not None:
            same_example(listed.context, operation.context)
        assert len(listed.examples) == len(operation.examples)
        for message, example in zip(listed.examples, operation.examples, strict=True):
            same_example(message, example)
    elif operation.method == "GetModelMetadata":
        assert list(theirs.metadata_field) == ["signature_def"]
print(len(written), "read")
"""


# What is sent does not depend on the order, which needs a few requests to be seen to work.
@pytest.mark.parametrize(("order", "count"), [("never", 1000), ("before", 50), ("after", 50)])
def test_requests_mean_the_same_upstream(order: str, count: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, order, str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    written, read = (int(line.split()[0]) for line in done.stdout.splitlines())
    assert written == read >= count
