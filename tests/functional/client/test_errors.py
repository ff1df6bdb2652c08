"""Each error class, from a server, over each protocol and with each client."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
import shutil
import socket
import struct
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from tests.conftest import NAME, SHIPPED, free_port, serving
from tests.functional.client.conftest import KINDS
from tests.functional.client.gateways import Refusal
from tests.functional.serving.calls import eventually

import servable_client as sdk
from servable_client import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import RunningServer

ONCE = Retry(attempts=1)
LEAVES = [
    ("INVALID_ARGUMENT", sdk.InvalidInput, ValueError),
    ("NOT_FOUND", sdk.ModelNotFound, LookupError),
    ("RESOURCE_EXHAUSTED", sdk.ServerBusy, sdk.ServableError),
    ("DEADLINE_EXCEEDED", sdk.DeadlineExceeded, TimeoutError),
    ("UNAVAILABLE", sdk.ConnectionFailed, ConnectionError),
    ("UNAUTHENTICATED", sdk.AccessDenied, PermissionError),
    ("PERMISSION_DENIED", sdk.AccessDenied, PermissionError),
    ("INTERNAL", sdk.ServerFailed, sdk.ServableError),
]


@pytest.mark.parametrize(("code", "leaf", "python"), LEAVES)
def test_each_status_has_its_error_class(
    make: Callable[..., Any],
    scheme: str,
    gateway: Callable[..., Any],
    boot: np.ndarray,
    code: str,
    leaf: type[sdk.ServableError],
    python: type[Exception],
) -> None:
    at = gateway(scheme, lambda *_: Refusal(code)).address
    with make(at, model=NAME, retry=ONCE) as client, pytest.raises(python) as caught:
        client.classify(boot)
    error = caught.value
    assert type(error) is leaf
    assert isinstance(error, sdk.ServableError)
    assert (error.code, error.endpoint, error.model) == (code, at, NAME)
    assert "refused by the gateway" in error.message or leaf is sdk.DeadlineExceeded
    assert error.hint or leaf in (sdk.InvalidInput, sdk.ServerFailed)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is leaf
    assert vars(again) == vars(error)


@contextmanager
def answering(*headers: tuple[bytes, bytes]) -> Iterator[str]:
    """A gRPC server that answers its only call with these trailers, whatever their bytes."""

    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        return (
            struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
        )

    done = threading.Event()
    # HPACK (RFC 7541): status 200, then fields that are not indexed.
    fields = b"\x88" + b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in headers
    )

    def serve() -> None:
        caller, _ = listener.accept()
        with caller:
            caller.sendall(frame(4, 0, 0))
            received = b""
            # Until the end of the stream 1, in a frame of data.
            while b"\x00\x01\x00\x00\x00\x01" not in received:
                received += caller.recv(65536) or b"\x00\x01\x00\x00\x00\x01"
            caller.sendall(frame(4, 1, 0) + frame(1, 5, 1, fields))
            assert done.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"grpc://127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        thread.join()


def test_a_grpc_message_that_is_not_utf8_is_shown(make: Callable[..., Any]) -> None:
    with (
        answering(
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"3"),
            (b"grpc-message", b"caf%E9 is not valid"),
        ) as address,
        make(address, model=NAME, retry=ONCE) as client,
        pytest.raises(sdk.InvalidInput, match=r"caf.+ is not valid"),
    ):
        client.status()


def test_the_port_of_the_other_protocol(
    make: Callable[..., Any], scheme: str, server: RunningServer
) -> None:
    grpc = scheme == "grpc"
    at = f"{scheme}://127.0.0.1:{server.rest_port if grpc else server.port}"
    other = "REST port (usually 8501)?" if grpc else "gRPC port (usually 8500)?"

    def says_so() -> bool:
        with pytest.raises(sdk.ConnectionFailed) as caught:
            client.status()
        return f"is this its {other}" in (caught.value.hint or "")

    with make(at, model=NAME, retry=ONCE) as client:
        # What answers resets the connection next, which may come before the answer is read.
        eventually(says_so)


def test_invalid_input_of_the_servers(client: Any) -> None:
    with pytest.raises(sdk.InvalidInput, match="image") as caught:
        client.predict({"img": np.zeros([1, 28, 28], np.uint8)})
    assert (caught.value.code, caught.value.model) == ("INVALID_ARGUMENT", NAME)


@pytest.mark.parametrize(
    ("inputs", "hint"),
    [
        (
            {"image": np.zeros([3, 28, 29], np.uint8)},
            "the input image takes uint8 [N, 28, 28], got uint8 [3, 28, 29]",
        ),
        (
            {"image": np.full([3, 28, 29], 0.5, np.float32)},
            "the input image takes uint8 [N, 28, 28], got float32 [3, 28, 29]",
        ),
        (
            {"img": np.zeros([1, 28, 28], np.uint8)},
            "the inputs are image (uint8 [N, 28, 28]), got img",
        ),
    ],
    ids=["shape", "dtype", "name"],
)
def test_the_input_at_fault_is_named(
    make: Callable[..., Any],
    server: RunningServer,
    inputs: dict[str, Any],
    hint: str,
) -> None:
    with make(server.grpc, model=NAME) as client, pytest.raises(sdk.InvalidInput) as caught:
        client.predict(inputs)
    error = caught.value
    assert (error.input, error.hint) == ("image", hint)
    assert (error.endpoint, error.attempts, error.model) == (server.grpc, 1, NAME)
    assert error.__notes__ == [hint]


def test_an_input_of_another_shape_is_named_over_rest(server: RunningServer) -> None:
    with sdk.Client(server.http, model=NAME) as client, pytest.raises(sdk.InvalidInput) as caught:
        client.predict({"image": np.zeros([3, 28, 29], np.uint8)})
    assert caught.value.input == "image"
    assert "[N, 28, 28]" in (caught.value.hint or "")


def test_an_error_has_the_id_of_the_request_and_the_attempts(
    make: Callable[..., Any], scheme: str, gateway: Callable[..., Any]
) -> None:
    numbers = itertools.count(1)

    def decide(*_: object) -> Refusal:
        return Refusal("UNAVAILABLE", request_id=f"request-{next(numbers)}")

    at = gateway(scheme, decide).address
    retry = Retry(attempts=3, initial=0, maximum=0)
    with (
        make(at, model=NAME, retry=retry) as client,
        pytest.raises(sdk.ConnectionFailed) as caught,
    ):
        client.status()
    assert (caught.value.attempts, caught.value.request_id) == (3, "request-3")


def fail(address: str) -> None:
    with sdk.Client(address, model=NAME) as client:
        client.predict({"img": np.zeros([1, 28, 28], np.uint8)})


def test_an_error_comes_whole_out_of_another_process(server: RunningServer) -> None:
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
        pytest.raises(sdk.InvalidInput) as caught,
    ):
        pool.submit(fail, server.grpc).result()
    error = caught.value
    assert (error.input, error.attempts, error.endpoint) == ("image", 1, server.grpc)
    assert (error.hint or "") in error.__notes__


@pytest.mark.parametrize(
    "options", [{"model": "nosuch"}, {"version": 9}, {"label": "nosuch"}], ids=str
)
def test_model_not_found(
    make: Callable[..., Any],
    scheme: str,
    server: RunningServer,
    boot: np.ndarray,
    options: dict[str, Any],
) -> None:
    at = server.address(scheme)
    with make(at, **{"model": NAME, **options}) as client:
        for ask in (
            lambda: client.classify(boot),
            lambda: client.predict({"image": boot[np.newaxis]}),
            client.metadata,
        ):
            with pytest.raises(sdk.ModelNotFound) as caught:
                ask()
            assert caught.value.hint
            assert caught.value.endpoint == at
        assert not client.ready()


def test_signature_not_found(client: Any, boot: np.ndarray) -> None:
    with pytest.raises(sdk.ModelNotFound, match="nosuch") as caught:
        client.predict({"image": boot[np.newaxis]}, signature="nosuch")
    assert "metadata()" in (caught.value.hint or "")


def test_not_ready(tmp_path: Path, boot: np.ndarray) -> None:
    # A version is LOADING while it warms up.
    from servable_client._wire import wire_pb2 as wire
    from servable_client._wire.tensors import fill_proto

    shutil.copytree(SHIPPED, tmp_path / NAME / "1")
    slow = tmp_path / "incoming"
    shutil.copytree(SHIPPED, slow)
    log = wire.PredictionLog()
    log.predict_log.request.model_spec.name = NAME
    fill_proto(log.predict_log.request.inputs["image"], np.zeros([200, 28, 28], np.uint8))
    write_records(slow / "assets.extra" / "tf_serving_warmup_requests", log, 15)
    with serving(tmp_path / NAME, tmp_path / "log") as server:
        slow.rename(tmp_path / NAME / "2")
        for kind in KINDS.values():
            for address in (server.grpc, server.http):
                with kind(address, model=NAME, version=2, timeout=20) as client:
                    error = until_loading(client, boot)
                    assert isinstance(error, sdk.NotReady)
                    assert error.hint
                    assert error.model == NAME
                    assert "version 2" in error.message
                    assert not client.ready()
        with sdk.Client(server.grpc, model=NAME) as client:
            assert client.wait_until_available(2) == 2
            assert client.classify(boot, version=2).version == 2


def until_loading(client: Any, boot: np.ndarray) -> sdk.ServableError | None:
    """The error for a version once the server has begun to load it."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            client.predict({"image": boot[np.newaxis]})
        except sdk.ModelNotFound:
            time.sleep(0.02)
        except sdk.NotReady as error:
            return error
        else:
            break
    return None


