"""Questions to a server, and waiting for something to come about."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import requests
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)
from tests.conftest import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import grpc
    from google.protobuf.message import Message
    from tests.conftest import RunningServer

PREDICTION = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"
METHODS: dict[str, tuple[type[Message], type[Message]]] = {
    f"{PREDICTION}Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    f"{PREDICTION}Classify": (
        classification_pb2.ClassificationRequest,
        classification_pb2.ClassificationResponse,
    ),
    f"{PREDICTION}Regress": (
        regression_pb2.RegressionRequest,
        regression_pb2.RegressionResponse,
    ),
    f"{PREDICTION}MultiInference": (
        inference_pb2.MultiInferenceRequest,
        inference_pb2.MultiInferenceResponse,
    ),
    f"{PREDICTION}GetModelMetadata": (
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
    ),
    f"{MODEL}GetModelStatus": (
        get_model_status_pb2.GetModelStatusRequest,
        get_model_status_pb2.GetModelStatusResponse,
    ),
    f"{MODEL}HandleReloadConfigRequest": (
        model_management_pb2.ReloadConfigRequest,
        model_management_pb2.ReloadConfigResponse,
    ),
}


def eventually(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def post(
    server: RunningServer, body: object, path: str = f"{NAME}:predict", **kwargs: Any
) -> requests.Response:
    """Ask over REST; the path is that below /v1/models/."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(f"{server.http}/v1/models/{path}", data=data, timeout=60, **kwargs)


def call(channel: grpc.Channel, method: str, request: object, timeout: float = 60) -> Any:
    """Ask over gRPC; a request that is a dict is the message's JSON."""
    request_type, response_type = METHODS[method]
    if isinstance(request, dict):
        request = json_format.ParseDict(request, request_type())
    ask = channel.unary_unary(
        method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response_type.FromString,
    )
    return ask(request, timeout=timeout)


def linear(
    rows: Iterable[Iterable[float]], *, model: str = "linear", **spec: object
) -> dict[str, object]:
    """A PredictRequest's JSON for the model `linear` of fixture_models."""
    values = [list(row) for row in rows]
    shape = {"dim": [{"size": len(values)}, {"size": 3}]}
    flat = [value for row in values for value in row]
    tensor = {"dtype": "DT_FLOAT", "tensor_shape": shape, "float_val": flat}
    return {"model_spec": {"name": model, **spec}, "inputs": {"x": tensor}}


def slow(steps: Sequence[int], *, model: str = "slow") -> dict[str, object]:
    """A PredictRequest's JSON for the model `slow`; a step takes about a millisecond."""
    shape = {"dim": [{"size": len(steps)}]}
    tensor = {"dtype": "DT_INT32", "tensor_shape": shape, "int_val": list(steps)}
    return {"model_spec": {"name": model}, "inputs": {"steps": tensor}}


def config_of(
    models: Mapping[str, Path], *, labels: Mapping[str, int] | None = None, policy: str = "all {}"
) -> str:
    """A ModelServerConfig in text.

    Args:
        models: The base paths by name.
        labels: The version labels of the first of them.
        policy: Which versions to serve.
    """
    given = "".join(
        f'version_labels {{ key: "{label}" value: {version} }} '
        for label, version in (labels or {}).items()
    )
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" '
        f"model_version_policy {{ {policy} }} {'' if index else given}}}\n"
        for index, (name, path) in enumerate(models.items())
    )
    return f"model_config_list {{\n{entries}}}\n"
