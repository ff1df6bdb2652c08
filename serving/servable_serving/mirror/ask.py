"""One request, as a client sent it, for a version of one's choice."""

from __future__ import annotations

import re
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc
import httpcore
import orjson
from google.protobuf.message import DecodeError

from servable_client._errors import code_of_http_status
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto
from servable_serving.core.addresses import is_ip_address
from servable_serving.core.names import STABLE
from servable_serving.mirror.answers import answer_of_json, answer_of_proto, inputs_of_json
from servable_serving.mirror.comparison import Asked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable_serving.mirror.answers import Answer

GRPC_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_REST_PREDICT = re.compile(
    r"/v1/models/(?P<model>[A-Za-z0-9._-]+)"
    r"(?:/versions/(?P<version>[0-9]{1,19})|/labels/(?P<label>[A-Za-z0-9._-]+))?:predict"
)
# A message's compression and length: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
_FRAME_HEAD = 5
_SECONDS = 30.0
_TIMES = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), _SECONDS)}
_LOOK_UP_SECONDS, _MOST_VERSIONS = 2.0, 1000
_LARGEST = 64 << 20
# Of a body in JSON, which takes up to a hundred times as much once it is parsed.
LARGEST_JSON = 2 << 20
_CONNECTIONS = 16


def _unzipped(data: bytes) -> bytes:
    """A compressed message, at most as large as others may be."""
    unzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    plain = unzip.decompress(data, _LARGEST)
    if not unzip.eof:
        raise NotPredict("the message is too large, or cut off")
    return plain


class NotPredict(ValueError):
    """A request is not for Predict, or not valid."""


@dataclass(frozen=True, kw_only=True)
class Mirrored:
    """A request for Predict.

    Attributes:
        name: The request's id.
        model: The model's name.
        version: The version that it names; None without.
        label: The label that it names; None without.
        message: The request over gRPC; None over REST.
        body: The body over REST; empty over gRPC.
    """

    name: str
    model: str
    version: int | None
    label: str | None
    message: wire.PredictRequest | None = None
    body: bytes = b""

    @classmethod
    def read(cls, path: str, body: bytes, *, name: str) -> Self:
        """A request from its path and body.

        Raises:
            NotPredict: It is not one for Predict, or not valid.
        """
        if path == GRPC_PREDICT:
            return cls._read_frame(body, name)
        found = _REST_PREDICT.fullmatch(path)
        if found is None:
            raise NotPredict(path)
        version = found["version"]
        return cls(
            name=name,
            model=found["model"],
            version=None if version is None else int(version),
            label=found["label"],
            body=body,
        )

    @classmethod
    def _read_frame(cls, body: bytes, name: str) -> Self:
        data = body[_FRAME_HEAD:]
        if len(body) < _FRAME_HEAD or len(data) != int.from_bytes(body[1:_FRAME_HEAD], "big"):
            raise NotPredict("not one message")
        try:
            message = wire.PredictRequest.FromString(_unzipped(data) if body[0] else data)
        except (DecodeError, zlib.error) as error:
            raise NotPredict(str(error)) from None
        spec = message.model_spec
        return cls(
            name=name,
            model=spec.name,
            version=spec.version.value if spec.HasField("version") else None,
            label=spec.version_label if spec.HasField("version_label") else None,
            message=message,
        )

    @property
    def transport(self) -> str:
        """Over which it came: "grpc" or "rest"."""
        return "rest" if self.message is None else "grpc"

    def inputs(self) -> dict[str, NDArray[Any]]:
        """Its inputs by name; the only input of a signature has an empty name over REST.

        Raises:
            ValueError: It is not valid.
        """
        if self.message is None:
            return inputs_of_json(self.body)
        return {name: from_proto(tensor) for name, tensor in self.message.inputs.items()}

    def names(self, version: int) -> bool:
        """Whether it names a version that is stable, by its number or its label."""
        return self.version == version or (self.version is None and self.label == STABLE)

    def is_for(self, version: int) -> bool:
        """Whether a version answers it that is stable."""
        return self.names(version) or (self.version is None and self.label is None)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """How a request was answered.

    Attributes:
        version: The version that answered it.
        answer: The answer.
    """

    version: int
    answer: Answer


