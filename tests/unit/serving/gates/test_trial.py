"""The verdicts of the gate `trial` on the answers of a server."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import to_proto
from servable_serving.gates.trial.adversarial_requests import (
    AdversarialRequest,
    adversarial_requests,
)
from servable_serving.gates.trial.trial import _golden_of, _TrialClient
from servable_serving.gates.verdict import Refused
from servable_serving.model.golden import GoldenRequest

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class FakeServer:
    """A server that is alive, or not."""

    alive: bool = True
    added: float | None = None
    waited: list[float] = field(default_factory=list)
    grpc_port: int = 1
    rest_port: int = 2

    @property
    def exit_status(self) -> int | None:
        return None if self.alive else -6

    def died(self, *, within: float) -> bool:
        self.waited.append(within)
        return not self.alive

    def how_it_ended(self) -> str:
        return "it was ended by SIGABRT"

    def exceeded(self) -> float | None:
        return self.added


GOLDEN = {
    "png": base64.b64encode(b"png").decode(), "probabilities": [0.2, 0.8],
    "class_id": 1, "label": "shirt",
}  # fmt: skip
RIGHT = {"probabilities": [[0.2, 0.8]], "class_id": [1], "label": ["shirt"]}


def over_grpc(answer: dict[str, Any]) -> bytes:
    response = wire.PredictResponse()
    arrays: dict[str, np.ndarray] = {
        "probabilities": np.array(answer["probabilities"], np.float32),
        "class_id": np.array(answer["class_id"], np.int64),
        "label": np.array([label.encode() for label in answer["label"]], object),
    }
    for name, array in arrays.items():
        response.outputs[name].CopyFrom(to_proto(array))
    return response.SerializeToString()


class Client(_TrialClient):
    """Answers with a code and a reply of the test's own, and contacts nobody."""

    code = "OK"
    grpc_answer: dict[str, Any] = RIGHT
    rest_answer: dict[str, Any] = RIGHT

    def _grpc(self, path: str, body: bytes) -> tuple[str, bytes]:
        del path, body
        return self.code, over_grpc(self.grpc_answer) if self.code == "OK" else b"a reason"

    def _rest(self, path: str, body: bytes) -> tuple[str, bytes]:
        del path, body
        reply = json.dumps({"outputs": self.rest_answer}).encode()
        return self.code, reply if self.code == "OK" else b"a reason"


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server, "garments") as client:
        yield client


def request(*, rest: bool = False, must_refuse: bool = False) -> AdversarialRequest:
    return AdversarialRequest(
        said="a request", path="/x", body=b"", rest=rest, must_refuse=must_refuse
    )


@pytest.mark.parametrize("rest", [True, False])
@pytest.mark.parametrize(("code", "outcome"), [("OK", "answered"), ("INVALID_ARGUMENT", "refused")])
def test_a_request_may_be_answered_or_refused(
    client: Client, rest: bool, code: str, outcome: str
) -> None:
    client.code = code
    assert client.send(request(rest=rest)) == outcome


def test_an_image_beyond_the_limits_must_be_refused(client: Client) -> None:
    with pytest.raises(Refused):
        client.send(request(must_refuse=True))
    client.code = "INVALID_ARGUMENT"
    assert client.send(request(must_refuse=True)) == "refused"


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED"])
def test_a_server_that_died_fails_the_gate(client: Client, server: FakeServer, code: str) -> None:
    server.alive, client.code = False, code
    with pytest.raises(Refused) as caught:
        client.send(request())
    assert caught.value.figures == {"request": "a request", "exit_status": -6}


@pytest.mark.parametrize("code", ["OK", "INTERNAL", "RESOURCE_EXHAUSTED"])
def test_a_request_that_takes_too_much_memory_fails_the_gate(
    client: Client, server: FakeServer, code: str
) -> None:
    server.added, client.code = 2500.0, code
    with pytest.raises(Refused, match="2,500 MiB") as caught:
        client.send(request())
    assert caught.value.figures["added_mebibytes"] == 2500.0


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "CANCELLED"])
def test_a_server_that_survived_an_error_has_refused_it(client: Client, code: str) -> None:
    client.code = code
    assert client.send(request()) == "refused"


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED"])
def test_a_server_that_does_not_answer_fails_the_gate(client: Client, code: str) -> None:
    client.code = code
    with pytest.raises(Refused) as caught:
        client.send(request())
    assert caught.value.figures["exit_status"] is None


