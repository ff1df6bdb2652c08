"""What one caller sends keeps nobody else waiting, and too much is refused at once."""

from __future__ import annotations

import gzip
import json
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import requests
from tests.conftest import free_port, serving
from tests.forked import FreshServer
from tests.functional.serving.calls import (
    MODEL,
    PREDICTION,
    call,
    config_of,
    eventually,
    linear,
    post,
    slow,
)  # fmt: skip
from tests.reliability.resources import Usage

from servable_client import AsyncClient, Client, Retry, ServerBusy
from servable_serving.server.options import ServerOptions
from servable_serving.server.rest import server as rest_server
from servable_serving.server.runtime.loaded_model import LoadedModel
from servable_serving.server.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer

THREADS, QUEUE = 2, 3
# Steps of the slow model that take seconds. A run that has begun ends by itself only.
LONG = [8000]


@pytest.fixture(scope="module")
def small(
    fixtures: Path, slow_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server of two threads for each protocol, and three places to wait."""
    folder = tmp_path_factory.mktemp("small")
    config = folder / "models.config"
    config.write_text(config_of({"linear": fixtures / "linear", "slow": slow_model}))
    monitoring = folder / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with serving(
        None, folder / "log", f"--model_config_file={config}",
        f"--monitoring_config_file={monitoring}", f"--grpc_max_threads={THREADS}",
        f"--rest_api_num_threads={THREADS}", f"--max_queue={QUEUE}", "--max_connections=20",
        "--max_request_bytes=3000000", "--max_json_values=100000", "--max_response_bytes=50000",
        "--rest_api_timeout_in_ms=20000",
        model="linear",
    ) as running:  # fmt: skip
        yield running


@contextmanager
def channel_to(server: RunningServer, *more: tuple[str, int]) -> Iterator[grpc.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1), *more]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        yield channel


@contextmanager
def busy(server: RunningServer, calls: int) -> Iterator[None]:
    """Calls that take all threads and all places to wait, until the block ends."""
    with channel_to(server) as channel:
        ask = channel.unary_unary(f"{PREDICTION}Predict", None, None)
        data = to_bytes(slow(LONG))
        begun = [ask.future(data, timeout=60) for _ in range(calls)]
        yield
        for one in begun:
            one.cancel()  # type: ignore[no-untyped-call]


def to_bytes(message: dict[str, object]) -> bytes:
    from google.protobuf import json_format
    from tensorflow_serving.apis import predict_pb2

    found: bytes = json_format.ParseDict(message, predict_pb2.PredictRequest()).SerializeToString()
    return found


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(20)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def runs_of_slow(server: RunningServer) -> int:
    page = requests.get(f"{server.http}/monitoring/prometheus/metrics", timeout=20).text
    lines = [line for line in page.splitlines() if "runtime_latency_count" in line]
    return sum(int(float(line.split()[-1])) for line in lines if 'model_name="slow"' in line)


def request_of(body: bytes, model: str = "linear", headers: str = "") -> bytes:
    head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: x\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_calls_whose_message_never_comes_cost_no_thread(small: RunningServer) -> None:
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(120)
        yield from ()

    with channel_to(small) as strange, channel_to(small) as channel:
        ask = strange.stream_unary(f"{PREDICTION}Predict", None, None)
        begun = [ask.future(nothing(), timeout=120) for _ in range(20 * THREADS)]
        # These come in on the same connection, behind the others.
        for _ in range(20):
            call(strange, f"{MODEL}GetModelStatus", {"model_spec": {"name": "linear"}})
            call(channel, f"{PREDICTION}Predict", linear([[1, 2, 3]]))
        assert not any(one.done() for one in begun)
        never.set()


def test_more_than_fits_is_refused_at_once_and_the_state_is_still_told(
    small: RunningServer,
) -> None:
    with busy(small, THREADS + QUEUE), channel_to(small) as channel:
        codes: list[Any] = []

        def refused() -> bool:
            try:
                call(channel, f"{PREDICTION}Predict", linear([[1, 2, 3]]), timeout=0.5)
            except grpc.RpcError as error:
                trailer: Any = error.trailing_metadata()
                codes.append((error.code(), dict(trailer)))
            return bool(codes) and codes[-1][0] == grpc.StatusCode.RESOURCE_EXHAUSTED

        eventually(refused)
        assert float(codes[-1][1]["grpc-retry-pushback-ms"]) > 0
        status = call(channel, f"{MODEL}GetModelStatus", {"model_spec": {"name": "slow"}})
        assert status.model_version_status
        assert post(small, {"instances": [[1, 2, 3]]}, "linear:predict").status_code == 200


def test_rest_refuses_with_429_and_when_to_retry(small: RunningServer) -> None:
    data = json.dumps({"inputs": LONG}).encode()
    with ExitStack() as stack:
        for _ in range(THREADS + QUEUE):
            connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", small.rest_port))
            )
            connection.sendall(request_of(data, "slow"))
        found: list[requests.Response] = []

        def refused() -> bool:
            url = f"{small.http}/v1/models/linear:predict"
            try:
                found.append(requests.post(url, json={"instances": [[1, 2, 3]]}, timeout=1))
            except requests.Timeout:
                return False
            return found[-1].status_code == 429

        eventually(refused)
        assert found[-1].headers["retry-after"] == "1"
        assert "retry later" in found[-1].json()["error"]
        assert requests.get(f"{small.http}/v1/models/linear", timeout=20).status_code == 200


def test_what_nobody_waits_for_is_not_run(small: RunningServer) -> None:
    """Those who left in the queue leave their places at once; each would take seconds."""
    data = json.dumps({"inputs": LONG}).encode()
    before = runs_of_slow(small)
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", small.rest_port)) as connection:
            connection.sendall(request_of(data, "slow"))
    for _ in range(3):
        with busy(small, THREADS + QUEUE):
            pass
    eventually(lambda: post(small, {"inputs": [1]}, "slow:predict").status_code == 200)
    with channel_to(small) as channel:
        call(channel, f"{PREDICTION}Predict", slow([1]))
    assert runs_of_slow(small) - before < 15  # of 45 and these two


def test_all_of_many_calls_of_a_client_are_answered(small: RunningServer) -> None:
    """Far more than the server lets in: the client comes again when it is told to."""
    import asyncio

    x = np.ones([1, 3], np.float32)

    async def many() -> list[Any]:
        async with AsyncClient(f"grpc://127.0.0.1:{small.port}", model="linear") as client:
            return await asyncio.gather(*[client.predict({"x": x}, timeout=60) for _ in range(200)])

    answers = asyncio.run(many())
    with Client(f"grpc://127.0.0.1:{small.port}", model="linear") as client:
        expected = client.predict({"x": x})
    assert len(answers) == 200
    for answer in answers:
        assert {k: v.tolist() for k, v in answer.items()} == {
            k: v.tolist() for k, v in expected.items()
        }


def test_the_timeout_of_a_rest_request_holds_while_its_graph_runs(
    slow_model: Path, tmp_path: Path
) -> None:
    flags = ("--rest_api_timeout_in_ms=500", "--shutdown_grace_seconds=0")
    with serving(slow_model, tmp_path / "log", *flags, model="slow") as server:
        # Fast once, so that the next run is one that TensorFlow cannot cancel; a busy machine may
        # need more than the half second now and then.
        for _ in range(3):
            eventually(lambda: post(server, {"inputs": [1]}, "slow:predict").status_code == 200)
        response = post(server, {"inputs": [20_000]}, "slow:predict")
        assert response.status_code == 504
        assert response.json() == {"error": "Timed out waiting for notification"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        # 240 MB of empty lists in 240 KB; as many as may be unpacked; a number more than allowed.
        (gzip.compress(b'{"instances":[' + b"[]," * (80 << 20) + b"[]]}", 6), 400),
        (gzip.compress(b'{"instances":[' + b"[]," * (30 << 20) + b"[]]}", 6), 400),
        (gzip.compress(b'{"instances":[' + b"1.25," * (1 << 20) + b"1]}", 6), 400),
    ],
    ids=["too-large", "lists", "numbers"],
)
def test_what_unpacks_to_too_much_is_refused(
    small: RunningServer, body: bytes, status: int
) -> None:
    with ThreadPoolExecutor(4) as executor:
        headers = {"content-encoding": "gzip"}
        answers = list(
            executor.map(lambda _: post(small, body, "linear:predict", headers=headers), range(4))
        )
    assert {answer.status_code for answer in answers} <= {status, 429}
    assert post(small, {"instances": [[1, 2, 3]]}, "linear:predict").status_code == 200


def test_what_a_message_unpacks_to_is_bounded(small: RunningServer) -> None:
    length = 300 << 20
    data = b"\x7a\x80\x80\x80\x96\x01" + bytes(length)  # 300 MiB of an unknown field
    with channel_to(small, ("grpc.max_send_message_length", -1)) as channel:
        ask = channel.unary_unary(f"{PREDICTION}Predict", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            ask(data, timeout=60, compression=grpc.Compression.Gzip)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        call(channel, f"{PREDICTION}Predict", linear([[1, 2, 3]]))


def test_a_request_that_gets_no_memory_is_refused(
    fixtures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    port, rest_port = free_port(), free_port()
    options = ServerOptions(
        model_name="linear", model_base_path=fixtures / "linear", port=port, rest_api_port=rest_port
    )
    retry = Retry(attempts=1)
    with Server(options):
        for address in (f"grpc://127.0.0.1:{port}", f"http://127.0.0.1:{rest_port}"):
            with Client(address, model="linear", timeout=60, retry=retry) as client:
                x = np.ones([1, 3], np.float32)
                with monkeypatch.context() as patch:
                    patch.setattr(LoadedModel, "run", no_memory)
                    with pytest.raises(ServerBusy) as caught:
                        client.predict({"x": x})
                assert caught.value.code == "RESOURCE_EXHAUSTED"
                assert client.predict({"x": x})["y"].shape == (1, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_invalid_messages_is_given_back(fixtures: Path, tmp_path: Path) -> None:
    with (
        # The memory of a forked process is shared with that of another at first.
        serving(fixtures / "linear", tmp_path / "log", model="linear", start=FreshServer) as server,
        channel_to(server, ("grpc.max_send_message_length", -1)) as channel,
    ):
        call(channel, f"{PREDICTION}Predict", linear([[1, 2, 3]]))
        before = Usage.of(server.process.pid).memory
        ask = channel.unary_unary(f"{PREDICTION}Predict", None, None)
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                ask(b"\x0a" + bytes(200 << 20), timeout=60)
        eventually(lambda: Usage.of(server.process.pid).memory < before + 100)


def test_requests_that_are_too_large(small: RunningServer) -> None:
    assert post(small, b" " * 3_000_001, "linear:predict").status_code == 413
    with channel_to(small) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, f"{PREDICTION}Predict", {"model_spec": {"name": "x" * 3_000_001}})
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_responses_that_are_too_large(small: RunningServer) -> None:
    rows = [[1.0, 2.0, 3.0]] * 4000
    with channel_to(small) as channel:
        assert call(channel, f"{PREDICTION}Predict", linear(rows)).outputs["y"]
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, f"{PREDICTION}Predict", linear(rows * 2))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "more than 50000" in str(caught.value.details())
    answer = post(small, {"instances": rows}, "linear:predict")
    assert (answer.status_code, "send fewer rows" in answer.json()["error"]) == (400, True)
    assert post(small, {"instances": rows[:800]}, "linear:predict").ok


def test_idle_connections_give_way(small: RunningServer) -> None:
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", small.rest_port)))
            for _ in range(40)
        ]
        assert post(small, {"instances": [[1, 2, 3]]}, "linear:predict").status_code == 200
        assert is_closed(idle[0])
        idle[-1].sendall(request_of(b"{}"))
        assert idle[-1].recv(12) == b"HTTP/1.1 400"


def test_more_grpc_connections_than_allowed_keep_nobody_out(small: RunningServer) -> None:
    with ExitStack() as stack, channel_to(small) as channel:
        call(channel, f"{MODEL}GetModelStatus", {"model_spec": {"name": "linear"}})
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", small.port)))
        call(channel, f"{PREDICTION}Predict", linear([[1, 2, 3]]))


def test_a_head_without_an_end_is_refused(small: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", small.rest_port)) as connection:
        connection.settimeout(20)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):  # noqa: PT011, PT012
            for number in range(100_000):
                connection.sendall(b"x-%d: y\r\n" % number)
    assert requests.get(f"{small.http}/v1/models/linear", timeout=20).status_code == 200


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b"HTTP/1.1 408"),
        (b"GET /v1/models/linear HTTP/1.1\r\nHos", b"HTTP/1.1 408"),
        (request_of(b"{}" * 50)[:-1], b""),
    ],
    ids=["nothing", "head", "body"],
)
def test_a_request_that_does_not_come_is_not_waited_for(
    sent: bytes, answer: bytes, fixtures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_server, "_HEAD_SECONDS", 0.3)
    monkeypatch.setattr(rest_server, "_BODY_SECONDS", 0.3)
    port, rest_port = free_port(), free_port()
    options = ServerOptions(
        model_name="linear", model_base_path=fixtures / "linear", port=port, rest_api_port=rest_port
    )
    with Server(options), socket.create_connection(("127.0.0.1", rest_port)) as connection:
        connection.settimeout(20)
        connection.sendall(sent)
        try:
            assert connection.recv(12) == answer
        except ConnectionResetError:
            assert answer == b""


def test_slow_but_steady_bodies_are_read(small: RunningServer) -> None:
    data = request_of(b'{"instances": [[1, 2, 3]]}')
    with socket.create_connection(("127.0.0.1", small.rest_port)) as connection:
        connection.settimeout(20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):  # and once more on the same connection
            for at in range(len(data)):
                connection.sendall(data[at : at + 1])
            response = HTTPResponse(connection)
            response.begin()
            assert response.status == 200
            response.read()


def test_pages_of_other_hosts_may_not_send_requests(small: RunningServer) -> None:
    body = {"instances": [[1, 2, 3]]}
    other = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    assert post(small, body, "linear:predict", headers=other).status_code == 403
    rebound = {"origin": "http://evil.example", "host": f"evil.example:{small.rest_port}"}
    assert post(small, body, "linear:predict", headers=rebound).status_code == 403
    own = {"origin": f"http://127.0.0.1:{small.rest_port}", "sec-fetch-site": "same-origin"}
    assert post(small, body, "linear:predict", headers=own).status_code == 200
