"""A client of TensorFlow Serving that brings no TensorFlow.

Example:
    with Client("grpc://localhost:8500", model="fashion_mnist") as client:
        print(client.classify("boot.png"))
"""

from typing import TYPE_CHECKING

from servable_client._lazy import lazily

if TYPE_CHECKING:
    from servable_client._answers import (
        Classification,
        Prediction,
        Signature,
        TensorSpec,
        VersionStatus,
    )
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
    from servable_client._pictures import Picture

__all__ = [
    "AccessDenied",
    "Classification",
    "Client",
    "ConnectionFailed",
    "DeadlineExceeded",
    "InvalidInput",
    "ModelNotFound",
    "NotReady",
    "Picture",
    "Prediction",
    "ServableError",
    "ServerBusy",
    "ServerFailed",
    "Signature",
    "TensorSpec",
    "VersionStatus",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AccessDenied": "_errors",
        "Classification": "_answers",
        "Client": "_client",
        "ConnectionFailed": "_errors",
        "DeadlineExceeded": "_errors",
        "InvalidInput": "_errors",
        "ModelNotFound": "_errors",
        "NotReady": "_errors",
        "Picture": "_pictures",
        "Prediction": "_answers",
        "ServableError": "_errors",
        "ServerBusy": "_errors",
        "ServerFailed": "_errors",
        "Signature": "_answers",
        "TensorSpec": "_answers",
        "VersionStatus": "_answers",
    },
)