def test_an_answer_needs_no_look_at_the_process(client: Client, server: FakeServer) -> None:
    client.send(request())
    assert server.waited == []


def test_the_golden_answers_pass(client: Client) -> None:
    client.check_golden(_golden_of({"golden": [GOLDEN]}))


@pytest.mark.parametrize("protocol", ["grpc_answer", "rest_answer"])
@pytest.mark.parametrize(
    "answer",
    [
        {**RIGHT, "probabilities": [[0.21, 0.79]]},
        {**RIGHT, "probabilities": [[0.1, 0.2, 0.7]]},
        {**RIGHT, "class_id": [0]},
        {**RIGHT, "label": ["boot"]},
    ],
)
def test_another_golden_answer_fails_over_either_protocol(
    client: Client, protocol: str, answer: dict[str, Any]
) -> None:
    setattr(client, protocol, answer)
    with pytest.raises(Refused) as caught:
        client.check_golden(_golden_of({"golden": [GOLDEN]}))
    assert caught.value.figures["golden"] == 0


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNAVAILABLE"])
@pytest.mark.parametrize("alive", [True, False])
def test_golden_requests_that_are_refused_fail_the_gate(
    client: Client, server: FakeServer, code: str, alive: bool
) -> None:
    server.alive, client.code = alive, code
    with pytest.raises(Refused):
        client.check_golden(_golden_of({"golden": [GOLDEN]}))


def test_without_golden_requests_nobody_is_asked(client: Client) -> None:
    client.code = "UNAVAILABLE"
    client.check_golden(_golden_of({}))


@pytest.mark.parametrize(
    "golden", [{}, {**GOLDEN, "png": "***"}, {**GOLDEN, "class_id": "x"}, "text"]
)
def test_golden_requests_that_cannot_be_read_fail_the_gate(golden: object) -> None:
    with pytest.raises(Refused):
        _golden_of({"golden": [golden]})


CONTRACT = {
    "serving_default": {
        "method": "tensorflow/serving/predict",
        "inputs": {"image": {"dtype": "DT_UINT8", "shape": [-1, 28, 28]}},
        "outputs": {},
    }
}


def test_adversarial_requests_go_over_both_protocols() -> None:
    requests = list(adversarial_requests("garments", CONTRACT))
    assert {one.rest for one in requests} == {True, False}
    assert len(requests) > 50


def test_adversarial_requests_can_be_told_apart() -> None:
    said = [one.said for one in adversarial_requests("garments", CONTRACT)]
    assert len(said) == len(set(said))


def test_only_images_must_be_refused() -> None:
    assert not [one for one in adversarial_requests("garments", CONTRACT) if one.must_refuse]


def test_no_tensor_has_the_declared_shape_but_an_empty_batch() -> None:
    for one in adversarial_requests("garments", CONTRACT):
        if one.rest or not one.said.startswith("a tensor of shape"):
            continue
        shape = [
            dim.size
            for dim in wire.PredictRequest.FromString(one.body).inputs["image"].tensor_shape.dim
        ]
        assert shape == [0, 28, 28] or shape[1:] != [28, 28]


PRICES: dict[str, Any] = {
    "price": {
        "method": "tensorflow/serving/predict",
        "inputs": {"age": {"dtype": "DT_FLOAT", "shape": [-1, 2]}},
        "outputs": {"price": {"dtype": "DT_FLOAT", "shape": [-1, 1]}},
    }
}
PRICE = GoldenRequest(
    signature="price",
    inputs={"age": np.zeros([1, 2], np.float32)},
    outputs={"price": np.array([[3.0]], np.float32)},
)