def write_records(path: Path, log: Any, count: int) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(count):
            writer.write(log.SerializeToString())


def test_connection_failed(make: Callable[..., Any], scheme: str, boot: np.ndarray) -> None:
    at = f"{scheme}://127.0.0.1:{free_port()}"
    with make(at, model=NAME, timeout=2) as client:
        with pytest.raises(sdk.ConnectionFailed) as caught:
            client.classify(boot)
        assert at in str(caught.value)
        assert "servable serve" in (caught.value.hint or "")
        assert not client.ready(timeout=0.5)


def test_deadline_exceeded(make: Callable[..., Any], scheme: str, boot: np.ndarray) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        at = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with (
            make(at, model=NAME, timeout=0.4) as client,
            pytest.raises(sdk.DeadlineExceeded),
        ):
            client.classify(boot)


@pytest.mark.parametrize("place", ["head", "body"])
def test_the_deadline_covers_the_whole_response(make: Callable[..., Any], place: str) -> None:
    # A byte now and then keeps each wait short, and must not extend the call.
    class Trickle(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                if place == "body":
                    self.wfile.write(b"Content-Length: 1000\r\n\r\n")
                for _ in range(100):
                    self.wfile.write(b"x" if place == "body" else b"X-A: b\r\n")
                    time.sleep(0.05)
            except OSError:
                pass  # the client disconnected, as it should

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Trickle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with (
            make(f"http://127.0.0.1:{server.server_port}", model=NAME) as client,
            # The complete response, after five seconds, would be malformed.
            pytest.raises(sdk.DeadlineExceeded),
        ):
            client.status(timeout=0.5)
        server.shutdown()


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"outputs": 3}', b'{"error": {"code": 3}}', b"[]", b"<html>", b'{"metadata": 1}'],
)
@pytest.mark.parametrize("status", [200, 400])
def test_a_server_that_is_not_tensorflow_serving(
    make: Callable[..., Any], body: bytes, status: int
) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with make(f"http://127.0.0.1:{server.server_port}", model=NAME) as client:
            for ask in (client.status, client.metadata, lambda: client.predict({"image": [1]})):
                with pytest.raises(sdk.ServableError) as caught:
                    ask()
                assert isinstance(caught.value, sdk.ServerFailed) == (status == 200)
                assert str(caught.value)
        server.shutdown()


