"""One call: attempts, retries, the deadline and the choice of endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.client.harness import (
    MODEL,
    Clock,
    Request,
    Runner,
    engine,
    grpc_status,
    in_turn,
)

from servable_client import (
    AccessDenied,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NotReady,
    Retry,
    ServableError,
    ServerBusy,
    ServerFailed,
)
from servable_client.codec.grpc import GrpcRequest
from servable_client.types.operations import Failure, StatusOperation

if TYPE_CHECKING:
    from servable_client.engine.core import Engine

AVAILABLE = grpc_status((1, "AVAILABLE"))
STEADY = Retry(initial=0, maximum=0)


def unavailable(**options: Any) -> Failure:
    return Failure("UNAVAILABLE", "down", **options)


def call(found: Engine, runner: Runner, timeout: float = 5.0) -> Any:
    operation = StatusOperation(target=found.target)
    return runner.run(found.call(operation, found.deadline(timeout)))


def failing(*failures: Failure, then: bytes = AVAILABLE) -> Any:
    left = list(failures)
    return lambda _: left.pop(0) if left else then


@pytest.mark.parametrize(
    "failure",
    [
        unavailable(),
        Failure("UNAVAILABLE", "bad gateway", http_status=502),
        Failure("UNAVAILABLE", "unavailable", http_status=503),
        Failure("DEADLINE_EXCEEDED", "gateway timeout", http_status=504),
        Failure("CANCELLED", "the server stops"),
        Failure("RESOURCE_EXHAUSTED", "busy", retry_after=0.5),
        Failure("RESOURCE_EXHAUSTED", "no thread is free"),
    ],
    ids=lambda failure: f"{failure.code}-{failure.http_status}",
)
def test_a_transient_failure_is_retried(failure: Failure) -> None:
    clock = Clock()
    runner = Runner(failing(failure), clock)
    assert call(engine(clock=clock), runner)[0].version == 1
    assert len(runner.requests) == 2


@pytest.mark.parametrize(
    "code",
    [
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "INTERNAL",
        "DEADLINE_EXCEEDED",
        "PERMISSION_DENIED",
        "UNIMPLEMENTED",
    ],
)
def test_a_lasting_failure_is_not_retried(code: str) -> None:
    clock = Clock()
    runner = Runner(lambda _: Failure(code, "no"), clock)
    with pytest.raises(ServableError) as caught:
        call(engine(clock=clock), runner)
    assert caught.value.code == code
    assert runner.methods == ["GetModelStatus"]


def test_a_certificate_that_is_not_valid_fails_the_call_at_once() -> None:
    runner = Runner(lambda _: unavailable(unreachable=True, untrusted=True))
    with pytest.raises(ConnectionFailed) as caught:
        call(engine(clock=runner.clock), runner)
    assert len(runner.requests) == 1
    assert "certificate" in (caught.value.hint or "")


def test_another_endpoint_is_retried_while_one_has_no_valid_certificate() -> None:
    clock = Clock()
    failures = [unavailable(unreachable=True)] * 2

    def reply(request: Request) -> Any:
        if request.endpoint.host == "old":
            return unavailable(unreachable=True, untrusted=True)
        return failures.pop() if failures else AVAILABLE

    runner = Runner(reply, clock)
    found = engine(["grpc://old", "grpc://down"], clock=clock, retry=STEADY)
    assert call(found, runner)[0].version == 1
    hosts = [endpoint.host for endpoint in runner.endpoints]
    assert hosts.count("down") == 3


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED"])
def test_what_the_server_asks_not_to_retry_is_not_retried(code: str) -> None:
    runner = Runner(lambda _: Failure(code, "no", refuses_retry=True))
    with pytest.raises(ServableError):
        call(engine(clock=runner.clock), runner)
    assert len(runner.requests) == 1


def test_a_busy_server_is_asked_until_the_deadline_without_budget() -> None:
    clock = Clock()
    runner = Runner(lambda _: Failure("RESOURCE_EXHAUSTED", "no thread is free"), clock)
    with pytest.raises(ServerBusy):
        call(engine(clock=clock, retry=Retry(budget=0, maximum=0.1)), runner, timeout=10)
    # On average every twentieth of a second.
    assert len(runner.requests) > 50
    assert len(set(runner.sleeps)) > 50  # jitter


def test_attempts_are_limited() -> None:
    clock = Clock()
    runner = Runner(lambda _: unavailable(), clock)
    with pytest.raises(ConnectionFailed):
        call(engine(clock=clock, retry=Retry(attempts=3, initial=0, maximum=0)), runner)
    assert len(runner.requests) == 3


def test_one_attempt_means_no_retry() -> None:
    runner = Runner(lambda _: unavailable())
    with pytest.raises(ConnectionFailed):
        call(engine(clock=runner.clock, retry=Retry(attempts=1)), runner)
    assert len(runner.requests) == 1


def test_the_wait_the_server_asks_for_is_kept() -> None:
    clock = Clock()
    busy = Failure("RESOURCE_EXHAUSTED", "busy", retry_after=1.25)
    runner = Runner(failing(busy), clock)
    call(engine(clock=clock), runner)
    # And some more: those that were refused together must not come back together.
    assert 1.25 <= runner.sleeps[0] <= 1.25 + Retry().initial


def test_a_wait_past_the_deadline_is_not_made() -> None:
    clock = Clock()
    runner = Runner(lambda _: Failure("RESOURCE_EXHAUSTED", "busy", retry_after=7), clock)
    with pytest.raises(ServerBusy) as caught:
        call(engine(clock=clock), runner, timeout=2)
    assert caught.value.retry_after == 7
    assert runner.sleeps == []


def test_retries_end_before_the_deadline() -> None:
    clock = Clock()
    runner = Runner(lambda _: unavailable(retry_after=0.75), clock)
    with pytest.raises(ConnectionFailed):
        call(engine(clock=clock), runner, timeout=2)
    assert runner.sleeps == [0.75, 0.75]


def test_each_attempt_gets_the_time_that_is_left() -> None:
    clock = Clock()
    runner = Runner(failing(unavailable(retry_after=2), unavailable(retry_after=1)), clock)
    call(engine(clock=clock), runner, timeout=5)
    assert runner.timeouts == pytest.approx([5, 3, 2])


def test_waits_grow_when_the_server_names_none() -> None:
    clock = Clock()
    runner = Runner(failing(*[unavailable() for _ in range(6)]), clock)
    call(engine(clock=clock, retry=Retry(initial=0.1, maximum=0.4), timeout=60), runner, 60)
    limits = [0.1, 0.2, 0.4, 0.4, 0.4, 0.4]
    assert all(wait <= limit for wait, limit in zip(runner.sleeps, limits, strict=True))


def test_the_budget_ends_retries_of_all_calls() -> None:
    clock = Clock()
    runner = Runner(lambda _: unavailable(), clock)
    found = engine(clock=clock, retry=Retry(attempts=5, initial=0, maximum=0, budget=6))
    for _ in range(10):
        with pytest.raises(ConnectionFailed):
            call(found, runner)
    assert len(runner.requests) == 10 + 6


def test_waits_that_a_busy_server_asks_for_leave_the_budget_alone() -> None:
    clock = Clock()
    busy = [Failure("RESOURCE_EXHAUSTED", "busy", retry_after=0.1)] * 5
    found = engine(clock=clock, retry=Retry(initial=0, maximum=0, budget=1))
    runner = Runner(failing(*busy, unavailable()), clock)
    call(found, runner)
    assert len(runner.requests) == 7


def test_a_success_refunds_the_budget() -> None:
    clock = Clock()
    found = engine(clock=clock, retry=Retry(attempts=2, initial=0, maximum=0, budget=1))
    call(found, Runner(failing(unavailable()), clock))
    for _ in range(10):
        call(found, Runner(failing(), clock))
    runner = Runner(failing(unavailable()), clock)
    call(found, runner)
    assert len(runner.requests) == 2


def test_another_endpoint_is_tried_at_once() -> None:
    clock = Clock()
    found = engine("grpc://one,grpc://two", clock=clock)
    one, two = found.endpoints
    runner = Runner(lambda r: unavailable() if r.endpoint is one else AVAILABLE, clock)
    call(found, runner)
    assert runner.endpoints == [one, two]
    assert runner.sleeps == []


def test_a_wait_follows_once_every_endpoint_failed() -> None:
    clock = Clock()
    found = engine("grpc://one,grpc://two", clock=clock, retry=Retry(initial=1, maximum=1))
    runner = Runner(failing(unavailable(), unavailable()), clock)
    call(found, runner)
    assert len(runner.requests) == 3
    assert len(runner.sleeps) == 1


def test_a_dead_endpoint_is_left_out_of_later_calls() -> None:
    clock = Clock()
    found = engine("grpc://one,grpc://two", clock=clock)
    one, two = found.endpoints
    dead = Failure("UNAVAILABLE", "down", unreachable=True)
    runner = Runner(lambda r: dead if r.endpoint is one else AVAILABLE, clock)
    for _ in range(4):
        call(found, runner)
    assert runner.endpoints == [one, two, two, two, two]


def test_a_dead_endpoint_is_tried_again_after_a_while() -> None:
    clock = Clock()
    found = engine("grpc://one,grpc://two", clock=clock)
    one, _ = found.endpoints
    call(found, Runner(failing(unavailable(unreachable=True)), clock))
    clock.advance(20)
    runner = Runner(failing(), clock)
    for _ in range(2):
        call(found, runner)
    assert one in runner.endpoints


def test_an_endpoint_that_refuses_stays_in_the_turn() -> None:
    clock = Clock()
    found = engine("grpc://one,grpc://two", clock=clock)
    denied = Failure("PERMISSION_DENIED", "no")
    runner = Runner(lambda _: denied, clock)
    for _ in range(4):
        with pytest.raises(AccessDenied):
            call(found, runner)
    assert runner.endpoints == [*found.endpoints, *found.endpoints]


def test_no_time_left_is_a_deadline_error_and_sends_nothing() -> None:
    clock = Clock()
    found = engine(clock=clock)
    runner = Runner(failing(), clock)
    with pytest.raises(DeadlineExceeded) as caught:
        runner.run(found.call(StatusOperation(target=found.target), clock()))
    assert runner.requests == []
    assert found.endpoints[0].url in caught.value.message


def refused_then_silent(clock: Clock, found: Engine, wait: float, timeout: float) -> ServableError:
    """A call that is refused once, then not answered until its time is up."""
    refusal = unavailable(retry_after=wait)
    first = [refusal]

    def handler(_: Request) -> Failure:
        if first:
            return first.pop()
        clock.advance(timeout)
        return Failure("DEADLINE_EXCEEDED", "deadline", unreachable=True)

    with pytest.raises(ServableError) as caught:
        call(found, Runner(handler, clock), timeout)
    return caught.value


def test_refused_then_silent_for_a_little_is_the_refusal() -> None:
    clock = Clock()
    error = refused_then_silent(clock, engine(clock=clock), wait=3, timeout=4)
    assert isinstance(error, ConnectionFailed)
    assert "down" in error.message


def test_refused_then_silent_for_most_of_the_time_is_the_deadline() -> None:
    clock = Clock()
    error = refused_then_silent(clock, engine(clock=clock), wait=0, timeout=4)
    assert isinstance(error, DeadlineExceeded)
    assert "down" in error.message


def test_an_unreachable_server_is_named() -> None:
    runner = Runner(lambda _: unavailable(unreachable=True))
    found = engine(clock=runner.clock, retry=Retry(attempts=1))
    with pytest.raises(ConnectionFailed) as caught:
        call(found, runner)
    error = caught.value
    assert (error.endpoint, error.model, error.code) == ("grpc://one:8500", MODEL, "UNAVAILABLE")
    assert "grpc://one:8500" in error.message


def test_a_version_that_is_loading_is_not_ready() -> None:
    runner = Runner(in_turn(Failure("NOT_FOUND", "no"), grpc_status((2, "LOADING"))))
    found = engine(clock=runner.clock, version=2)
    with pytest.raises(NotReady) as caught:
        runner.run(found.describe(found.target, found.deadline(None)))
    assert caught.value.code == "NOT_FOUND"
    assert caught.value.hint
    assert runner.methods == ["GetModelMetadata", "GetModelStatus"]


@pytest.mark.parametrize(
    "status",
    [
        grpc_status((2, "AVAILABLE"), (3, "LOADING")),
        grpc_status((2, "END")),
        Failure("NOT_FOUND", "no such model"),
        Failure("UNAVAILABLE", "down"),
    ],
)
def test_a_model_that_is_not_loading_is_not_found(status: bytes | Failure) -> None:
    runner = Runner(in_turn(Failure("NOT_FOUND", "no"), status))
    found = engine(clock=runner.clock)
    with pytest.raises(ModelNotFound):
        runner.run(found.describe(found.target, found.deadline(None)))


def test_a_reply_that_cannot_be_decoded_is_another_servers() -> None:
    runner = Runner(lambda _: b"\xff\xff\xff")
    found = engine(clock=runner.clock)
    with pytest.raises(ServerFailed) as caught:
        call(found, runner)
    assert caught.value.endpoint == "grpc://one:8500"
    assert caught.value.hint


def test_fixed_credentials_go_with_each_attempt() -> None:
    runner = Runner(failing(unavailable()))
    found = engine("grpcs://one", clock=runner.clock, api_key="k", token="t", retry=STEADY)
    call(found, runner)
    sent = [r.metadata for r in runner.requests if isinstance(r, GrpcRequest)]
    assert sent == [(("x-api-key", "k"), ("authorization", "Bearer t"))] * 2


def test_a_function_for_a_token_is_called_for_each_attempt() -> None:
    tokens = iter(["first", "second"])
    runner = Runner(failing(unavailable()))
    found = engine("grpcs://one", clock=runner.clock, token=lambda: next(tokens), retry=STEADY)
    call(found, runner)
    sent = [r.metadata for r in runner.requests if isinstance(r, GrpcRequest)]
    assert sent == [(("authorization", "Bearer first"),), (("authorization", "Bearer second"),)]


def test_a_function_that_gives_no_secret_fails_the_call() -> None:
    runner = Runner(failing())
    found = engine("grpcs://one", clock=runner.clock, token=lambda: "two\nlines")
    with pytest.raises(InvalidInput) as caught:
        call(found, runner)
    assert "lines" not in caught.value.message.replace("line breaks", "")
    assert runner.requests == []


def test_a_retry_is_logged_at_debug_and_a_dead_address_at_info(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "servable.client")
    runner = Runner(failing(unavailable(unreachable=True)))
    call(engine(clock=runner.clock, retry=STEADY), runner)
    assert [record.levelname for record in caplog.records] == ["INFO", "DEBUG"]


@pytest.mark.parametrize(
    ("server", "other"), [("grpc://one", "REST port"), ("http://one", "gRPC port")]
)
def test_a_server_of_the_other_protocol_gets_a_hint(server: str, other: str) -> None:
    runner = Runner(lambda _: unavailable(unreachable=True, other_protocol=True))
    with pytest.raises(ConnectionFailed) as caught:
        call(engine(server, runner.clock, retry=Retry(attempts=1)), runner)
    assert other in (caught.value.hint or "")


def test_a_server_that_answered_before_speaks_the_protocol() -> None:
    stopped = unavailable(unreachable=True, other_protocol=True)
    runner = Runner(in_turn(AVAILABLE, stopped))
    found = engine("grpc://one", runner.clock, retry=Retry(attempts=1))
    call(found, runner)
    with pytest.raises(ConnectionFailed) as caught:
        call(found, runner)
    assert "REST port" not in (caught.value.hint or "")


def test_an_error_says_how_often_the_request_was_sent_and_its_id() -> None:
    runner = Runner(in_turn(unavailable(), Failure("INTERNAL", "broken", request_id="id-of-2")))
    with pytest.raises(ServerFailed) as caught:
        call(engine(clock=runner.clock, retry=STEADY), runner)
    assert (caught.value.attempts, caught.value.request_id) == (2, "id-of-2")
    assert caught.value.input is None


def test_a_refusal_before_the_deadline_keeps_its_id() -> None:
    refused = Failure("UNAVAILABLE", "down", request_id="id-of-1")
    late = Failure("DEADLINE_EXCEEDED", "late", unreachable=True)
    runner = Runner(in_turn(refused, late))
    with pytest.raises(ServableError) as caught:
        call(engine(clock=runner.clock, retry=STEADY), runner)
    assert (caught.value.attempts, caught.value.request_id) == (2, "id-of-1")


def test_an_error_before_sending_has_no_attempts() -> None:
    with pytest.raises(InvalidInput) as caught:
        engine(timeout=0)
    assert (caught.value.attempts, caught.value.request_id) == (0, None)


def test_an_unexpected_response_has_its_attempts() -> None:
    runner = Runner(in_turn(b"\xff"))
    with pytest.raises(ServerFailed) as caught:
        call(engine(clock=runner.clock), runner)
    assert caught.value.attempts == 1
