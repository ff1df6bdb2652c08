"""Observability: hooks, OpenTelemetry spans and the log."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable_client._wire.status import STATUS_CODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_client.codec.grpc import Headers
    from servable_client.net.endpoints import Endpoint
    from servable_client.types.operations import Failure, Operation

log = logging.getLogger("servable.client")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent:
    """The start of an attempt; the argument of `on_request`.

    Attributes:
        endpoint: The server address.
        method: The method, by its gRPC name: Predict, Classify, GetModelMetadata,
            GetModelStatus or HandleReloadConfigRequest, for either transport.
        model: The model name.
        signature: The signature name, or an empty string.
        attempt: The number of the attempt, counted from 1.
        timeout: The remaining time, in seconds.

    Example:
        >>> seen = []
        >>> with Client(server, model="fashion_mnist", on_request=seen.append) as watched:
        ...     _ = watched.status()
        >>> seen[0].method, seen[0].attempt
        ('GetModelStatus', 1)
    """

    endpoint: str
    method: str
    model: str
    signature: str
    attempt: int
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseEvent:
    """The end of an attempt; the argument of `on_response`.

    Attributes:
        request: The event of its start.
        code: The canonical status code by name, `OK` on success.
        elapsed: The duration in seconds.

    Example:
        >>> seen = []
        >>> with Client(server, model="fashion_mnist", on_response=seen.append) as watched:
        ...     _ = watched.status()
        >>> seen[0].code, seen[0].request.method
        ('OK', 'GetModelStatus')
    """

    request: RequestEvent
    code: str
    elapsed: float


class Telemetry:
    """Reports each attempt to hooks and OpenTelemetry."""

    def __init__(
        self,
        on_request: Callable[[RequestEvent], object] | None,
        on_response: Callable[[ResponseEvent], object] | None,
    ) -> None:
        self._on_request = on_request
        self._on_response = on_response
        self._hooked = on_request is not None or on_response is not None

    def begin(
        self, endpoint: Endpoint, operation: Operation, attempt: int, timeout: float
    ) -> Attempt | None:
        """Start an attempt; None if nothing observes it."""
        # A program that exports spans has imported OpenTelemetry.
        traced = "opentelemetry.trace" in sys.modules and _tracing()
        if not (self._hooked or traced):
            return None
        event = RequestEvent(
            endpoint=endpoint.url,
            method=operation.method,
            model=operation.target.model,
            signature=operation.signature,
            attempt=attempt,
            timeout=timeout,
        )
        if self._on_request:
            self._on_request(event)
        span = self._span(endpoint, operation, attempt) if traced else None
        return Attempt(event, span, time.monotonic(), grpc=endpoint.grpc)

    def headers(self, attempt: Attempt) -> Headers:
        """The headers that propagate the span context to the server."""
        if not attempt.span or not attempt.span.is_recording():
            return ()
        from opentelemetry import propagate, trace

        carrier: dict[str, str] = {}
        propagate.inject(carrier, context=trace.set_span_in_context(attempt.span))
        return tuple((name.lower(), value) for name, value in carrier.items())

    def end(self, attempt: Attempt, code: str, failure: Failure | None = None) -> None:
        """End an attempt."""
        if attempt.span:
            self._close(attempt, code, failure)
        if self._on_response:
            self._on_response(
                ResponseEvent(
                    request=attempt.event, code=code, elapsed=time.monotonic() - attempt.began
                )
            )

    def _span(self, endpoint: Endpoint, operation: Operation, attempt: int) -> Any:
        # https://opentelemetry.io/docs/specs/semconv/rpc/grpc/ and .../http/http-spans/
        attributes: dict[str, str | int] = {
            "server.address": endpoint.host,
            "server.port": endpoint.port,
            "servable.model": operation.target.model,
        }
        if endpoint.grpc:
            name = f"{operation.service}/{operation.method}"
            attributes |= {
                "rpc.system": "grpc",
                "rpc.service": operation.service,
                "rpc.method": operation.method,
            }
        else:
            verb = "POST" if operation.method in ("Predict", "Classify") else "GET"
            name = verb
            attributes |= {"http.request.method": verb}
            if attempt > 1:
                attributes["http.request.resend_count"] = attempt - 1
        from opentelemetry import trace

        tracer = trace.get_tracer("servable_client")
        return tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)

    def _close(self, attempt: Attempt, code: str, failure: Failure | None) -> None:
        span = attempt.span
        if attempt.grpc:
            span.set_attribute("rpc.grpc.status_code", _number(code))
        elif attempt.http_status:
            span.set_attribute("http.response.status_code", attempt.http_status)
        if code != "OK":
            span.set_attribute(
                "error.type",
                str(failure.http_status) if failure and failure.http_status else code,
            )
            from opentelemetry import trace

            span.set_status(trace.StatusCode.ERROR)
        span.end()


@dataclass(slots=True)
class Attempt:
    """An attempt in progress."""

    event: RequestEvent
    span: Any
    began: float
    grpc: bool
    http_status: int | None = None

    def sent(self, request: Any) -> None:
        """Note the request."""
        if self.span and not self.grpc:
            self.span.set_attribute("url.full", request.endpoint.url + request.path)

    def received(self, reply: Any) -> None:
        """Note the reply."""
        if not self.grpc:
            self.http_status = reply.status


def _tracing() -> bool:
    """Whether the program has configured a tracer provider."""
    from opentelemetry import trace

    return not isinstance(
        trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider
    )


def _number(code: str) -> int:
    return STATUS_CODES.index(code) if code in STATUS_CODES else 2
