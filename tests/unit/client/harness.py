"""Runs the engine's flows by hand: no sockets, no threads, and a clock that the test owns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import orjson

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import fill_proto
from servable_client.codec.grpc import GrpcRequest
from servable_client.codec.http import HttpReply, HttpRequest
from servable_client.engine.core import Engine
from servable_client.engine.effects import Flow, Invoke, Offload, Send, Sleep
from servable_client.types.operations import Failure, Target

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from servable_client.net.endpoints import Endpoint

MODEL = "shoes"
_T = TypeVar("_T")
Request: TypeAlias = GrpcRequest | HttpRequest
Reply: TypeAlias = bytes | HttpReply
Handler: TypeAlias = Callable[[Request], "Reply | Failure"]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class Runner:
    """A driver whose server is a function.

    Attributes:
        requests: What was sent, in order.
        timeouts: The time that each request had.
        sleeps: The waits between them, which advance the clock.
    """

    def __init__(self, handler: Handler, clock: Clock | None = None) -> None:
        self.clock = Clock() if clock is None else clock
        self._handler = handler
        self.requests: list[Request] = []
        self.timeouts: list[float] = []
        self.sleeps: list[float] = []

    @property
    def methods(self) -> list[str]:
        """The method of each request, by its gRPC name or the end of its REST path."""
        return [method_of(request) for request in self.requests]

    @property
    def endpoints(self) -> list[Endpoint]:
        """The endpoint of each request."""
        return [request.endpoint for request in self.requests]

    def run(self, flow: Flow[_T]) -> _T:
        """Run a flow to its end."""
        try:
            effect = next(flow)
            while True:
                try:
                    result = self._do(effect)
                except Exception as error:  # noqa: BLE001
                    effect = flow.throw(error)
                else:
                    effect = flow.send(result)
        except StopIteration as stop:
            value: _T = stop.value
            return value

    def _do(self, effect: Send | Sleep | Invoke | Offload) -> Any:
        if isinstance(effect, Send):
            self.requests.append(effect.request)
            self.timeouts.append(effect.timeout)
            reply = self._handler(effect.request)
            if isinstance(reply, Failure):
                raise reply
            return reply
        if isinstance(effect, Sleep):
            self.sleeps.append(effect.seconds)
            self.clock.advance(effect.seconds)
            return None
        return effect.function()


def method_of(request: Request) -> str:
    """Which method a request calls."""
    if isinstance(request, GrpcRequest):
        return request.path.rpartition("/")[2]
    for ending, method in (
        (":predict", "Predict"),
        (":classify", "Classify"),
        ("/metadata", "GetModelMetadata"),
    ):
        if request.path.endswith(ending):
            return method
    return "GetModelStatus"


def in_turn(*replies: Reply | Failure) -> Handler:
    """Gives each reply once, in order."""
    left = list(replies)
    return lambda _: left.pop(0)


def engine(
    servers: str | Sequence[str] = "grpc://one", clock: Clock | None = None, **options: Any
) -> Engine:
    """An engine with the client's defaults."""
    target = Target(
        model=options.pop("model", MODEL),
        version=options.pop("version", None),
        label=options.pop("label", None),
    )
    defaults: dict[str, Any] = {
        "split": None,
        "timeout": 5.0,
        "retry": None,
        "tls": None,
        "api_key": None,
        "token": None,
        "headers": None,
        "plaintext_credentials": False,
        "proxy": None,
        "trust_env": False,
        "on_request": None,
        "on_response": None,
    }
    if clock is not None:
        options["now"] = clock
    return Engine(servers, target=target, **{**defaults, **options})


# -- replies ------------------------------------------------------------------------------------

Specs: TypeAlias = Mapping[str, tuple[str, Sequence[int] | None]]
Signatures: TypeAlias = Mapping[str, tuple[Specs, Specs]]

