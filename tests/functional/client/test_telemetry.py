"""Hooks, spans and the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from opentelemetry import trace
from tests.conftest import NAME
from tests.functional.client.gateways import Refusal
from tests.tracing import Spans, export_spans

import servable_client as sdk
from servable_client import RequestEvent, ResponseEvent, Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import RunningServer


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return export_spans(monkeypatch)


def test_hooks_see_each_attempt(
    make: Callable[..., Any], gateway: Callable[..., Any], scheme: str
) -> None:
    left = [Refusal("UNAVAILABLE")]
    front = gateway(scheme, lambda *_: left.pop() if left else None)
    began: list[RequestEvent] = []
    ended: list[ResponseEvent] = []
    with make(
        front.address, model=NAME, on_request=began.append, on_response=ended.append
    ) as client:
        client.status()
    assert [(e.method, e.attempt, e.model) for e in began] == [
        ("GetModelStatus", 1, NAME),
        ("GetModelStatus", 2, NAME),
    ]
    assert [(e.code, e.request) for e in ended] == [("UNAVAILABLE", began[0]), ("OK", began[1])]
    assert all(e.endpoint == front.address and 0 < e.timeout <= 5 for e in began)
    assert all(e.elapsed > 0 for e in ended)


def test_hooks_see_requests_that_were_never_sent(
    make: Callable[..., Any], server: RunningServer
) -> None:
    ended: list[ResponseEvent] = []
    with (
        make(server.grpc, model=NAME, on_response=ended.append) as client,
        pytest.raises(sdk.InvalidInput),
    ):
        client.predict({"image": np.zeros(1, "datetime64[s]")})
    assert [event.code for event in ended] == ["INVALID_ARGUMENT"]


def test_spans_over_grpc(
    make: Callable[..., Any], gateway: Callable[..., Any], spans: Spans, boot: np.ndarray
) -> None:
    front = gateway("grpc", lambda *_: None)
    with make(front.address, model=NAME) as client:
        client.predict({"image": boot[np.newaxis]})
    (span,) = spans.get_finished_spans()
    assert span.name == "tensorflow.serving.PredictionService/Predict"
    assert span.kind is trace.SpanKind.CLIENT
    attributes = dict(span.attributes or {})
    assert attributes["rpc.system"] == "grpc"
    assert attributes["rpc.service"] == "tensorflow.serving.PredictionService"
    assert attributes["rpc.method"] == "Predict"
    assert attributes["rpc.grpc.status_code"] == 0
    assert (attributes["server.address"], attributes["server.port"]) == ("127.0.0.1", front.port)
    # The request carries the context of the span.
    traceparent = front.seen[0][1]["traceparent"]
    assert f"{span.context.trace_id:032x}-{span.context.span_id:016x}" in traceparent


def test_spans_over_http(
    make: Callable[..., Any], gateway: Callable[..., Any], spans: Spans
) -> None:
    left = [Refusal("UNAVAILABLE")]
    front = gateway("http", lambda *_: left.pop() if left else None)
    with make(front.address, model=NAME) as client:
        client.status()
    first, second = spans.get_finished_spans()
    assert first.name == second.name == "GET"
    before, after = dict(first.attributes or {}), dict(second.attributes or {})
    assert before["http.response.status_code"] == 503
    assert before["error.type"] == "503"
    assert first.status.status_code is trace.StatusCode.ERROR
    assert after["http.request.resend_count"] == 1
    assert after["http.response.status_code"] == 200
    assert after["url.full"] == f"{front.address}/v1/models/{NAME}"
    assert "traceparent" in front.seen[1][1]


def test_an_unavailable_address_is_logged(
    make: Callable[..., Any],
    gateway: Callable[..., Any],
    scheme: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "servable")
    front = gateway(scheme, lambda *_: Refusal("UNAVAILABLE"))
    retry = Retry(attempts=2, initial=0, maximum=0)
    with (
        make(front.address, model=NAME, retry=retry) as client,
        pytest.raises(sdk.ConnectionFailed),
    ):
        client.status()
    (record,) = caplog.records
    assert record.name == "servable.client"
    assert front.address in record.getMessage()
