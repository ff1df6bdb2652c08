"""A client of TensorFlow Serving that brings no TensorFlow.

    from servable_client import Client

    with Client("grpc://localhost:8500", model="fashion_mnist") as client:
        print(client.classify("boot.png"))
"""

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
