"""The end: readiness off, what is in flight finished, exit status 0."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.conftest import NAME, SHIPPED, free_port, serving
from tests.functional.serving.calls import MODEL, PREDICTION, call, post, slow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_requests_in_flight_are_finished(slow_model: Path, tmp_path: Path) -> None:
    steps = [2000] + [0] * 99
    with (
        serving(
            slow_model, tmp_path / "log", "--enable_grpc_healthcheck_service",
            "--shutdown_grace_seconds=60", model="slow",
        ) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ThreadPoolExecutor(2) as executor,
    ):  # fmt: skip
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        by_grpc = executor.submit(call, channel, f"{PREDICTION}Predict", slow(steps))
        by_rest = executor.submit(post, server, {"inputs": steps}, "slow:predict")
        # Both have come in once others that came later are answered.
        for _ in range(20):
            call(channel, f"{MODEL}GetModelStatus", {"model_spec": {"name": "slow"}})
            requests.get(f"{server.http}/v1/models/slow", timeout=20)
        assert not by_grpc.done()
        assert not by_rest.done()
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        # Nothing new is taken from a moment later on; gRPC cancels what comes in just while it
        # closes.
        with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012
            while time.monotonic() - began < 20:
                call(channel, f"{MODEL}GetModelStatus", {"model_spec": {"name": "slow"}})
        assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert tf.make_ndarray(by_grpc.result(60).outputs["steps"]).tolist() == steps
        assert by_rest.result(60).json()["outputs"]["steps"] == steps
        assert server.process.wait(60) == 0
        with pytest.raises(requests.ConnectionError):
            requests.get(server.http, timeout=5)
        assert "Traceback" not in server.log.read_text()


def test_requests_in_flight_do_not_hold_it_for_ever(slow_model: Path, tmp_path: Path) -> None:
    with (
        serving(slow_model, tmp_path / "log", "--shutdown_grace_seconds=1", model="slow") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ThreadPoolExecutor(2) as executor,
    ):
        steps = [600_000] * 10
        by_grpc = executor.submit(call, channel, f"{PREDICTION}Predict", slow(steps))
        by_rest = executor.submit(post, server, {"inputs": steps}, "slow:predict")
        for _ in range(20):
            call(channel, f"{MODEL}GetModelStatus", {"model_spec": {"name": "slow"}})
            requests.get(f"{server.http}/v1/models/slow", timeout=20)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0  # the requests would take five minutes
        with pytest.raises(grpc.RpcError) as caught:
            by_grpc.result(20)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert by_rest.result(20).status_code == 503
        assert by_rest.result(20).json() == {"error": "The server is stopping"}
        assert "Traceback" not in server.log.read_text()


def test_a_request_that_does_not_come_does_not_hold_it(slow_model: Path, tmp_path: Path) -> None:
    with (
        serving(
            slow_model, tmp_path / "log", "--shutdown_grace_seconds=300", model="slow"
        ) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ThreadPoolExecutor(1) as executor,
    ):  # fmt: skip
        never = threading.Event()

        def nothing() -> Iterator[bytes]:
            never.wait(120)
            yield from ()

        ask = channel.stream_unary(f"{PREDICTION}Predict", None, None)
        half = ask.future(nothing(), timeout=120)
        steps = [2000] + [0] * 99
        whole = executor.submit(call, channel, f"{PREDICTION}Predict", slow(steps))
        for _ in range(20):
            call(channel, f"{MODEL}GetModelStatus", {"model_spec": {"name": "slow"}})
        assert not whole.done()
        server.process.send_signal(signal.SIGTERM)
        assert tf.make_ndarray(whole.result(60).outputs["steps"]).tolist() == steps
        assert server.process.wait(60) == 0
        assert half.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        never.set()


def test_open_streams_delay_neither_calls_nor_the_shutdown(tmp_path: Path) -> None:
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

            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            stream = reflection.ServerReflectionInfo(questions(), wait_for_ready=True, timeout=60)
            next(stream)
            health = health_pb2_grpc.HealthStub(channel)
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
