"""What an engine refuses when it is made, and the requests it makes of a method's arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.unit.client.harness import (
    CLASSIFIER,
    MODEL,
    Runner,
    engine,
    grpc_metadata,
    grpc_prediction,
    grpc_status,
    http,
    http_metadata,
    in_turn,
    method_of,
)

from servable_client import TLS, DeadlineExceeded, InvalidInput, ModelNotFound
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.status import INIT_SIGNATURE
from servable_client.codec.grpc import GrpcRequest
from servable_client.engine.core import (
    callable_signatures,
    checked_timeout,
)
from servable_client.engine.errors import deadline_exceeded
from servable_client.types.answers import Signature
from servable_client.types.operations import Description, Failure, StatusOperation, Target

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": 1e9},
        {"version": 1, "label": "stable"},
        {"version": -1},
        {"model": ""},
        {"label": "two\nlines"},
        {"version": 1, "split": {"canary": 0.1}},
        {"split": {"stable": 0.1}},
        {"label": "canary", "split": {"canary": 0.1}},
        {"tls": TLS()},
        {"servers": "grpc://models.example", "api_key": "k"},
        {"servers": []},
        {"servers": "https://h", "tls": TLS(server_name="n"), "proxy": "http://p"},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        engine(**options)


@pytest.mark.parametrize("timeout", [0, -1.0, 86401.0, float("inf"), float("nan")])
def test_a_timeout_out_of_range_is_refused(timeout: float) -> None:
    with pytest.raises(InvalidInput):
        checked_timeout(timeout)


def test_a_deadline_is_the_clients_timeout_from_now() -> None:
    runner = Runner(in_turn())
    found = engine(clock=runner.clock, timeout=7.0)
    assert found.deadline(None) == runner.clock() + 7
    assert found.deadline(2.0) == runner.clock() + 2


def test_a_split_makes_stable_the_clients_label() -> None:
    assert engine(split={"canary": 0.1}).target.label == "stable"
    assert engine(split={"canary": 0.1}, label="blue").target.label == "blue"


def test_a_call_without_a_version_has_the_clients_target() -> None:
    found = engine(version=3)
    assert found.target_of(None, None) is found.target


def test_a_call_may_name_another_version_or_label() -> None:
    found = engine(version=3)
    assert found.target_of(4, None) == Target(model=MODEL, version=4)
    assert found.target_of(None, "canary") == Target(model=MODEL, label="canary")


def test_a_call_may_not_name_both() -> None:
    with pytest.raises(InvalidInput):
        engine().target_of(4, "canary")


def test_predict_sends_arrays_and_the_filter() -> None:
    runner = Runner(in_turn(grpc_prediction(4, y=np.array([1, 2], np.float32))))
    found = engine(clock=runner.clock)
    answer = runner.run(
        found.predict(
            {"x": np.array([[1, 2]], np.float32)},
            signature="score",
            outputs=["y"],
            target=found.target,
            deadline=found.deadline(None),
        )
    )
    assert (answer.version, answer["y"].tolist()) == (4, [1, 2])
    (request,) = runner.requests
    assert isinstance(request, GrpcRequest)
    sent = wire.PredictRequest.FromString(request.body)
    assert (sent.model_spec.name, sent.model_spec.signature_name) == (MODEL, "score")
    assert list(sent.output_filter) == ["y"]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [([1, 2], None), ({"x": [1]}, "y"), ({"x": [[1], [2, 3]]}, None)],
    ids=["no mapping", "one name", "ragged"],
)
def test_predict_refuses_malformed_arguments(inputs: Any, outputs: Any) -> None:
    runner = Runner(in_turn())
    found = engine(clock=runner.clock)
    with pytest.raises(InvalidInput):
        runner.run(
            found.predict(
                inputs,
                signature="score",
                outputs=outputs,
                target=found.target,
                deadline=found.deadline(None),
            )
        )
    assert runner.requests == []


@pytest.mark.parametrize("examples", [{"a": 1}, "text", b"bytes"])
def test_classify_examples_refuses_a_single_example(examples: Any) -> None:
    runner = Runner(in_turn())
    found = engine(clock=runner.clock)
    with pytest.raises(InvalidInput):
        runner.run(
            found.classify_examples(
                examples,
                context=None,
                signature="classify",
                target=found.target,
                deadline=found.deadline(None),
            )
        )


def test_classify_examples_sends_examples() -> None:
    reply = wire.ClassificationResponse()
    reply.result.classifications.add().classes.add(label="boot", score=0.5)
    reply.model_spec.version.value = 2
    runner = Runner(in_turn(reply.SerializeToString()))
    found = engine(clock=runner.clock)
    answer = runner.run(
        found.classify_examples(
            [{"a": 1}],
            context={"c": 2},
            signature="classify",
            target=found.target,
            deadline=found.deadline(None),
        )
    )
    assert [[score.label for score in row] for row in answer] == [["boot"]]
    assert answer.version == 2


def test_status_lists_the_highest_version_first() -> None:
    runner = Runner(in_turn(grpc_status((1, "END"), (3, "AVAILABLE"), (2, "LOADING"))))
    found = engine(clock=runner.clock)
    versions = runner.run(found.status(found.target, found.deadline(None)))
    assert [v.version for v in versions] == [3, 2, 1]


def test_metadata_is_read_once_for_a_pinned_version() -> None:
    runner = Runner(in_turn(grpc_metadata(4)))
    found = engine(clock=runner.clock, version=4)
    first = runner.run(found.describe(found.target, found.deadline(None)))
    assert runner.run(found.describe(found.target, found.deadline(None))) is first


def test_fresh_metadata_is_always_read() -> None:
    runner = Runner(in_turn(grpc_metadata(4), grpc_metadata(5)))
    found = engine(clock=runner.clock)
    runner.run(found.describe(found.target, found.deadline(None)))
    again = runner.run(found.describe(found.target, found.deadline(None), fresh=True))
    assert again.version == 5


def test_what_is_known_is_bounded() -> None:
    runner = Runner(lambda _: grpc_metadata(1))
    found = engine(clock=runner.clock)
    for number in range(1, 250):
        target = Target(model=MODEL, label=f"label{number}")
        runner.run(found.describe(target, found.deadline(None)))
    assert len(found._latest) <= 102
    assert len(found._described) <= 102


def test_a_new_version_replaces_the_description_of_a_label() -> None:
    runner = Runner(in_turn(grpc_metadata(1), grpc_metadata(2)))
    found = engine(clock=runner.clock)
    pinned = Target(model=MODEL, version=2)
    runner.run(found.describe(found.target, found.deadline(None)))
    two = runner.run(found.describe(pinned, found.deadline(None)))
    assert found.seen(found.target, 2) is two
    assert found.known(found.target) is two


def test_an_unknown_version_forgets_the_description_of_a_label() -> None:
    runner = Runner(in_turn(grpc_metadata(1)))
    found = engine(clock=runner.clock)
    runner.run(found.describe(found.target, found.deadline(None)))
    assert found.seen(found.target, 9) is None
    assert found.known(found.target) is None


def test_the_init_signature_is_not_listed() -> None:
    own = Signature(inputs={}, outputs={}, method="m")
    found = callable_signatures(Description(version=1, signatures={"a": own, INIT_SIGNATURE: own}))
    assert list(found) == ["a"]


def test_an_error_of_waiting_carries_its_code() -> None:
    error = deadline_exceeded("m", endpoint="grpc://one:8500", model=MODEL)
    assert isinstance(error, DeadlineExceeded)
    assert error.code == "DEADLINE_EXCEEDED"


def test_tls_files_are_read_when_the_engine_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        engine("grpcs://one", tls=TLS(ca=tmp_path / "missing.pem"))


# -- REST: the version behind a name is read first, then addressed by number ----------------------

PREDICTION = http(
    {"outputs": {"probabilities": [[0.1, 0.8, 0.1]], "class_id": [1], "label": ["b"]}}
)


def predict(found: Any, runner: Runner) -> Any:
    return runner.run(
        found.predict(
            {"image": np.zeros([1, 2, 2], np.uint8)},
            signature="serving_default",
            outputs=None,
            target=found.target,
            deadline=found.deadline(None),
        )
    )


def paths(runner: Runner) -> list[str]:
    return [request.path for request in runner.requests]


def test_rest_asks_the_version_by_its_number() -> None:
    runner = Runner(in_turn(http_metadata(7), PREDICTION))
    found = engine("http://one", clock=runner.clock)
    assert predict(found, runner).version == 7
    assert paths(runner) == [
        f"/v1/models/{MODEL}/metadata",
        f"/v1/models/{MODEL}/versions/7:predict",
    ]


def test_rest_keeps_the_version_for_a_second() -> None:
    runner = Runner(lambda r: http_metadata(7) if r.path.endswith("data") else PREDICTION)
    found = engine("http://one", clock=runner.clock)
    predict(found, runner)
    runner.clock.advance(0.9)
    predict(found, runner)
    runner.clock.advance(0.2)
    predict(found, runner)
    assert runner.methods.count("GetModelMetadata") == 2


def test_rest_reads_the_metadata_of_a_pinned_version_once() -> None:
    runner = Runner(lambda r: http_metadata(7) if r.path.endswith("data") else PREDICTION)
    found = engine("http://one", clock=runner.clock, version=7)
    for _ in range(3):
        predict(found, runner)
        runner.clock.advance(60)
    assert runner.methods.count("GetModelMetadata") == 1


def test_rest_looks_again_when_the_version_was_unloaded() -> None:
    gone = http({"error": "not found"}, 404)
    runner = Runner(in_turn(http_metadata(7), gone, http_metadata(8), PREDICTION))
    found = engine("http://one", clock=runner.clock)
    assert predict(found, runner).version == 8


def test_rest_finds_a_version_that_one_of_several_servers_has() -> None:
    gone = http({"error": "not found"}, 404)
    runner = Runner(in_turn(*[http_metadata(8), gone] * 4, http_metadata(8), PREDICTION))
    found = engine("http://one", clock=runner.clock)
    assert predict(found, runner).version == 8


def test_rest_gets_an_answer_where_no_version_that_is_named_is_found() -> None:
    def handler(request: Any) -> Any:
        if method_of(request) == "GetModelMetadata":
            return http_metadata(8)
        return http({"error": "no"}, 404) if "/versions/" in request.path else PREDICTION

    runner = Runner(handler)
    answer = predict(engine("http://one", clock=runner.clock), runner)
    assert answer.version is None
    assert answer["probabilities"].shape == (1, 3)
    assert paths(runner)[-1] == f"/v1/models/{MODEL}:predict"


def test_a_model_that_is_not_found_at_all_is_an_error() -> None:
    runner = Runner(
        lambda r: http_metadata(7) if r.path.endswith("data") else http({"error": "no"}, 404)
    )
    with pytest.raises(ModelNotFound):
        predict(engine("http://one", clock=runner.clock), runner)


def test_rest_does_not_look_again_for_a_pinned_version() -> None:
    def handler(request: Any) -> Any:
        return (
            http_metadata(7)
            if method_of(request) == "GetModelMetadata"
            else (http({"error": "no"}, 404))
        )

    runner = Runner(handler)
    found = engine("http://one", clock=runner.clock, version=7)
    with pytest.raises(ModelNotFound):
        predict(found, runner)
    assert runner.methods.count("Predict") == 1


def test_rest_refuses_another_dtype_before_it_sends() -> None:
    runner = Runner(lambda _: http_metadata(7))
    found = engine("http://one", clock=runner.clock)
    with pytest.raises(InvalidInput):
        runner.run(
            found.predict(
                {"image": np.full([1, 2, 2], 0.5, np.float32)},
                signature="serving_default",
                outputs=None,
                target=found.target,
                deadline=found.deadline(None),
            )
        )
    assert "Predict" not in runner.methods


def test_rest_classifies_examples_by_the_version_found() -> None:
    runner = Runner(in_turn(http_metadata(7), http({"results": [[["boot", 0.5]]]})))
    found = engine("http://one", clock=runner.clock)
    answer = runner.run(
        found.classify_examples(
            [{"a": 1}],
            context=None,
            signature="classify",
            target=found.target,
            deadline=found.deadline(None),
        )
    )
    assert answer.version == 7
    assert paths(runner)[-1] == f"/v1/models/{MODEL}/versions/7:classify"


def test_rest_needs_no_metadata_for_examples_to_a_pinned_version() -> None:
    runner = Runner(in_turn(http({"results": [[["boot", 0.5]]]})))
    found = engine("http://one", clock=runner.clock, version=3)
    runner.run(
        found.classify_examples(
            [{"a": 1}],
            context=None,
            signature="classify",
            target=found.target,
            deadline=found.deadline(None),
        )
    )
    assert runner.methods == ["Classify"]


def test_a_signature_that_rest_does_not_know_is_the_servers_to_refuse() -> None:
    message = 'Serving signature name: "nosuch" not found in signature def'
    runner = Runner(in_turn(http_metadata(7, CLASSIFIER), http({"error": message}, 400)))
    found = engine("http://one", clock=runner.clock)
    with pytest.raises(ModelNotFound) as caught:
        runner.run(
            found.predict(
                {"image": [1]},
                signature="nosuch",
                outputs=None,
                target=found.target,
                deadline=found.deadline(None),
            )
        )
    assert caught.value.missing_signature


def test_an_input_error_before_sending_ends_the_call() -> None:
    runner = Runner(in_turn())
    found = engine(clock=runner.clock)
    with pytest.raises(InvalidInput):
        runner.run(
            found.predict(
                {"when": np.zeros(1, "datetime64[s]")},
                signature="s",
                outputs=None,
                target=found.target,
                deadline=found.deadline(None),
            )
        )
    assert runner.requests == []


def test_no_such_failure_is_retried_by_attempt() -> None:
    runner = Runner(lambda _: Failure("UNAVAILABLE", "down"))
    found = engine(clock=runner.clock)
    with pytest.raises(Failure):
        runner.run(
            found.attempt(
                found.endpoints[0], StatusOperation(target=found.target), found.deadline(None)
            )
        )
    assert len(runner.requests) == 1
