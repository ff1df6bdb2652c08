"""Whether a model is served, waiting for it, and reloading the configuration."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.client.harness import (
    MODEL,
    Runner,
    engine,
    grpc_metadata,
    grpc_status,
    in_turn,
)

from servable_client import (
    AccessDenied,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    Retry,
    ServableError,
    ServerFailed,
)
from servable_client._wire import wire_pb2 as wire
from servable_client.engine.readiness import ready, reload, resolve, wait
from servable_client.types.operations import Failure, Target

ONCE = Retry(attempts=1)
NOT_FOUND = Failure("NOT_FOUND", "Could not find any versions")
DOWN = Failure("UNAVAILABLE", "down", unreachable=True)


def test_resolve_gives_the_version_that_answers() -> None:
    runner = Runner(in_turn(grpc_metadata(3)))
    found = engine(clock=runner.clock)
    assert runner.run(resolve(found, found.target, found.deadline(None))) == 3


def test_resolve_reads_the_metadata_each_time() -> None:
    runner = Runner(in_turn(grpc_metadata(3), grpc_metadata(4)))
    found = engine(clock=runner.clock)
    seen = [runner.run(resolve(found, found.target, found.deadline(None))) for _ in range(2)]
    assert seen == [3, 4]


def test_version_0_is_resolved_and_waited_for() -> None:
    runner = Runner(in_turn(grpc_metadata(0), grpc_status((0, "AVAILABLE"))))
    found = engine(clock=runner.clock)
    assert runner.run(resolve(found, found.target, found.deadline(None))) == 0
    assert runner.run(wait(found, Target(model=MODEL, version=0), 10)) == 0


def test_resolve_fails_when_the_server_names_no_version() -> None:
    runner = Runner(in_turn(grpc_metadata(None)))
    found = engine(clock=runner.clock)
    with pytest.raises(ServerFailed):
        runner.run(resolve(found, found.target, found.deadline(None)))


@pytest.mark.parametrize(
    "replies",
    [
        [DOWN],
        [NOT_FOUND, NOT_FOUND],
        [NOT_FOUND, grpc_status((1, "LOADING"))],
        [Failure("DEADLINE_EXCEEDED", "late")],
    ],
    ids=["down", "not found", "loading", "late"],
)
def test_a_model_that_does_not_answer_is_not_ready(replies: list[Any]) -> None:
    runner = Runner(in_turn(*replies))
    found = engine(clock=runner.clock, retry=ONCE)
    assert runner.run(ready(found, found.target, found.deadline(None))) is False


def test_a_model_that_answers_is_ready() -> None:
    runner = Runner(in_turn(grpc_metadata(3)))
    found = engine(clock=runner.clock)
    assert runner.run(ready(found, found.target, found.deadline(None))) is True


def test_ready_raises_what_is_not_about_readiness() -> None:
    runner = Runner(in_turn(Failure("PERMISSION_DENIED", "no")))
    found = engine(clock=runner.clock)
    with pytest.raises(AccessDenied):
        runner.run(ready(found, found.target, found.deadline(None)))


# -- wait ---------------------------------------------------------------------------------------


def test_wait_returns_the_highest_version() -> None:
    runner = Runner(in_turn(grpc_status((1, "AVAILABLE"), (2, "AVAILABLE"))))
    found = engine(clock=runner.clock)
    assert runner.run(wait(found, found.target, 10)) == 2


def test_wait_polls_until_the_version_is_available() -> None:
    runner = Runner(
        in_turn(NOT_FOUND, grpc_status((2, "START")), DOWN, grpc_status((2, "AVAILABLE")))
    )
    found = engine(clock=runner.clock)
    assert runner.run(wait(found, Target(model=MODEL, version=2), 10)) == 2
    assert len(runner.sleeps) == 3


def test_pauses_between_polls_grow_up_to_half_a_second() -> None:
    runner = Runner(lambda _: NOT_FOUND)
    found = engine(clock=runner.clock)
    with pytest.raises(DeadlineExceeded):
        runner.run(wait(found, found.target, 5))
    assert runner.sleeps[:3] == pytest.approx([0.05, 0.075, 0.1125])
    assert max(runner.sleeps) == 0.5
    assert sum(runner.sleeps) == pytest.approx(5)


def test_wait_looks_once_even_without_time() -> None:
    runner = Runner(lambda _: NOT_FOUND)
    found = engine(clock=runner.clock)
    with pytest.raises(DeadlineExceeded) as caught:
        runner.run(wait(found, found.target, 0))
    assert len(runner.requests) == 1
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert caught.value.model == MODEL


def test_an_error_of_wait_names_the_state_of_each_version() -> None:
    runner = Runner(lambda _: grpc_status((3, "LOADING"), (2, "UNLOADING")))
    found = engine(clock=runner.clock)
    with pytest.raises(DeadlineExceeded) as caught:
        runner.run(wait(found, found.target, 0))
    assert "3 LOADING" in caught.value.message
    assert "2 UNLOADING" in caught.value.message


def test_an_error_of_wait_names_a_version_that_is_not_there() -> None:
    runner = Runner(lambda _: grpc_status((1, "AVAILABLE")))
    found = engine(clock=runner.clock)
    with pytest.raises(DeadlineExceeded) as caught:
        runner.run(wait(found, Target(model=MODEL, version=9), 0))
    assert "version 9" in caught.value.message


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), 86401])
def test_wait_refuses_an_invalid_timeout(timeout: float) -> None:
    runner = Runner(in_turn())
    found = engine(clock=runner.clock)
    with pytest.raises(InvalidInput):
        runner.run(wait(found, found.target, timeout))


def failed_status(*versions: int) -> bytes:
    response = wire.GetModelStatusResponse()
    for version in versions:
        status = response.model_version_status.add(version=version, state=50)
        status.status.error_code = 13
        status.status.error_message = b"out of memory"
    return response.SerializeToString()


def test_wait_ends_when_the_version_failed_to_load() -> None:
    runner = Runner(in_turn(failed_status(2)))
    found = engine(clock=runner.clock)
    with pytest.raises(ServerFailed) as caught:
        runner.run(wait(found, Target(model=MODEL, version=2), 10))
    assert caught.value.code == "INTERNAL"
    assert "out of memory" in caught.value.message


def test_wait_goes_on_when_another_version_failed_to_load() -> None:
    both = wire.GetModelStatusResponse.FromString(failed_status(2))
    both.model_version_status.add(version=1, state=wire.ModelVersionStatus.State.Value("LOADING"))
    runner = Runner(in_turn(both.SerializeToString(), grpc_status((1, "AVAILABLE"))))
    found = engine(clock=runner.clock)
    assert runner.run(wait(found, found.target, 10)) == 1


def test_wait_for_a_label_reads_the_metadata() -> None:
    unknown = Failure("INVALID_ARGUMENT", "Unrecognized servable version label: blue")
    runner = Runner(in_turn(unknown, grpc_metadata(4)))
    found = engine(clock=runner.clock)
    assert runner.run(wait(found, Target(model=MODEL, label="blue"), 10)) == 4
    assert runner.methods == ["GetModelMetadata"] * 2


def test_wait_asks_every_endpoint() -> None:
    runner = Runner(lambda _: grpc_status((1, "AVAILABLE")))
    found = engine("grpc://one,grpc://two", clock=runner.clock)
    runner.run(wait(found, found.target, 10))
    assert runner.endpoints == list(found.endpoints)


def test_wait_needs_every_endpoint_that_answers() -> None:
    runner = Runner(
        in_turn(
            grpc_status((1, "AVAILABLE")),
            grpc_status((1, "LOADING")),
            grpc_status((1, "AVAILABLE")),
            grpc_status((1, "AVAILABLE")),
        )
    )
    found = engine("grpc://one,grpc://two", clock=runner.clock)
    runner.run(wait(found, found.target, 10))
    assert len(runner.requests) == 4


def test_wait_passes_over_an_endpoint_that_is_down() -> None:
    runner = Runner(in_turn(DOWN, grpc_status((1, "AVAILABLE"))))
    found = engine("grpc://one,grpc://two", clock=runner.clock)
    assert runner.run(wait(found, found.target, 10)) == 1
    assert runner.sleeps == []


def test_wait_gives_the_lowest_of_the_endpoints_versions() -> None:
    runner = Runner(in_turn(grpc_status((2, "AVAILABLE")), grpc_status((1, "AVAILABLE"))))
    found = engine("grpc://one,grpc://two", clock=runner.clock)
    assert runner.run(wait(found, found.target, 10)) == 1


def test_wait_forgets_what_was_known() -> None:
    runner = Runner(in_turn(grpc_metadata(1), grpc_status((2, "AVAILABLE"))))
    found = engine(clock=runner.clock)
    runner.run(found.describe(found.target, found.deadline(None)))
    runner.run(wait(found, found.target, 10))
    assert found.known(found.target) is None


def test_wait_raises_what_waiting_will_not_mend() -> None:
    runner = Runner(in_turn(Failure("UNAUTHENTICATED", "who are you?")))
    found = engine(clock=runner.clock)
    with pytest.raises(AccessDenied):
        runner.run(wait(found, found.target, 10))


# -- reload -------------------------------------------------------------------------------------

CONFIG = wire.ModelServerConfig()


def reply(code: int = 0, message: str = "") -> bytes:
    response = wire.ReloadConfigResponse()
    response.status.error_code = code
    response.status.error_message = message.encode()
    return response.SerializeToString()


def test_reload_reaches_every_endpoint() -> None:
    runner = Runner(lambda _: reply())
    found = engine("grpc://one,grpc://two", clock=runner.clock)
    assert runner.run(reload(found, CONFIG, 10)) is None
    assert runner.endpoints == list(found.endpoints)
    assert set(runner.methods) == {"HandleReloadConfigRequest"}


def test_a_configuration_that_the_server_refuses_is_an_error() -> None:
    runner = Runner(in_turn(reply(9, "label has no version")))
    found = engine("grpc://one,grpc://two", clock=runner.clock)
    with pytest.raises(ServableError) as caught:
        runner.run(reload(found, CONFIG, 10))
    assert caught.value.code == "FAILED_PRECONDITION"
    assert len(runner.requests) == 1


def test_reload_is_not_retried() -> None:
    runner = Runner(lambda _: DOWN)
    found = engine(clock=runner.clock)
    with pytest.raises(ServableError):
        runner.run(reload(found, CONFIG, 10))
    assert len(runner.requests) == 1


def test_reload_forgets_what_was_known() -> None:
    runner = Runner(in_turn(grpc_metadata(1), NOT_FOUND))
    found = engine(clock=runner.clock)
    runner.run(found.describe(found.target, found.deadline(None)))
    with pytest.raises(ModelNotFound):
        runner.run(reload(found, CONFIG, 10))
    assert found.known(found.target) is None


def test_rest_cannot_reload() -> None:
    runner = Runner(in_turn())
    found = engine("http://one", clock=runner.clock)
    with pytest.raises(InvalidInput):
        runner.run(reload(found, CONFIG, 10))
    assert runner.requests == []
