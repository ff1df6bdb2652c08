"""Small servers in front of TensorFlow Serving, which inspect a request, then refuse or forward
it, as gateways and proxies do.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    _GenericRpcHandler = grpc.GenericRpcHandler[bytes, bytes]
else:
    _GenericRpcHandler = grpc.GenericRpcHandler  # generic in its stubs only

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_METHODS = {":predict": "Predict", ":classify": "Classify", "/metadata": "GetModelMetadata"}


@dataclass(frozen=True)
class Refusal:
    """An error in place of the response of the server."""

    code: str
    message: str = "refused by the gateway"
    retry_after: int | None = None
    status: int | None = None
    request_id: str | None = None


def _poisoned(body: bytes, poison: bytes | None) -> Refusal | None:
    """The error of a server for an image that it cannot decode."""
    if poison and (poison in body or base64.b64encode(poison) in body):
        return Refusal("INVALID_ARGUMENT", "the image cannot be decoded")
    return None


class GrpcGateway:
    """A gateway that speaks gRPC."""

    def __init__(
        self, decide: Any, upstream: int, *, credentials: Any = None, poison: bytes | None = None
    ) -> None:
        self._poison = poison
        self.seen: list[tuple[str, dict[str, str]]] = []
        self._decide = decide
        self._channel = grpc.insecure_channel(f"127.0.0.1:{upstream}")
        self._server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Handler(self._handle),))
        self.port = (
            self._server.add_insecure_port("127.0.0.1:0")
            if credentials is None
            else self._server.add_secure_port("127.0.0.1:0", credentials)
        )
        self.address = f"{'grpc' if credentials is None else 'grpcs'}://127.0.0.1:{self.port}"
        self._server.start()

    def _handle(self, path: str, request: bytes, context: Any) -> bytes:
        method = path.rpartition("/")[2]
        headers = {key: str(value) for key, value in context.invocation_metadata()}
        self.seen.append((method, headers))
        refusal = self._decide(method, headers) or _poisoned(request, self._poison)
        if refusal is not None:
            if refusal.request_id is not None:
                context.send_initial_metadata((("x-request-id", refusal.request_id),))
            if refusal.retry_after is not None:
                context.set_trailing_metadata((("retry-after", str(refusal.retry_after)),))
            context.abort(grpc.StatusCode[refusal.code], refusal.message)
        try:
            return bytes(self._channel.unary_unary(path, None, None)(request, timeout=120))
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
            raise AssertionError from error

    def close(self) -> None:
        self._server.stop(0).wait()
        self._channel.close()


class _Handler(_GenericRpcHandler):
    def __init__(self, handle: Callable[[str, bytes, Any], bytes]) -> None:
        self._handle = handle

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._handle(details.method, request, context)
        )


class HttpGateway:
    """A gateway that speaks HTTP."""

    def __init__(
        self,
        decide: Any,
        upstream: int,
        *,
        credentials: ssl.SSLContext | None = None,
        poison: bytes | None = None,
    ) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                ending = next((e for e in _METHODS if self.path.endswith(e)), None)
                method = _METHODS.get(ending or "", "GetModelStatus")
                headers = {name.lower(): value for name, value in self.headers.items()}
                gateway.seen.append((method, headers))
                refusal = decide(method, headers) or _poisoned(body, poison)
                if refusal is not None:
                    status = refusal.status or HTTP_STATUS[refusal.code]
                    self._reply(status, json.dumps({"error": refusal.message}).encode(), refusal)
                    return
                request = urllib.request.Request(
                    f"http://127.0.0.1:{upstream}{self.path}", data=body or None
                )
                try:
                    with urllib.request.urlopen(request, timeout=120) as answer:
                        self._reply(answer.status, answer.read())
                except urllib.error.HTTPError as error:
                    with error:
                        self._reply(error.code, error.read())

            do_POST = do_GET  # noqa: N815

            def _reply(self, status: int, body: bytes, refusal: Refusal | None = None) -> None:
                self.send_response(status)
                if refusal is not None and refusal.retry_after is not None:
                    self.send_header("Retry-After", str(refusal.retry_after))
                if refusal is not None and refusal.request_id is not None:
                    self.send_header("X-Request-Id", refusal.request_id)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """Ignore clients that disconnect or do not trust the certificate."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if credentials is not None:
            self._server.socket = credentials.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if credentials is None else "https"
        self.address = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class ForwardProxy:
    """An HTTP proxy: tunnels by CONNECT, plain requests passed on; every name is this machine.

    Args:
        credentials: `user:password` that it asks for.
    """

    def __init__(self, credentials: str | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        proxy = self
        wanted = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_CONNECT(self) -> None:
                proxy.seen.append(("CONNECT", self.path))
                if self._refused():
                    return
                port = int(self.path.rpartition(":")[2])
                with socket.create_connection(("127.0.0.1", port)) as upstream:
                    self.send_response(200)
                    self.end_headers()
                    ends = [self.connection, upstream]
                    while True:
                        for end in select.select(ends, [], [])[0]:
                            data = end.recv(65536)
                            if not data:
                                self.close_connection = True
                                return
                            ends[1 - ends.index(end)].sendall(data)

            def do_GET(self) -> None:
                target = urlsplit(self.path)
                proxy.seen.append((self.command, target.netloc))
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self._refused():
                    return
                request = urllib.request.Request(
                    f"http://127.0.0.1:{target.port}{target.path}", data=body or None
                )
                direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with direct.open(request, timeout=120) as answer:
                    self._reply(answer.status, answer.read())

            do_POST = do_GET  # noqa: N815

            def _refused(self) -> bool:
                if wanted is None or self.headers.get("proxy-authorization") == wanted:
                    return False
                self._reply(407, b"")
                return True

            def _reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
