"""Predict with values of other dtypes than the model's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.client.harness import (
    Runner,
    engine,
    grpc_metadata,
    grpc_prediction,
    http,
    http_metadata,
    in_turn,
)

from servable_client import InvalidInput, ServableError
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto
from servable_client.codec.grpc import GrpcRequest
from servable_client.types.operations import Failure

ANSWER = grpc_prediction(7, y=np.array([1], np.float32))
PIXELS = [[[0, 255], [1, 2]]]
REFUSED = Failure("INVALID_ARGUMENT", "Expects arg[0] to be uint8 but float is provided")


def predict(found: Any, runner: Runner, image: Any, signature: str = "serving_default") -> Any:
    return runner.run(
        found.predict(
            {"image": image},
            signature=signature,
            outputs=None,
            target=found.target,
            deadline=found.deadline(None),
        )
    )


def sent(runner: Runner) -> np.ndarray:
    request = runner.requests[-1]
    assert isinstance(request, GrpcRequest)
    return from_proto(wire.PredictRequest.FromString(request.body).inputs["image"])


@pytest.mark.parametrize("image", [PIXELS, np.array(PIXELS), np.array(PIXELS).tolist()])
def test_values_of_numpys_default_dtypes_become_the_models(image: Any) -> None:
    runner = Runner(in_turn(grpc_metadata(7), ANSWER, ANSWER))
    found = engine(clock=runner.clock)
    predict(found, runner, image)
    assert sent(runner).dtype == np.uint8
    assert sent(runner).tolist() == PIXELS
    predict(found, runner, image)
    assert runner.methods == ["GetModelMetadata", "Predict", "Predict"]


def test_an_array_of_another_dtype_costs_no_call_more() -> None:
    runner = Runner(in_turn(ANSWER))
    predict(engine(clock=runner.clock), runner, np.array(PIXELS, np.uint8))
    assert runner.methods == ["Predict"]


def test_what_the_server_refuses_is_converted_and_sent_again() -> None:
    runner = Runner(in_turn(REFUSED, grpc_metadata(7), ANSWER))
    predict(engine(clock=runner.clock), runner, np.array(PIXELS, np.int32))
    assert runner.methods == ["Predict", "GetModelMetadata", "Predict"]
    assert sent(runner).dtype == np.uint8


def test_what_the_server_refuses_for_another_reason_is_not_sent_again() -> None:
    runner = Runner(in_turn(REFUSED, grpc_metadata(7)))
    with pytest.raises(InvalidInput, match="Expects arg"):
        predict(engine(clock=runner.clock), runner, np.array(PIXELS, np.uint8))
    assert runner.methods == ["Predict", "GetModelMetadata"]


def test_what_would_lose_values_is_refused_with_the_inputs_name() -> None:
    runner = Runner(lambda _: grpc_metadata(7))
    with pytest.raises(InvalidInput, match="image"):
        predict(engine(clock=runner.clock), runner, [[[0, 256], [1, 2]]])
    assert "Predict" not in runner.methods
    runner = Runner(in_turn(REFUSED, grpc_metadata(7)))
    with pytest.raises(InvalidInput, match="image"):
        predict(engine(clock=runner.clock), runner, np.full([1, 2, 2], 0.5, np.float32))


def test_a_version_that_takes_another_dtype_is_asked_for_its_own() -> None:
    floats: Any = {"serving_default": ({"image": ("DT_FLOAT", (-1, 2, 2))}, {})}
    runner = Runner(in_turn(grpc_metadata(7), ANSWER, grpc_metadata(8, floats), ANSWER))
    found = engine(clock=runner.clock)
    predict(found, runner, PIXELS)
    half = np.full([1, 2, 2], 0.5)
    predict(found, runner, half)
    assert sent(runner).dtype == np.float32
    assert sent(runner).tolist() == half.tolist()


def test_without_metadata_values_are_sent_as_they_are() -> None:
    runner = Runner(in_turn(Failure("UNIMPLEMENTED", "no metadata here"), ANSWER))
    predict(engine(clock=runner.clock), runner, PIXELS)
    assert sent(runner).dtype == np.int64


def test_a_signature_that_is_not_known_is_the_servers_to_refuse() -> None:
    refused = Failure("FAILED_PRECONDITION", 'Serving signature key "nosuch" not found.')
    runner = Runner(in_turn(grpc_metadata(7), refused))
    with pytest.raises(ServableError, match="nosuch"):
        predict(engine(clock=runner.clock), runner, PIXELS, "nosuch")


def test_rest_converts_too() -> None:
    outputs = {"outputs": {"probabilities": [[0.1, 0.2, 0.7]], "class_id": [2], "label": ["c"]}}
    runner = Runner(lambda r: http_metadata(7) if r.path.endswith("metadata") else http(outputs))
    answer = predict(engine("http://one", clock=runner.clock), runner, PIXELS)
    assert answer["class_id"].tolist() == [2]
