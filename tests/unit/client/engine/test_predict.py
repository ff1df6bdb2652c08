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


@pytest.mark.parametrize(
    ("inputs", "name", "hint"),
    [
        (
            {"image": np.zeros([3, 2, 3], np.uint8)},
            "image",
            "the input image takes uint8 [N, 2, 2], got uint8 [3, 2, 3]",
        ),
        (
            {"image": np.full([3, 2, 3], 0.5, np.float32)},
            "image",
            "the input image takes uint8 [N, 2, 2], got float32 [3, 2, 3]",
        ),
        (
            {"image": np.array([[["a"]]])},
            "image",
            "the input image takes uint8 [N, 2, 2], got string [1, 1, 1]",
        ),
        (
            {"img": np.zeros([3, 2, 2], np.uint8)},
            "image",
            "the inputs are image (uint8 [N, 2, 2]), got img",
        ),
        ({}, "image", "the inputs are image (uint8 [N, 2, 2]), got none"),
        (
            {"image": np.zeros([3, 2, 2], np.uint8), "mask": np.zeros(3, np.uint8)},
            "mask",
            "the inputs are image (uint8 [N, 2, 2]), got image, mask",
        ),
    ],
    ids=["shape", "dtype", "strings", "misspelt", "missing", "unknown"],
)
def test_an_input_that_the_server_refuses_is_named(
    inputs: dict[str, Any], name: str, hint: str
) -> None:
    refused = Failure("INVALID_ARGUMENT", "refused", request_id="the-id")
    runner = Runner(in_turn(refused, grpc_metadata(7)))
    found = engine(clock=runner.clock)
    with pytest.raises(InvalidInput) as caught:
        runner.run(
            found.predict(
                inputs,
                signature="serving_default",
                outputs=None,
                target=found.target,
                deadline=found.deadline(None),
            )
        )
    error = caught.value
    assert (error.input, error.hint, error.message) == (name, hint, "refused")
    assert (error.endpoint, error.attempts, error.request_id) == ("grpc://one:8500", 1, "the-id")


def test_a_shape_that_is_refused_after_the_dtype_is_named() -> None:
    runner = Runner(in_turn(REFUSED, grpc_metadata(7), Failure("INVALID_ARGUMENT", "shape")))
    with pytest.raises(InvalidInput) as caught:
        predict(engine(clock=runner.clock), runner, np.zeros([1, 9, 9], np.int32))
    assert caught.value.input == "image"
    assert caught.value.hint == "the input image takes uint8 [N, 2, 2], got uint8 [1, 9, 9]"


def test_inputs_that_fit_are_not_blamed() -> None:
    runner = Runner(in_turn(REFUSED, grpc_metadata(7)))
    with pytest.raises(InvalidInput) as caught:
        predict(engine(clock=runner.clock), runner, np.zeros([1, 2, 2], np.uint8))
    assert (caught.value.input, caught.value.hint) == (None, None)


def test_an_input_that_cannot_be_sent_is_named() -> None:
    for server in ("grpc://one", "http://one"):
        runner = Runner(lambda _: http_metadata(7))
        with pytest.raises(InvalidInput, match="image") as caught:
            predict(engine(server, clock=runner.clock), runner, np.array(["2026"], "datetime64[D]"))
        assert caught.value.input == "image"
    with pytest.raises(InvalidInput, match="image") as caught:
        predict(engine(), Runner(in_turn()), [[1], [1, 2]])
    assert caught.value.input == "image"


def test_an_input_whose_values_would_be_lost_is_named() -> None:
    runner = Runner(lambda _: grpc_metadata(7))
    with pytest.raises(InvalidInput) as caught:
        predict(engine(clock=runner.clock), runner, [[[0, 256], [1, 2]]])
    assert caught.value.input == "image"