def test_an_answer_without_a_message(make: Callable[..., Any]) -> None:
    """The call ends well, and nothing has come: what a proxy that loses the body does."""
    handler = grpc.unary_stream_rpc_method_handler(lambda *_: iter(()))

    class Silent(grpc.GenericRpcHandler):  # type: ignore[type-arg]
        def service(self, _: object) -> Any:
            return handler

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Silent()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            make(f"grpc://127.0.0.1:{port}", model=NAME, timeout=20) as client,
            pytest.raises(sdk.ServerFailed, match="not a single uncompressed gRPC message"),
        ):
            client.status()
    finally:
        server.stop(None).wait()


def test_the_wrong_ports(make: Callable[..., Any], server: RunningServer) -> None:
    for at in (f"http://127.0.0.1:{server.port}", f"grpc://127.0.0.1:{server.rest_port}"):
        with make(at, model=NAME, timeout=2, retry=ONCE) as client:
            with pytest.raises(sdk.ServableError) as caught:
                client.status()
            assert isinstance(caught.value, sdk.ServerFailed | sdk.ConnectionFailed)


def test_a_closed_client_refuses_calls(make: Callable[..., Any], server: RunningServer) -> None:
    for scheme in ("grpc", "http"):
        with make(server.address(scheme), model=NAME) as client:
            client.status()
            client.close()
            with pytest.raises(sdk.InvalidInput, match="closed"):
                client.status()
