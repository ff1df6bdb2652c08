"""Clients of TensorFlow Serving by others get right answers from the embedded server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tests.conftest import NAME, ROOT, SHIPPED, serving
from tests.functional.serving.calls import config_of

from servable_serving.server.grpc.health import describe_services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from google.protobuf.descriptor import FileDescriptor
    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset

PROGRAMS = Path(__file__).parent / "other_clients"
# Where the Makefile installs it.
MIN_TFS_PYTHON = Path(sys.prefix) / "min-tfs-client" / "bin" / "python"
# The field of a TensorProto with the values of each dtype, as its tensor.proto documents it.
FIELDS = {
    tf.float32: "float_val", tf.float64: "double_val", tf.int8: "int_val", tf.int16: "int_val",
    tf.int32: "int_val", tf.int64: "int64_val", tf.uint8: "int_val", tf.uint16: "int_val",
    tf.uint32: "uint32_val", tf.uint64: "uint64_val", tf.bool: "bool_val", tf.string: "string_val",
}  # fmt: skip
Arrays = dict[str, np.ndarray]


class Refused(Exception):
    """A call failed; the argument is the name of its gRPC status."""


class ServingApi:
    """tensorflow-serving-api with grpcio, and TensorFlow's writer of tensors."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(
        self, model: str, inputs: Arrays, version: int | None = None, signature: str = ""
    ) -> Arrays:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        try:
            response = self._prediction.Predict(request, timeout=60)
        except grpc.RpcError as error:
            raise Refused(error.code().name) from error
        return {name: typed_values(tensor) for name, tensor in response.outputs.items()}

    def states(self, model: str) -> dict[str, str]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        response = self._models.GetModelStatus(request, timeout=60)
        name_of = get_model_status_pb2.ModelVersionStatus.State.Name
        return {str(one.version): name_of(one.state) for one in response.model_version_status}

    def signatures(self, model: str) -> dict[str, Any]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        response = self._prediction.GetModelMetadata(request, timeout=60)
        found = get_model_metadata_pb2.SignatureDefMap()
        assert response.metadata["signature_def"].Unpack(found)
        return {
            name: {key: described(info) for key, info in signature.inputs.items()}
            for name, signature in found.signature_def.items()
        }


