"""A client of TensorFlow Serving that does not depend on TensorFlow.

Example:
    >>> from servable_client import Client
    >>> with Client(server, model="fashion_mnist") as client:
    ...     print(client.classify("boot.png"))
    Ankle boot (99.6%)
"""

from typing import TYPE_CHECKING

from servable_client._lazy import lazily

if TYPE_CHECKING:
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
    from servable_client.engine.retry import Retry
    from servable_client.engine.split import Split
    from servable_client.engine.telemetry import RequestEvent, ResponseEvent
    from servable_client.net.security import TLS
    from servable_client.types.answers import (
        Classification,
        ClassScores,
        Prediction,
        Score,
        Signature,
        TensorSpec,
        VersionStatus,
    )
    from servable_client.types.examples import Example, serialize_example
    from servable_client.types.images import Picture

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
    "serialize_example",
]

# Type checkers would take any name for one that `__getattr__` knows.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "AccessDenied": "_errors",
            "AsyncClient": "_async_client",
            "ClassScores": "types.answers",
            "Classification": "types.answers",
            "Client": "_client",
            "ConnectionFailed": "_errors",
            "DeadlineExceeded": "_errors",
            "Example": "types.examples",
            "InvalidInput": "_errors",
            "ModelNotFound": "_errors",
            "NotReady": "_errors",
            "Picture": "types.images",
            "Prediction": "types.answers",
            "RequestEvent": "engine.telemetry",
            "ResponseEvent": "engine.telemetry",
            "Retry": "engine.retry",
            "Score": "types.answers",
            "ServableError": "_errors",
            "ServerBusy": "_errors",
            "ServerFailed": "_errors",
            "Signature": "types.answers",
            "Split": "engine.split",
            "TLS": "net.security",
            "TensorSpec": "types.answers",
            "VersionStatus": "types.answers",
            "serialize_example": "types.examples",
        },
    )