class Priced(Client):
    """Answers with prices, over either protocol."""

    by_grpc: Any = np.array([[3.0]], np.float32)
    by_rest: Any = ((3.0,),)
    name = "price"

    def _grpc(self, path: str, body: bytes) -> tuple[str, bytes]:
        del path
        request = wire.PredictRequest.FromString(body)
        assert request.model_spec.signature_name == "price"
        response = wire.PredictResponse()
        response.outputs[self.name].CopyFrom(to_proto(self.by_grpc))
        return self.code, response.SerializeToString() if self.code == "OK" else b"a reason"

    def _rest(self, path: str, body: bytes) -> tuple[str, bytes]:
        assert path.endswith(":predict")
        assert json.loads(body) == {"signature_name": "price", "inputs": {"age": [[0.0, 0.0]]}}
        return self.code, json.dumps({"outputs": self.by_rest}).encode()


@pytest.fixture
def priced(server: FakeServer) -> Iterator[Priced]:
    with Priced(server, "prices") as client:
        yield client


def test_golden_answers_of_any_signature_pass(priced: Priced) -> None:
    priced.check_requests([PRICE])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("by_grpc", np.array([[3.1]], np.float32)),
        ("by_grpc", np.array([3.0], np.float32)),
        ("by_rest", [[3.1]]),
        ("by_rest", [[3.0], [3.0]]),
        ("name", "cost"),
        ("code", "INVALID_ARGUMENT"),
        ("code", "UNAVAILABLE"),
    ],
)
def test_other_golden_answers_fail(priced: Priced, field: str, value: object) -> None:
    setattr(priced, field, value)
    with pytest.raises(Refused):
        priced.check_requests([PRICE])


def test_a_signature_must_give_what_it_declares(priced: Priced) -> None:
    priced.check_answer(PRICES, "price")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("by_grpc", np.array([3.0], np.float32)),
        ("by_grpc", np.array([[3.0, 4.0]], np.float32)),
        ("by_grpc", np.array([[3]])),
        ("name", "cost"),
        ("code", "INVALID_ARGUMENT"),
        ("code", "DEADLINE_EXCEEDED"),
    ],
)
def test_a_signature_that_gives_something_else_fails(
    priced: Priced, field: str, value: object
) -> None:
    setattr(priced, field, value)
    with pytest.raises(Refused):
        priced.check_answer(PRICES, "price")


def test_a_signature_that_ends_the_server_fails(priced: Priced, server: FakeServer) -> None:
    server.alive, priced.code = False, "UNAVAILABLE"
    with pytest.raises(Refused, match="SIGABRT"):
        priced.check_answer(PRICES, "price")


def test_a_signature_of_undeclared_features_is_not_asked(priced: Priced) -> None:
    priced.code = "INVALID_ARGUMENT"
    features = {"price": {**PRICES["price"], "method": "tensorflow/serving/regress"}}
    priced.check_answer(features, "price")


def test_strings_of_any_kind_are_sent_to_inputs_of_strings() -> None:
    text = {"score": {**PRICES["price"], "inputs": {"text": {"dtype": "DT_STRING", "shape": [-1]}}}}
    requests = list(adversarial_requests("reviews", text))
    said = " ".join(one.said for one in requests)
    assert "an empty string" in said
    assert "not UTF-8" in said
    assert max(len(one.body) for one in requests) > 1_000_000
    # Text is not an image: nothing of it must be refused.
    assert not [one for one in requests if one.must_refuse]
    assert "PNG" not in said


@pytest.mark.parametrize(
    "dtype", ["DT_BFLOAT16", "DT_HALF", "DT_COMPLEX64", "DT_UINT64", "DT_BOOL"]
)
def test_inputs_of_every_dtype_have_adversarial_requests(dtype: str) -> None:
    contract = {"f": {**PRICES["price"], "inputs": {"x": {"dtype": dtype, "shape": [-1, 2]}}}}
    assert len(list(adversarial_requests("m", contract))) > 40