class Program:
    """A client in a program that answers each line of JSON with one.

    A call is `{"method": ..., "model": ..., ...}`, an answer `{"answer": ...}` or `{"code": ...}`
    with the name of a gRPC status. A tensor is `{"dtype": ..., "shape": ..., "values": ...}` with
    the name of a DataType, integers of 64 bits as strings and bytes in base64.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _call(self, **call: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(call), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, "the program ended; standard error has the reason"
        found = json.loads(line)
        if "code" in found:
            raise Refused(found["code"])
        answer: dict[str, Any] = found["answer"]
        return answer

    def predict(
        self, model: str, inputs: Arrays, version: int | None = None, signature: str = ""
    ) -> Arrays:
        given = {name: to_json(array) for name, array in inputs.items()}
        outputs = self._call(
            method="predict", model=model, version=version, signature=signature, inputs=given
        )
        return {name: from_json(tensor) for name, tensor in outputs.items()}

    def states(self, model: str) -> dict[str, str]:
        return self._call(method="states", model=model)

    def signatures(self, model: str) -> dict[str, Any]:
        return self._call(method="signatures", model=model)


def typed_values(tensor: Any) -> np.ndarray:
    """The array of a TensorProto, from its typed field alone."""
    dtype = tf.as_dtype(tensor.dtype)
    values = list(getattr(tensor, FIELDS[dtype]))
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    return np.array(values, dtype.as_numpy_dtype).reshape(shape)


def described(info: Any) -> dict[str, Any]:
    """The dtype and shape of a TensorInfo."""
    sizes = [dim.size for dim in info.tensor_shape.dim]
    return {"dtype": types_pb2.DataType.Name(info.dtype), "shape": sizes}


def to_json(array: np.ndarray) -> dict[str, Any]:
    values = array.ravel().tolist()
    if array.dtype == object:
        values = [b64encode(value).decode() for value in values]
    elif array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        values = [str(value) for value in values]
    dtype = types_pb2.DataType.Name(tf.as_dtype(array.dtype).as_datatype_enum)
    return {"dtype": dtype, "shape": array.shape, "values": values}


def from_json(tensor: dict[str, Any]) -> np.ndarray:
    dtype = np.dtype(tf.as_dtype(types_pb2.DataType.Value(tensor["dtype"])).as_numpy_dtype)
    values = tensor["values"]
    if dtype.kind == "O":
        values = [b64decode(value) for value in values]
    elif dtype.kind in "iu":
        values = [int(value) for value in values]
    return np.array(values, dtype).reshape(tensor["shape"])


def descriptors() -> bytes:
    """A FileDescriptorSet of the two services and all that they import, each after its imports."""
    describe_services()
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        for one in file.dependencies:
            add(one)
        if file.name not in found:
            found[file.name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(found[file.name])

    for service in ("PredictionService", "ModelService"):
        pool = descriptor_pool.Default()
        add(pool.FindFileContainingSymbol(f"tensorflow.serving.{service}"))
    return descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString()


@pytest.fixture(scope="module")
def several(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of the shipped model and two small ones."""
    folder = tmp_path_factory.mktemp("several")
    shutil.copytree(SHIPPED, folder / NAME / "1")
    config = folder / "models.config"
    paths = {name: fixtures / name for name in ("linear", "reversed")}
    config.write_text(config_of({NAME: folder / NAME, **paths}))
    with serving(None, folder / "log", f"--model_config_file={config}") as running:
        yield running


@contextmanager
def started(*command: object) -> Iterator[Program]:
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Program(process)


@contextmanager
def serving_api(server: RunningServer, _folder: Path) -> Iterator[ServingApi]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield ServingApi(channel)


@contextmanager
def grpc_js(server: RunningServer, folder: Path) -> Iterator[Program]:
    if not (shutil.which("node") and (ROOT / "node_modules" / "@grpc").is_dir()):
        pytest.skip("@grpc/grpc-js is missing; `make js` installs it where Node.js 20 or newer is")
    file = folder / "descriptors.binpb"
    file.write_bytes(descriptors())
    with started("node", PROGRAMS / "grpc_js.js", f"127.0.0.1:{server.port}", file) as program:
        yield program


@contextmanager
def min_tfs(server: RunningServer, _folder: Path) -> Iterator[Program]:
    if not MIN_TFS_PYTHON.exists():
        pytest.skip("min-tfs-client is missing; `make test` installs it")
    with started(MIN_TFS_PYTHON, "-I", PROGRAMS / "min_tfs.py", server.port) as program:
        yield program


CLIENTS: dict[str, Callable[[RunningServer, Path], AbstractContextManager[Any]]] = {
    "tensorflow-serving-api": serving_api,
    "grpc-js": grpc_js,
    "min-tfs-client": min_tfs,
}


