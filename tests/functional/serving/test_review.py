"""What a hostile reader of the server found, each as a user would notice it."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.conftest import NAME, SHIPPED, free_port, servable

from servable_client._wire import wire_pb2 as wire
from servable_serving.server.config import ModelSettings
from servable_serving.server.lifecycle.loader import load_version
from servable_serving.server.lifecycle.registry import Models, Spec
from servable_serving.server.runtime.batching import Batcher, Batching
from servable_serving.server.runtime.loaded_model import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer

ONE: dict[str, Any] = {"x": np.ones((1, 1))}


def in_threads(*targets: Any) -> list[threading.Thread]:
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    return threads


def test_a_deadline_ends_its_own_request_alone() -> None:
    """The first of a queue once lent its deadline to all that came after it."""
    batcher = Batcher(Batching(strict=False, threads=1, max_batch_size=8))
    begun, go = threading.Event(), threading.Event()
    deadlines: list[float | None] = []

    def run(inputs: Any, deadline: float | None) -> Any:
        deadlines.append(deadline)
        begun.set()
        assert go.wait(120)
        return inputs

    soon = time.monotonic() + 5
    threads = in_threads(lambda: batcher.run("key", ONE, run, deadline=soon))
    assert begun.wait(120)
    threads += in_threads(
        lambda: batcher.run("key", ONE, run),
        lambda: batcher.run("key", ONE, run, deadline=soon + 1),
    )
    while sum(queue.rows for queue in batcher._queues.values()) < 2:
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join(10)
    assert deadlines == [soon, None]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_batch_that_is_broken_off_wakes_everyone() -> None:
    batcher = Batcher(Batching(strict=False, threads=1, max_batch_size=8))
    begun, go = threading.Event(), threading.Event()

    def run(inputs: Any, _: float | None) -> Any:
        begun.set()
        assert go.wait(120)
        if len(inputs["x"]) > 1:
            raise KeyboardInterrupt
        return inputs

    threads = in_threads(lambda: batcher.run("key", ONE, run))
    assert begun.wait(120)
    threads += in_threads(*[lambda: batcher.run("key", ONE, run)] * 3)
    while sum(queue.rows for queue in batcher._queues.values()) < 3:
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


@pytest.fixture
def models() -> Iterator[Models]:
    models = Models(partial(load_version, LoadOptions()))
    yield models
    models.close(1)


def wait_for(models: Models, names: list[str]) -> None:
    end = time.monotonic() + 300
    models.wait_for(names, alive=lambda: time.monotonic() < end)
    assert time.monotonic() < end, f"{names} did not come"


@pytest.mark.parametrize("draining", [False, True])
def test_a_model_taken_out_and_put_back_is_served(models: Models, draining: bool) -> None:
    both = [ModelSettings(name=name, base_path=SHIPPED.parent) for name in ("a", "b")]
    wait_for(models, models.configure(both))
    with models.find(Spec(name="a")):
        models.configure(both[1:])
        if draining:
            while models.status(Spec(name="a"))[0].state != "UNLOADING":
                time.sleep(0.01)
        new = models.configure(both)
    assert new == ["a"]
    wait_for(models, new)
    with models.find(Spec(name="a")) as (version, _):
        assert version == 1


def test_a_wish_for_http_2_keeps_the_body(server: RunningServer) -> None:
    """As Java's HttpClient sends its first POST."""
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AA"}
    address = server.http.removeprefix("http://")
    with closing(http.client.HTTPConnection(address, timeout=120)) as connection:
        for _ in range(2):  # on one connection
            connection.request("POST", f"/v1/models/{NAME}:predict", b'{"what": 1}', headers)
            answer = connection.getresponse()
            assert answer.status == 400
            assert b"Missing 'inputs' or 'instances' key" in answer.read()


def test_a_long_name_does_not_hide_the_code(server: RunningServer) -> None:
    """Details beyond what a trailer holds came as RESOURCE_EXHAUSTED."""
    request = wire.PredictRequest()
    request.model_spec.name = "x" * 100_000
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), timeout=120)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details().startswith("Servable not found for request: Latest(xxx")


def test_a_few_bytes_do_not_stand_for_many_strings(server: RunningServer) -> None:
    """Thirty bytes once took a gigabyte and three seconds."""
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = NAME, "serving_bytes"
    request.inputs["image_bytes"].dtype = wire.DT_STRING
    request.inputs["image_bytes"].tensor_shape.dim.add(size=1 << 24)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), timeout=120)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "tensor parsing error: image_bytes"


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_a_name_that_is_no_text_is_the_askers_mistake(server: RunningServer, key: str) -> None:
    named = b'{"\xff": 1}'
    body = b'{"%b": %b}' % (key.encode(), b"[%b]" % named if key == "instances" else named)
    with closing(http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)) as asked:
        asked.request("POST", f"/v1/models/{NAME}:predict", body)
        answer = asked.getresponse()
        assert answer.status == 400, answer.read()
        assert b"input" in answer.read()


def test_open_streams_neither_keep_calls_waiting_nor_the_end(tmp_path: Path) -> None:
    port, asked = free_port(), threading.Event()
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "servable_client", "serve", f"--model_name={NAME}",
                f"--model_base_path={SHIPPED.parent}", f"--port={port}", "--grpc_max_threads=1",
                "--enable_grpc_healthcheck_service", "--shutdown_grace_seconds=60",
            ],
            stderr=out,
        )  # fmt: skip
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

            def questions() -> Iterator[Any]:
                yield reflection_pb2.ServerReflectionRequest(list_services="")
                asked.wait(60)

            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[no-untyped-call]
            stream = reflection.ServerReflectionInfo(questions(), wait_for_ready=True, timeout=60)
            next(stream)
            health = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
            watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=40).status == 1
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            asked.set()
    finally:
        asked.set()
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('server_key: "k" server_cert: "c"', "has no valid certificate"),
        ('server_key: "k" server_cert: "c" client_verify: true', "without the custom_ca"),
    ],
)
def test_a_wrong_tls_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "ssl.txt"
    file.write_text(text)
    done = servable(
        "serve", f"--model_name={NAME}", f"--model_base_path={SHIPPED.parent}",
        f"--port={free_port()}", f"--ssl_config_file={file}",
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