CLASSIFIER: Signatures = {
    "serving_default": (
        {"image": ("DT_UINT8", (-1, 2, 2))},
        {
            "probabilities": ("DT_FLOAT", (-1, 3)),
            "class_id": ("DT_INT64", (-1,)),
            "label": ("DT_STRING", (-1,)),
        },
    ),
    "serving_bytes": (
        {"image_bytes": ("DT_STRING", (-1,))},
        {
            "probabilities": ("DT_FLOAT", (-1, 3)),
            "class_id": ("DT_INT64", (-1,)),
            "label": ("DT_STRING", (-1,)),
        },
    ),
}


def http(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpReply:
    """A REST reply."""
    listed = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return HttpReply(status, listed, orjson.dumps(content))


def _set_version(spec: wire.ModelSpec, version: int | None) -> None:
    if version is not None:
        spec.version.SetInParent()
        spec.version.value = version


def grpc_status(*versions: tuple[int, str]) -> bytes:
    """A GetModelStatusResponse."""
    response = wire.GetModelStatusResponse()
    for version, state in versions:
        response.model_version_status.add(
            version=version, state=wire.ModelVersionStatus.State.Value(state)
        )
    return response.SerializeToString()


def grpc_metadata(version: int | None, signatures: Signatures = CLASSIFIER) -> bytes:
    """A GetModelMetadataResponse."""
    definitions = wire.SignatureDefMap()
    for name, (inputs, outputs) in signatures.items():
        definition = definitions.signature_def[name]
        definition.method_name = "tensorflow/serving/predict"
        for fields, specs in ((definition.inputs, inputs), (definition.outputs, outputs)):
            for key, (dtype, shape) in specs.items():
                fields[key].dtype = getattr(wire, dtype)
                if shape is None:
                    fields[key].tensor_shape.unknown_rank = True
                for size in shape or ():
                    fields[key].tensor_shape.dim.add(size=size)
    response = wire.GetModelMetadataResponse()
    _set_version(response.model_spec, version)
    response.metadata["signature_def"].value = definitions.SerializeToString()
    return response.SerializeToString()


def grpc_prediction(version: int | None, **arrays: ArrayLike) -> bytes:
    """A PredictResponse."""
    response = wire.PredictResponse()
    _set_version(response.model_spec, version)
    for name, array in arrays.items():
        fill_proto(response.outputs[name], array)
    return response.SerializeToString()


def grpc_classes(version: int, count: int = 1, best: int = 0) -> bytes:
    """What a classifier of three classes answers for so many images."""
    row = [0.1, 0.1, 0.1]
    row[best] = 0.8
    return grpc_prediction(
        version,
        probabilities=np.array([row] * count, np.float32),
        class_id=np.full(count, best, np.int64),
        label=np.array([f"class {best}".encode()] * count, object),
    )


def http_status(*versions: tuple[int, str]) -> HttpReply:
    """The REST form of a model's status."""
    return http(
        {
            "model_version_status": [
                {
                    "version": str(version),
                    "state": state,
                    "status": {"error_code": "OK", "error_message": ""},
                }
                for version, state in versions
            ]
        }
    )


def http_metadata(version: int, signatures: Signatures = CLASSIFIER) -> HttpReply:
    """The REST form of a model's metadata."""

    def tensors(specs: Specs) -> dict[str, Any]:
        return {
            name: {
                "dtype": dtype,
                "tensor_shape": {
                    "dim": [{"size": str(size), "name": ""} for size in shape or ()],
                    "unknown_rank": shape is None,
                },
                "name": "",
            }
            for name, (dtype, shape) in specs.items()
        }

    return http(
        {
            "model_spec": {"name": MODEL, "signature_name": "", "version": str(version)},
            "metadata": {
                "signature_def": {
                    "signature_def": {
                        name: {
                            "inputs": tensors(inputs),
                            "outputs": tensors(outputs),
                            "method_name": "tensorflow/serving/predict",
                        }
                        for name, (inputs, outputs) in signatures.items()
                    }
                }
            },
        }
    )