class Servers:
    """Asks the servers of a host.

    Args:
        host: Their name, or an address.
        grpc_port: Their port for gRPC.
        rest_port: Their port for REST.
    """

    def __init__(self, host: str, *, grpc_port: int, rest_port: int) -> None:
        bracketed = f"[{host}]" if ":" in host and is_ip_address(host) else host
        self._channel = grpc.insecure_channel(
            f"dns:///{bracketed}:{grpc_port}",
            options=[
                ("grpc.lb_policy_name", "round_robin"),
                ("grpc.max_receive_message_length", _LARGEST),
                ("grpc.max_send_message_length", _LARGEST),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._predict = self._channel.unary_unary(
            GRPC_PREDICT,
            request_serializer=wire.PredictRequest.SerializeToString,
            response_deserializer=wire.PredictResponse.FromString,
        )
        self._versions: dict[tuple[str, str | None], tuple[int, float]] = {}
        self._pool = httpcore.ConnectionPool(max_connections=_CONNECTIONS)
        self._rest = f"http://{bracketed}:{rest_port}"

    def ask(self, request: Mirrored, model: str, version: int) -> Asked:
        """Ask one version of a model."""
        began = time.perf_counter()
        ask = self._ask_rest if request.message is None else self._ask_grpc
        status, answer = ask(request, model, version)
        return Asked(status=status, seconds=time.perf_counter() - began, answer=answer)

    def observe(self, request: Mirrored, version: int | None) -> Observation | None:
        """Ask a request as its client did.

        Args:
            request: The request.
            version: The version that the gateway sent it to, if that is known.

        Returns:
            How it was answered; None if it was not.
        """
        if request.message is not None:
            try:
                response = self._predict(request.message, timeout=_SECONDS)
            except grpc.RpcError:
                return None
            return Observation(
                version=response.model_spec.version.value, answer=answer_of_proto(response)
            )
        asked = request.version or version or self._version_of(request)
        if asked is None:
            return None
        _, answer = self._ask_rest(request, request.model, asked)
        if answer is None:
            return None
        return Observation(version=asked, answer=answer)

    def _version_of(self, request: Mirrored) -> int | None:
        """The version of a request over REST that names a label or nothing; looked up at times."""
        now = time.monotonic()
        known = self._versions.get((request.model, request.label))
        if known is not None and now - known[1] < _LOOK_UP_SECONDS:
            return known[0]
        label = "" if request.label is None else f"/labels/{request.label}"
        try:
            response = self._pool.request(
                "GET", f"{self._rest}/v1/models/{request.model}{label}/metadata", extensions=_TIMES
            )
            found = int(orjson.loads(response.content)["model_spec"]["version"])
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError):
            return None
        except (ValueError, LookupError, TypeError):
            return None
        if len(self._versions) >= _MOST_VERSIONS:
            self._versions.clear()
        self._versions[request.model, request.label] = found, now
        return found

    def _ask_grpc(self, request: Mirrored, model: str, version: int) -> tuple[str, Answer | None]:
        message = wire.PredictRequest()
        assert request.message is not None
        message.CopyFrom(request.message)
        message.model_spec.name = model
        message.model_spec.version.value = version
        try:
            return "OK", answer_of_proto(self._predict(message, timeout=_SECONDS))
        except grpc.RpcError as error:
            return error.code().name, None

    def _ask_rest(self, request: Mirrored, model: str, version: int) -> tuple[str, Answer | None]:
        try:
            response = self._pool.request(
                "POST",
                f"{self._rest}/v1/models/{model}/versions/{version}:predict",
                headers={"Content-Type": "application/json"},
                content=request.body,
                extensions=_TIMES,
            )
        except (httpcore.TimeoutException, TimeoutError):
            return "DEADLINE_EXCEEDED", None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
            return "UNAVAILABLE", None
        if response.status != 200:
            return code_of_http_status(response.status), None
        if len(response.content) > LARGEST_JSON:
            return "RESOURCE_EXHAUSTED", None
        try:
            return "OK", answer_of_json(response.content)
        except (ValueError, LookupError, TypeError, orjson.JSONDecodeError):
            return "INTERNAL", None

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()
        self._pool.close()
