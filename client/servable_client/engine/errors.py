"""The errors of failed attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable_client._errors import DeadlineExceeded, ServableError, error_for

if TYPE_CHECKING:
    from servable_client.net.endpoints import Endpoint
    from servable_client.types.operations import Failure, Operation


def error_of(
    failure: Failure, endpoint: Endpoint, operation: Operation, also: str = ""
) -> ServableError:
    """The error for a failed attempt; `also` is appended to its message."""
    message = failure.message
    unreachable = failure.unreachable and failure.code == "UNAVAILABLE"
    if unreachable:
        message = f"cannot reach {endpoint.url}: {message}"
    elif failure.unreachable or failure.expired:
        message = f"deadline exceeded: no response from {endpoint.url}"
    error = error_for(
        failure.code,
        message + also,
        endpoint=endpoint.url,
        model=operation.target.model,
        signature=operation.signature,
        retry_after=failure.retry_after,
    )
    error.unreachable = unreachable
    error.untrusted = failure.untrusted
    error.attempts = 1
    error.request_id = failure.request_id
    if failure.untrusted:
        error.hint = "renew the server's certificate, or pass its CA as `tls=TLS(ca=...)`"
    elif failure.other_protocol:
        error.hint = _other_port(endpoint)
    return error


def _other_port(endpoint: Endpoint) -> str:
    """The hint where what answers speaks another protocol."""
    spoken, other, port = ("gRPC", "REST", 8501) if endpoint.grpc else ("REST", "gRPC", 8500)
    return (
        f"the server at {endpoint.url} answered, but not in {spoken}: "
        f"is this its {other} port (usually {port})?"
    )


def late_error(
    refused: tuple[Failure, Endpoint],
    endpoint: Endpoint,
    operation: Operation,
    left: float,
    *,
    mostly: bool,
) -> ServableError:
    """The error of a call that was refused, and whose last attempt then timed out.

    It is the refusal, unless the server was silent for most of the time of the call; the message
    names both. How a call fails must not depend on the milliseconds that its last wait leaves.
    """
    failure, refuser = refused
    silent = f"no response from {endpoint.url} in the remaining {left:.2g} s"
    if not mostly:
        return error_of(failure, refuser, operation, f"; then {silent}")
    error = error_of(failure, refuser, operation)
    late = error_for(
        "DEADLINE_EXCEEDED",
        f"{silent}; before that: {error}",
        endpoint=endpoint.url,
        model=operation.target.model,
    )
    late.request_id = failure.request_id
    return late


def deadline_exceeded(message: str, *, endpoint: str, model: str) -> DeadlineExceeded:
    """The error when waiting ends without success."""
    return DeadlineExceeded(message, endpoint=endpoint, model=model, code="DEADLINE_EXCEEDED")