@pytest.fixture(scope="module", params=CLIENTS)
def other(
    request: pytest.FixtureRequest, several: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Each client."""
    with CLIENTS[request.param](several, tmp_path_factory.mktemp("client")) as client:
        yield client


# min-tfs-client has Predict on the default signature, and nothing else that works.
with_all_calls = pytest.mark.parametrize(
    "other", ["tensorflow-serving-api", "grpc-js"], indirect=True
)


ROWS = np.array([[1.5, -2.25, 3e7], [0.1, 1e-30, -0.0]], np.float32)


@pytest.mark.parametrize(("version", "slope"), [(None, 5), (1, 2), (3, 4)])
def test_floats_are_computed_by_the_version_asked_for(
    other: Any, version: int | None, slope: int
) -> None:
    outputs = other.predict("linear", {"x": ROWS}, version)
    assert list(outputs) == ["y"]
    assert outputs["y"].dtype == np.float32
    np.testing.assert_allclose(outputs["y"], slope * ROWS + 1, rtol=1e-6)


def limits(dtype: np.dtype) -> list[Any]:
    """Values of a dtype, its limits among them; not the same in reverse."""
    if dtype.kind == "b":
        return [True, True, False]
    if dtype.kind == "f":
        return [np.finfo(dtype).max, np.finfo(dtype).tiny, 0.1]
    if dtype.kind == "O":
        return [b"first", b"", b"a longer one"]
    return [np.iinfo(dtype).max, np.iinfo(dtype).min, 7]


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "vector": lambda values: values,
    "matrix": lambda values: np.stack([values, values[::-1]]),
    "one": lambda values: values[:1],
    # TensorFlow can write such a tensor as its one value, which these clients do not read.
    "constant": lambda values: np.repeat(values[:1], 5),
    "none": lambda values: values.reshape(1, 3)[:0],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_values_of_each_dtype_and_shape_go_both_ways(other: Any, shape: str) -> None:
    dtypes = {dtype.name: np.dtype(dtype.as_numpy_dtype) for dtype in FIELDS}
    inputs = {name: SHAPES[shape](np.array(limits(dtype), dtype)) for name, dtype in dtypes.items()}
    outputs = other.predict("reversed", inputs)
    assert set(outputs) == set(inputs)
    for name, values in inputs.items():
        assert outputs[name].dtype == values.dtype, name
        assert outputs[name].shape == values.shape, name
        np.testing.assert_array_equal(outputs[name], values[::-1], name)


def check_garments(outputs: Arrays, labels: list[bytes]) -> None:
    assert outputs["label"].tolist() == labels
    assert outputs["class_id"].dtype == np.int64
    assert outputs["probabilities"].dtype == np.float32
    assert outputs["probabilities"].argmax(axis=1).tolist() == outputs["class_id"].tolist()
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, rtol=1e-5)


GARMENTS = [b"Ankle boot", b"Pullover", b"Trouser"]


def test_images_are_classified(other: Any, dataset: Dataset) -> None:
    check_garments(other.predict(NAME, {"image": dataset.test.images[:3]}), GARMENTS)


@with_all_calls
def test_image_files_are_classified(other: Any, dataset: Dataset) -> None:
    files = [tf.io.encode_png(image[..., None]).numpy() for image in dataset.test.images[:3]]
    inputs = {"image_bytes": np.array(files, object)}
    check_garments(other.predict(NAME, inputs, signature="serving_bytes"), GARMENTS)


@pytest.mark.parametrize(
    ("model", "inputs", "code"),
    [
        ("nosuch", {"x": ROWS}, "NOT_FOUND"),
        ("linear", {"z": ROWS}, "INVALID_ARGUMENT"),
        ("linear", {"x": ROWS.astype(np.int32)}, "INVALID_ARGUMENT"),
    ],
    ids=["model", "input", "dtype"],
)
def test_a_failure_has_its_status(other: Any, model: str, inputs: Arrays, code: str) -> None:
    with pytest.raises(Refused) as caught:
        other.predict(model, inputs)
    assert caught.value.args == (code,)


@with_all_calls
def test_states_of_versions_are_told(other: Any) -> None:
    assert other.states("linear") == dict.fromkeys("1234", "AVAILABLE")


@with_all_calls
def test_signatures_are_told(other: Any) -> None:
    signatures = other.signatures(NAME)
    # The last is TensorFlow's own, and the real server shows it too.
    assert set(signatures) == {
        "serving_default", "serving_bytes", "classify", "__saved_model_init_op",
    }  # fmt: skip
    image = {"dtype": "DT_UINT8", "shape": [-1, 28, 28]}
    assert signatures["serving_default"] == {"image": image}
