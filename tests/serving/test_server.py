"""The embedded server as a process: versions that come and go, bad input, a good end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
import yaml
from tests.conftest import NAME, ROOT, SHIPPED, free_port, only_sentence, servable, serving

from servable_client import (
    Client,
    InvalidInput,
    ModelNotFound,
    NotReady,
    ServableError,
    ServerFailed,
)
from servable_client._tensors import to_proto
from servable_client._wire import wire_pb2 as wire
from servable_serving._repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.protobuf.message import Message
    from tests.conftest import RunningServer

    from servable_trainer._dataset import Dataset


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def post(server: RunningServer, body: object, path: str = ":predict") -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(f"{server.http}/v1/models/{NAME}{path}", data=data, timeout=20)


def test_versions_come_and_go_under_load(candidate: Path, dataset: Dataset, tmp_path: Path) -> None:
    repository = Repository(tmp_path / NAME)
    repository.push(SHIPPED)
    failures: list[ServableError] = []
    seen: list[int | None] = []
    stopping = threading.Event()

    def ask(address: str) -> None:
        with Client(address, model=NAME) as client:
            while not stopping.is_set():
                try:
                    seen.append(client.classify(dataset.test.images[0]).version)
                except ServableError as error:
                    failures.append(error)

    with (
        serving(repository.path, tmp_path / "log") as server,
        Client(server.grpc, model=NAME) as client,
    ):
        callers = [
            threading.Thread(target=ask, args=(address,))
            for address in (server.grpc, server.grpc, server.http)
        ]
        for caller in callers:
            caller.start()
        try:
            assert repository.push(candidate) == 2
            assert client.wait_until_available(2) == 2
            # The older one goes once the newer one is there, and never before.
            eventually(lambda: [v.state for v in client.status()] == ["AVAILABLE", "END"])
            shutil.move(repository.path / "2", tmp_path / "2")
            eventually(lambda: [v.state for v in client.status()] == ["END", "AVAILABLE"])
            shutil.move(tmp_path / "2", repository.path / "2")
            eventually(lambda: [v.state for v in client.status()] == ["AVAILABLE", "END"])
        finally:
            stopping.set()
            for caller in callers:
                caller.join()
        assert not failures
        assert {1, 2} <= set(seen)

        # A folder that cannot be listed says nothing; one that is empty says that all is gone.
        repository.path.rename(tmp_path / "away")
        eventually(lambda: "cannot list" in server.log.read_text())
        assert client.classify(dataset.test.images[0]).version == 2
        (tmp_path / "away").rename(repository.path)
        for version in ("1", "2"):
            shutil.rmtree(repository.path / version)
        eventually(lambda: all(v.state == "END" for v in client.status()))
        with pytest.raises(ModelNotFound):
            client.classify(dataset.test.images[0])


def test_a_broken_version_leaves_the_older_one_serving(dataset: Dataset, tmp_path: Path) -> None:
    base = tmp_path / NAME
    shutil.copytree(SHIPPED, base / "1")
    with (
        serving(base, tmp_path / "log") as server,
        Client(server.grpc, model=NAME) as client,
    ):
        incoming = base / ".incoming-test"
        incoming.mkdir()
        (incoming / "saved_model.pb").write_bytes(b"this is no SavedModel")
        incoming.rename(base / "2")
        with pytest.raises(ServerFailed, match="Can't parse") as caught:
            client.wait_until_available(2)
        assert caught.value.code == "DATA_LOSS"
        assert client.classify(dataset.test.images[0]).version == 1

        # A graph without its weights.
        shutil.copytree(SHIPPED, incoming)
        shutil.rmtree(incoming / "variables")
        incoming.rename(base / "3")
        with pytest.raises(ServerFailed):
            client.wait_until_available(3)

        # A warm-up record that the model refuses, and a file of records that is none.
        for version, spoil in (("4", refused_record), ("5", no_record)):
            shutil.copytree(SHIPPED, incoming)
            reason = spoil(incoming / "assets.extra" / "tf_serving_warmup_requests")
            incoming.rename(base / version)
            with pytest.raises(ServerFailed, match=reason):
                client.wait_until_available(int(version))
        assert client.classify(dataset.test.images[0]).version == 1

        # Taken away and brought back whole, the same number is a new chance.
        shutil.rmtree(base / "5")
        eventually(lambda: "version 5, which failed, is gone" in server.log.read_text())
        shutil.copytree(SHIPPED, incoming)
        incoming.rename(base / "5")
        eventually(lambda: client.status()[0].state == "AVAILABLE")
        assert client.classify(dataset.test.images[0]).version == 5


def refused_record(path: Path) -> str:
    log = wire.PredictionLog()
    log.predict_log.request.model_spec.name = NAME
    log.predict_log.request.inputs["image"].CopyFrom(to_proto(np.zeros([1, 28, 28], np.float32)))
    write_records(path, [log])
    return "to be uint8 but float is provided"


def no_record(path: Path) -> str:
    path.unlink()
    path.symlink_to("/proc/self/mem")
    return "."


def write_records(path: Path, logs: list[wire.PredictionLog]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def test_a_version_that_is_loading_is_not_ready(tmp_path: Path, dataset: Dataset) -> None:
    base = tmp_path / NAME
    shutil.copytree(SHIPPED, base / "1")
    with serving(base, tmp_path / "log") as server:
        # Slow to load: a thousand requests come before the first.
        slow = base / ".incoming-slow"
        shutil.copytree(SHIPPED, slow)
        log = wire.PredictionLog()
        log.predict_log.request.model_spec.name = NAME
        log.predict_log.request.inputs["image"].CopyFrom(to_proto(dataset.test.images[:500]))
        write_records(slow / "assets.extra" / "tf_serving_warmup_requests", [log] * 200)
        slow.rename(base / "2")
        with (
            Client(server.grpc, model=NAME) as any_version,
            Client(server.grpc, model=NAME, version=2) as client,
        ):
            eventually(lambda: any_version.status()[0].state == "LOADING")
            with pytest.raises(NotReady) as caught:
                client.classify(dataset.test.images[0])
            assert caught.value.code == "NOT_FOUND"
            # Beside the load the older version answers.
            assert any_version.classify(dataset.test.images[0]).version == 1
            assert client.wait_until_available(timeout=120) == 2


def test_names_that_are_no_number_are_passed_over(tmp_path: Path) -> None:
    base = tmp_path / NAME
    shutil.copytree(SHIPPED, base / "0007")
    for name in ("v9", "9.tmp", "\N{SUPERSCRIPT TWO}", "9" * 20, ".incoming-9"):
        shutil.copytree(SHIPPED, base / name)
    (base / "10").write_text("a file")
    with serving(base, tmp_path / "log") as server, Client(server.grpc, model=NAME) as client:
        assert [v.version for v in client.status()] == [7]


def start(*flags: object) -> subprocess.CompletedProcess[str]:
    return servable("serve", f"--model_name={NAME}", *flags)


def test_a_first_version_that_is_broken_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    done = start(
        f"--model_base_path={tmp_path}", f"--port={free_port()}", f"--rest_api_port={free_port()}"
    )
    assert "failed to load" in only_sentence(done)
    assert "saved_model.pb" in done.stderr


def test_flags_that_make_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    port = free_port()
    both = (f"--port={port}", f"--rest_api_port={port}")
    assert "cannot both listen" in only_sentence(
        start(f"--model_base_path={SHIPPED.parent}", *both)
    )
    nowhere = start(f"--model_base_path={SHIPPED.parent}", "--port=0")
    assert "no address" in only_sentence(nowhere)
    assert "is a file" in only_sentence(start(f"--model_base_path={path}", f"--port={port}"))
    assert start(f"--model_base_path={SHIPPED.parent}", "--port=70000").returncode == 2
    assert start(f"--model_base_path={SHIPPED.parent}", "--model_name=").returncode == 2


@pytest.mark.parametrize("flag", ["--port", "--rest_api_port"])
def test_a_port_in_use_is_one_sentence(flag: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = {"--port": free_port(), "--rest_api_port": free_port(), flag: port}
        done = start(
            f"--model_base_path={SHIPPED.parent}",
            *(f"{key}={value}" for key, value in flags.items()),
        )
    assert f"127.0.0.1:{port}" in only_sentence(done)
    assert flag in done.stderr


def test_no_port_opens_before_a_model_is_there(tmp_path: Path) -> None:
    base = tmp_path / NAME
    with serving(base, tmp_path / "log", wait=False) as server:
        eventually(lambda: "no versions under" in server.log.read_text())
        with pytest.raises(requests.ConnectionError):
            requests.get(server.http, timeout=1)
        Repository(base).push(SHIPPED)
        with Client(server.grpc, model=NAME) as client:
            assert client.wait_until_available(timeout=60) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: signal.Signals, tmp_path: Path) -> None:
    with serving(SHIPPED.parent, tmp_path / "log") as server:
        server.process.send_signal(number)
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log.read_text()


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
    assert post(server, {"inputs": pictures}, "/versions/1:predict").json()["outputs"] == columns


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
    assert requests.request(method, server.http + path, timeout=20).status_code == status


def test_numbers_of_64_bits_are_strings_in_status(server: RunningServer) -> None:
    body = requests.get(f"{server.http}/v1/models/{NAME}", timeout=20).json()
    assert body == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def test_it_outlives_a_hundred_hostile_requests(server: RunningServer, dataset: Dataset) -> None:
    random = np.random.default_rng(0)
    with Client(server.grpc, model=NAME) as client:
        for _ in range(100):
            shape = random.integers(0, 30, size=random.integers(0, 5))
            if len(shape) == 3 and tuple(shape[1:]) == (28, 28):
                continue
            with pytest.raises(InvalidInput):
                client.predict({"image": np.zeros(shape, np.uint8)})
        assert client.classify(dataset.test.images[0]).label == "Ankle boot"
    assert server.process.poll() is None


def test_what_is_no_message_does_not_end_it(server: RunningServer) -> None:
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for method in (
            "/tensorflow.serving.PredictionService/Predict",
            "/tensorflow.serving.ModelService/GetModelStatus",
            "/tensorflow.serving.ModelService/Nosuch",
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method)(os.urandom(64), timeout=10)
            assert caught.value.code() != grpc.StatusCode.UNAVAILABLE
    assert server.process.poll() is None


def test_the_upstream_client_is_answered(server: RunningServer, dataset: Dataset) -> None:
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        predict_pb2,
    )

    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:

        def call(method: str, request: Message, response: type[Message]) -> Any:
            return channel.unary_unary(
                f"/tensorflow.serving.{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )(request, timeout=20)

        request = predict_pb2.PredictRequest()
        request.model_spec.name = NAME
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(dataset.test.images[:3]))
        answer = call("PredictionService/Predict", request, predict_pb2.PredictResponse)
        assert tf.make_ndarray(answer.outputs["label"]).tolist()[0] == b"Ankle boot"
        assert answer.model_spec.version.value == 1
        assert answer.model_spec.signature_name == "serving_default"

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = NAME
        answer = call(
            "PredictionService/GetModelMetadata",
            request,
            get_model_metadata_pb2.GetModelMetadataResponse,
        )
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert answer.metadata["signature_def"].Unpack(signatures)
        # The last is TensorFlow's own, and the real server shows it too.
        assert set(signatures.signature_def) == {
            "serving_default",
            "serving_bytes",
            "classify",
            "__saved_model_init_op",
        }

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = NAME
        answer = call(
            "ModelService/GetModelStatus", request, get_model_status_pb2.GetModelStatusResponse
        )
        assert [v.version for v in answer.model_version_status] == [1]
        assert answer.model_version_status[0].state == 30


def test_the_compose_files_health_check_knows_the_model(tmp_path: Path) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    service = compose["services"]["serving"]
    assert service["image"] == "tensorflow/serving:2.20.0"
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    with serving(SHIPPED.parent, tmp_path / "log") as server:
        # The port is fixed within the container alone.
        command = [part.replace("/8501", f"/{server.rest_port}") for part in command]
        assert subprocess.run(command, check=False).returncode == 0
        other = [part.replace(NAME, "nosuch") for part in command]
        assert subprocess.run(other, check=False).returncode != 0
    away = subprocess.run(command, check=False, capture_output=True)
    assert away.returncode != 0


def test_without_tensorflow_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'tensorflow'\", name='tensorflow')"
    )
    done = subprocess.run(
        [sys.executable, "-m", "servable_client", "serve", f"--model_base_path={SHIPPED.parent}"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "needs tensorflow" in only_sentence(done)
    assert "pip install 'servable[serving]'" in done.stderr
