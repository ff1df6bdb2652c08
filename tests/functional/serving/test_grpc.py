"""The gRPC side: hostile requests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from tests.conftest import NAME

from servable_client import (
    Client,
    InvalidInput,
)
from servable_client._wire import wire_pb2 as wire

if TYPE_CHECKING:
    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset


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
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for method in (
            "/tensorflow.serving.PredictionService/Predict",
            "/tensorflow.serving.ModelService/GetModelStatus",
            "/tensorflow.serving.ModelService/Nosuch",
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method, None, None)(os.urandom(64), timeout=120)
            assert caught.value.code() != grpc.StatusCode.UNAVAILABLE
    assert server.process.poll() is None


def test_a_long_message_does_not_hide_the_code(server: RunningServer) -> None:
    """Details beyond what a trailer holds came as RESOURCE_EXHAUSTED."""
    request = wire.PredictRequest()
    request.model_spec.name = "x" * 100_000
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), timeout=120)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    details = caught.value.details()
    assert details is not None
    assert details.startswith("Servable not found for request: Latest(xxx")


def test_a_few_bytes_do_not_stand_for_many_strings(server: RunningServer) -> None:
    """Thirty bytes once took a gigabyte and three seconds."""
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = NAME, "serving_bytes"
    request.inputs["image_bytes"].dtype = wire.DT_STRING
    request.inputs["image_bytes"].tensor_shape.dim.add(size=1 << 24)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), timeout=120)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "tensor parsing error: image_bytes"
