"""A client of TensorFlow Serving that brings no TensorFlow.

Example:
    >>> from servable_client import Client
    >>> with Client(server, model="fashion_mnist") as client:
    ...     print(client.classify("boot.png"))
    Ankle boot (99.6%)
"""

from typing import TYPE_CHECKING

from servable_client._lazy import lazily

if TYPE_CHECKING:
    from servable_client._answers import (
        Classification,
        ClassScores,
        Prediction,
        Score,
        Signature,
        TensorSpec,
        VersionStatus,
    )
    from servable_client._async_client import AsyncClient
    from servable_client._client import Client
    from servable_client._errors import (
        AccessDenied,
        ConnectionFailed,
        DeadlineExceeded,
        InvalidInput,
        ModelNotFound,
        NotReady,
        ServableError,
        ServerBusy,
        ServerFailed,
    )
    from servable_client._examples import Example
    from servable_client._pictures import Picture
    from servable_client._retry import Retry
    from servable_client._security import TLS
    from servable_client._split import Split
    from servable_client._telemetry import RequestEvent, ResponseEvent

__all__ = [
    "TLS",
    "AccessDenied",
    "AsyncClient",
    "ClassScores",
    "Classification",
    "Client",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Example",
    "InvalidInput",
    "ModelNotFound",
    "NotReady",
    "Picture",
    "Prediction",
    "RequestEvent",
    "ResponseEvent",
    "Retry",
    "Score",
    "ServableError",
    "ServerBusy",
    "ServerFailed",
    "Signature",
    "Split",
    "TensorSpec",
    "VersionStatus",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AccessDenied": "_errors",
        "AsyncClient": "_async_client",
        "ClassScores": "_answers",
        "Classification": "_answers",
        "Client": "_client",
        "ConnectionFailed": "_errors",
        "DeadlineExceeded": "_errors",
        "Example": "_examples",
        "InvalidInput": "_errors",
        "ModelNotFound": "_errors",
        "NotReady": "_errors",
        "Picture": "_pictures",
        "Prediction": "_answers",
        "RequestEvent": "_telemetry",
        "ResponseEvent": "_telemetry",
        "Retry": "_retry",
        "Score": "_answers",
        "ServableError": "_errors",
        "ServerBusy": "_errors",
        "ServerFailed": "_errors",
        "Signature": "_answers",
        "Split": "_split",
        "TLS": "_security",
        "TensorSpec": "_answers",
        "VersionStatus": "_answers",
    },
)
