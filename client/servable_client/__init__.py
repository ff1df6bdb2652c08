"""A client of TensorFlow Serving that brings no TensorFlow.

Example:
    with Client("grpc://localhost:8500", model="fashion_mnist") as client:
        print(client.classify("boot.png"))
"""

from importlib import import_module
from typing import TYPE_CHECKING

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

# Where each name is, imported when it is first asked for (PEP 562): `servable --help` comes
# through here, and would else wait for NumPy and Pillow.
_PLACES = {
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
}

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


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
