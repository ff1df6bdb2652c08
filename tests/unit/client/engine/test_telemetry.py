"""What hooks and OpenTelemetry see of each attempt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from tests.tracing import Spans, export_spans
from tests.unit.client.harness import (
    MODEL,
    Runner,
    engine,
    grpc_status,
    http,
    http_status,
    in_turn,
)

from servable_client import RequestEvent, ResponseEvent, Retry, ServableError
from servable_client.codec.grpc import GrpcRequest
from servable_client.codec.http import HttpRequest
from servable_client.types.operations import Failure

AVAILABLE = grpc_status((1, "AVAILABLE"))
AT_ONCE = Retry(attempts=2, initial=0, maximum=0)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return export_spans(monkeypatch)


def status(runner: Runner, server: str = "grpc://one", **options: Any) -> Any:
    found = engine(server, clock=runner.clock, retry=AT_ONCE, **options)
    return runner.run(found.status(found.target, found.deadline(None)))


def test_the_request_hook_sees_each_attempt() -> None:
    seen: list[RequestEvent] = []
    status(Runner(in_turn(Failure("UNAVAILABLE", "down"), AVAILABLE)), on_request=seen.append)
    assert [event.attempt for event in seen] == [1, 2]
    assert {(e.endpoint, e.method, e.model, e.signature) for e in seen} == {
        ("grpc://one:8500", "GetModelStatus", MODEL, "")
    }
    assert seen[0].timeout == pytest.approx(5)


def test_the_response_hook_sees_each_code() -> None:
    seen: list[ResponseEvent] = []
    status(Runner(in_turn(Failure("UNAVAILABLE", "down"), AVAILABLE)), on_response=seen.append)
    assert [event.code for event in seen] == ["UNAVAILABLE", "OK"]
    assert all(event.elapsed >= 0 for event in seen)


def test_an_answer_that_cannot_be_decoded_is_unknown() -> None:
    seen: list[ResponseEvent] = []
    with pytest.raises(ServableError):
        status(Runner(in_turn(b"\xff")), on_response=seen.append)
    assert [event.code for event in seen] == ["UNKNOWN"]


def test_an_input_that_cannot_be_encoded_is_invalid() -> None:
    seen: list[ResponseEvent] = []
    runner = Runner(in_turn())
    found = engine(clock=runner.clock, on_response=seen.append)
    flow = found.predict(
        {"x": np.array([object()])},
        signature="s",
        outputs=None,
        target=found.target,
        deadline=found.deadline(None),
    )
    with pytest.raises(ServableError):
        runner.run(flow)
    assert [event.code for event in seen] == ["INVALID_ARGUMENT"]


def test_an_interrupted_attempt_is_cancelled() -> None:
    seen: list[ResponseEvent] = []
    found = engine(on_response=seen.append)
    flow = found.status(found.target, found.deadline(None))
    next(flow)
    with pytest.raises(KeyboardInterrupt):
        flow.throw(KeyboardInterrupt())
    assert [event.code for event in seen] == ["CANCELLED"]


def test_nothing_is_measured_when_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer", lambda *_: pytest.fail("a span was made"))
    status(Runner(in_turn(AVAILABLE)))


def test_a_grpc_attempt_is_a_span(spans: Spans) -> None:
    status(Runner(in_turn(AVAILABLE)))
    span = spans.only
    assert span.name == "tensorflow.serving.ModelService/GetModelStatus"
    assert span.kind is trace.SpanKind.CLIENT
    assert dict(span.attributes or {}) == {
        "server.address": "one",
        "server.port": 8500,
        "servable.model": MODEL,
        "rpc.system": "grpc",
        "rpc.service": "tensorflow.serving.ModelService",
        "rpc.method": "GetModelStatus",
        "rpc.grpc.status_code": 0,
    }


def test_a_rest_attempt_is_a_span(spans: Spans) -> None:
    status(Runner(in_turn(http_status((1, "AVAILABLE")))), "http://one")
    span = spans.only
    attributes = dict(span.attributes or {})
    assert span.name == "GET"
    assert attributes["http.request.method"] == "GET"
    assert attributes["url.full"] == f"http://one:8501/v1/models/{MODEL}"
    assert attributes["http.response.status_code"] == 200


def test_a_failed_grpc_span_has_the_code(spans: Spans) -> None:
    with pytest.raises(ServableError):
        status(Runner(in_turn(Failure("INTERNAL", "broken"))))
    attributes = dict(spans.only.attributes or {})
    assert attributes["error.type"] == "INTERNAL"
    assert attributes["rpc.grpc.status_code"] == 13
    assert spans.only.status.status_code is StatusCode.ERROR


def test_a_failed_rest_span_has_the_status(spans: Spans) -> None:
    with pytest.raises(ServableError):
        status(Runner(in_turn(http({"error": "broken"}, 500))), "http://one")
    attributes = dict(spans.only.attributes or {})
    assert attributes["error.type"] == "500"
    assert attributes["http.response.status_code"] == 500


def test_a_retry_is_a_span_of_its_own(spans: Spans) -> None:
    runner = Runner(in_turn(http({"error": "down"}, 503), http_status((1, "AVAILABLE"))))
    status(runner, "http://one")
    resends = [
        dict(span.attributes or {}).get("http.request.resend_count")
        for span in spans.get_finished_spans()
    ]
    assert resends == [None, 1]


def test_the_context_goes_with_a_grpc_request(spans: Spans) -> None:
    runner = Runner(in_turn(AVAILABLE))
    status(runner)
    (request,) = runner.requests
    assert isinstance(request, GrpcRequest)
    context = spans.only.context
    assert context is not None
    assert f"{context.trace_id:032x}" in dict(request.metadata)["traceparent"]


def test_the_context_goes_with_a_rest_request(spans: Spans) -> None:
    runner = Runner(in_turn(http_status((1, "AVAILABLE"))))
    status(runner, "http://one")
    (request,) = runner.requests
    assert isinstance(request, HttpRequest)
    assert b"traceparent" in dict(request.headers)
    assert spans.get_finished_spans()
