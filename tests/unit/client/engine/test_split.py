"""Which label a call goes to, and where it goes when that label is unavailable."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from tests.unit.client.harness import (
    Runner,
    engine,
    grpc_metadata,
    grpc_prediction,
    grpc_status,
    in_turn,
)

from servable_client import (
    ConnectionFailed,
    InvalidInput,
    ModelNotFound,
    NotReady,
    ServableError,
    ServerFailed,
    Split,
)
from servable_client._wire import wire_pb2 as wire
from servable_client.codec.grpc import GrpcRequest
from servable_client.engine.readiness import ready, resolve, wait
from servable_client.engine.split import is_label_unavailable
from servable_client.types.operations import Failure, Target


def picks(split: Split, count: int) -> Counter[str | None]:
    return Counter(split.pick() for _ in range(count))


def test_a_share_of_zero_is_never_picked() -> None:
    assert picks(Split({"canary": 0}), 200) == {None: 200}


def test_a_share_of_one_is_always_picked() -> None:
    assert picks(Split({"canary": 1}), 200) == {"canary": 200}


def test_shares_are_kept_in_the_long_run() -> None:
    found = picks(Split({"canary": 0.2, "beta": 0.3}, seed=1), 10_000)
    assert abs(found["canary"] - 2000) < 200
    assert abs(found["beta"] - 3000) < 200


def test_the_same_seed_gives_the_same_labels() -> None:
    def labels(seed: int) -> list[str | None]:
        split = Split({"canary": 0.5}, seed=seed)
        return [split.pick() for _ in range(50)]

    assert labels(7) == labels(7)
    assert labels(7) != labels(8)


@pytest.mark.parametrize("key", ["user", b"user", 17])
def test_the_same_key_gives_the_same_label(key: Any) -> None:
    split = Split({"canary": 0.5}, key=lambda: key)
    assert len(picks(split, 20)) == 1


def test_text_and_bytes_of_a_key_are_alike() -> None:
    for user in map(str, range(50)):
        text = Split({"canary": 0.5}, key=lambda user=user: user)  # type: ignore[misc]
        data = Split({"canary": 0.5}, key=lambda user=user: user.encode())  # type: ignore[misc]
        assert text.pick() == data.pick()


def test_a_key_keeps_its_label_when_the_share_grows() -> None:
    for user in map(str, range(300)):
        small = Split({"canary": 0.2}, key=lambda user=user: user)  # type: ignore[misc]
        large = Split({"canary": 0.5}, key=lambda user=user: user)  # type: ignore[misc]
        assert small.pick() is None or large.pick() == "canary"


def test_keys_are_spread_over_the_shares() -> None:
    users = iter(range(5000))
    found = picks(Split({"canary": 0.3}, key=lambda: next(users)), 5000)
    assert abs(found["canary"] - 1500) < 170


def test_shares_that_round_above_one_are_accepted() -> None:
    assert len(Split({str(i): 0.1 for i in range(10)}).shares) == 10


@pytest.mark.parametrize(
    "shares",
    [
        {"canary": 1.5},
        {"canary": -0.1},
        {"canary": float("nan")},
        {"canary": "10%"},
        {"canary": True},
        {"canary": 0.6, "beta": 0.6},
        {"": 0.1},
        {3: 0.1},
        {},
        [("canary", 0.1)],
    ],
    ids=str,
)
def test_invalid_shares_are_refused(shares: Any) -> None:
    with pytest.raises(InvalidInput):
        Split(shares)


def test_a_seed_and_a_key_exclude_each_other() -> None:
    with pytest.raises(InvalidInput):
        Split({"canary": 0.1}, seed=1, key=lambda: "user")


@pytest.mark.parametrize("key", [0.5, None, ["user"]])
def test_a_key_of_another_type_is_refused(key: Any) -> None:
    with pytest.raises(InvalidInput):
        Split({"canary": 0.1}, key=lambda: key).pick()


def test_a_split_shows_its_shares() -> None:
    assert repr(Split({"canary": 0.1}, seed=3)) == "Split({'canary': 0.1})"


def missing_signature() -> ServableError:
    error = ModelNotFound("no signature")
    error.missing_signature = True
    return error


@pytest.mark.parametrize(
    ("error", "unavailable"),
    [
        (ModelNotFound("no label", code="INVALID_ARGUMENT"), True),
        (NotReady("loading"), True),
        (ServerFailed("label unset", code="FAILED_PRECONDITION"), True),
        (missing_signature(), False),
        (ConnectionFailed("down", code="UNAVAILABLE"), False),
        (InvalidInput("wrong dtype", code="INVALID_ARGUMENT"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_errors_mean_that_the_label_is_unavailable(
    error: ServableError, unavailable: bool
) -> None:
    assert is_label_unavailable(error) is unavailable


# -- in the engine ------------------------------------------------------------------------------

LABEL_UNKNOWN = Failure("INVALID_ARGUMENT", "Unrecognized servable version label: canary")
ANSWER = grpc_prediction(1, y=np.array([1], np.float32))


def predict(found: Any, runner: Runner, target: Target | None = None) -> Any:
    return runner.run(
        found.predict(
            {"x": np.array([1], np.float32)},
            signature="s",
            outputs=None,
            target=found.target if target is None else target,
            deadline=found.deadline(None),
        )
    )


def labels(runner: Runner) -> list[str]:
    return [
        wire.PredictRequest.FromString(request.body).model_spec.version_label
        for request in runner.requests
        if isinstance(request, GrpcRequest)
    ]


def test_a_call_goes_to_the_label_that_is_picked() -> None:
    runner = Runner(in_turn(ANSWER))
    predict(engine(clock=runner.clock, split={"canary": 1}), runner)
    assert labels(runner) == ["canary"]


def test_a_call_falls_back_when_the_label_is_unavailable() -> None:
    runner = Runner(in_turn(LABEL_UNKNOWN, ANSWER))
    answer = predict(engine(clock=runner.clock, split={"canary": 1}), runner)
    assert answer.version == 1
    assert labels(runner) == ["canary", "stable"]


def test_any_other_error_of_the_label_is_raised() -> None:
    runner = Runner(in_turn(Failure("INTERNAL", "broken")))
    with pytest.raises(ServerFailed):
        predict(engine(clock=runner.clock, split={"canary": 1}), runner)
    assert labels(runner) == ["canary"]


def test_a_missing_signature_does_not_fall_back() -> None:
    message = 'Serving signature key "s" not found.'
    runner = Runner(in_turn(Failure("FAILED_PRECONDITION", message)))
    with pytest.raises(ModelNotFound):
        predict(engine(clock=runner.clock, split={"canary": 1}), runner)
    assert labels(runner) == ["canary"]


def test_a_call_that_names_a_label_is_not_split() -> None:
    runner = Runner(in_turn(LABEL_UNKNOWN))
    found = engine(clock=runner.clock, split={"canary": 1})
    with pytest.raises(ModelNotFound):
        predict(found, runner, found.target_of(None, "stable"))
    assert labels(runner) == ["stable"]


def test_a_label_that_the_caller_names_has_no_fallback() -> None:
    runner = Runner(in_turn(LABEL_UNKNOWN))
    with pytest.raises(ModelNotFound):
        predict(engine(clock=runner.clock, label="stable", split={"canary": 0}), runner)
    assert labels(runner) == ["stable"]


def test_without_labels_calls_go_to_the_highest_version(caplog: pytest.LogCaptureFixture) -> None:
    replies: list[Any] = [LABEL_UNKNOWN, LABEL_UNKNOWN, ANSWER] * 2
    runner = Runner(in_turn(*replies))
    found = engine(clock=runner.clock, split={"canary": 1})
    assert predict(found, runner).version == 1
    assert labels(runner) == ["canary", "stable", ""]
    runner.clock.advance(2)
    assert predict(found, runner).version == 1
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.name for record in warned] == ["servable.client"]


def test_a_label_that_no_version_has_is_not_asked_for_again_at_once() -> None:
    runner = Runner(in_turn(LABEL_UNKNOWN, ANSWER, ANSWER, ANSWER))
    found = engine(clock=runner.clock, split={"canary": 0})
    predict(found, runner)
    predict(found, runner)
    assert labels(runner) == ["stable", "", ""]
    runner.clock.advance(2)
    predict(found, runner)
    assert labels(runner)[-1] == "stable"


def test_a_label_whose_version_is_gone_has_no_fallback() -> None:
    gone = Failure("NOT_FOUND", "Servable not found for request: Specific(shoes, 1)")
    runner = Runner(in_turn(gone, grpc_status((2, "AVAILABLE"))))
    with pytest.raises(ModelNotFound):
        predict(engine(clock=runner.clock, split={"canary": 0}), runner)


def test_metadata_and_readiness_use_the_highest_version_too() -> None:
    runner = Runner(in_turn(LABEL_UNKNOWN, grpc_metadata(3), LABEL_UNKNOWN, grpc_metadata(3)))
    found = engine(clock=runner.clock, split={"canary": 0.5})
    assert runner.run(resolve(found, found.target, found.deadline(None))) == 3
    found.forget()
    assert runner.run(ready(found, found.target, found.deadline(None)))


def test_waiting_without_labels_is_for_any_version() -> None:
    runner = Runner(in_turn(LABEL_UNKNOWN, grpc_status((3, "AVAILABLE"))))
    found = engine(clock=runner.clock, split={"canary": 0.5})
    assert runner.run(wait(found, found.target, 10)) == 3


def test_a_copy_counts_its_own_calls() -> None:
    split = Split({"canary": 0.5})
    split.record("canary", 0.5, InvalidInput("no", code="INVALID_ARGUMENT"))
    split.record(None, 0.25, None)
    again = pickle.loads(pickle.dumps(split))
    assert (again.shares, again.calls) == ({"canary": 0.5}, {})
    again.record("canary", 0.1, None)
    assert {label: one.calls for label, one in split.calls.items()} == {"canary": 1, "": 1}
    assert split.calls["canary"].errors == {"INVALID_ARGUMENT": 1}
    assert split.calls["canary"].percentile(0.5) is None
    assert split.calls[""].percentile(0.5) == 0.25
