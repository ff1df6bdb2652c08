"""The operations of TensorFlow Serving, independent of the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from servable_client._errors import InvalidInput
from servable_client.types.arguments import as_integer, check_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from servable_client._wire import wire_pb2 as wire
    from servable_client.types.answers import Signature
    from servable_client.types.examples import Example

_LAST_VERSION = (1 << 63) - 1


class Target(NamedTuple):
    """A model: its highest available version unless a version or label is given."""

    model: str
    version: int | None = None
    label: str | None = None

    def checked(self) -> Target:
        """The same with the version as an int, if the names and the version are valid.

        Raises:
            InvalidInput: One is invalid.
        """
        if self.version is not None and self.label is not None:
            raise InvalidInput("version and label are mutually exclusive")
        check_name("model", self.model)
        if self.label is not None:
            check_name("label", self.label)
        if self.version is None:
            return self
        version = as_integer("version", self.version, lowest=0, highest=_LAST_VERSION)
        return self._replace(version=version)


@dataclass(slots=True, kw_only=True)
class PredictOperation:
    """Run a signature. `known` is its description, if the metadata was read."""

    target: Target
    signature: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: Sequence[str] = ()
    known: Signature | None = None
    service = "tensorflow.serving.PredictionService"
    method = "Predict"


@dataclass(slots=True, kw_only=True)
class ClassifyOperation:
    """Run a signature of the Classify API."""

    target: Target
    signature: str
    examples: Sequence[Example]
    context: Example | None = None
    service = "tensorflow.serving.PredictionService"
    method = "Classify"


@dataclass(slots=True, kw_only=True)
class MetadataOperation:
    """Read the signatures of a model."""

    target: Target
    signature = ""
    service = "tensorflow.serving.PredictionService"
    method = "GetModelMetadata"


@dataclass(slots=True, kw_only=True)
class StatusOperation:
    """Read the states of the versions of a model."""

    target: Target
    signature = ""
    service = "tensorflow.serving.ModelService"
    method = "GetModelStatus"


@dataclass(slots=True, kw_only=True)
class ReloadOperation:
    """Replace the model configuration."""

    target: Target
    config: wire.ModelServerConfig
    signature = ""
    service = "tensorflow.serving.ModelService"
    method = "HandleReloadConfigRequest"


Operation: TypeAlias = (
    PredictOperation | ClassifyOperation | MetadataOperation | StatusOperation | ReloadOperation
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """The signatures of a version of a model; compared by identity."""

    version: int | None
    signatures: Mapping[str, Signature]


# The default limit of gRPC's implementations for a received message; few servers have a lower one.
_ACCEPTED_BYTES = 4 << 20


class Failure(Exception):
    """A failed attempt, in the terms of the protocol.

    Attributes:
        code: The canonical status code, by name.
        message: The message of the server or of the network.
        retry_after: Seconds after which the server accepts a retry.
        http_status: The HTTP status, if the response came over HTTP.
        unreachable: Whether no server responded: it is down, or too slow.
        expired: Whether the deadline passed on this side, before a response.
        untrusted: Whether the certificate of the server is not valid: it has expired, is signed by
            an unknown CA, or is for another name.
        other_protocol: Whether what answered does not speak the protocol: gRPC at a REST port, or
            the other way round.
        refuses_retry: Whether the server asked not to send the request again.
        request_id: The `x-request-id` of the response, or None.
        request_size: The size of the request's message, in bytes.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        http_status: int | None = None,
        unreachable: bool = False,
        expired: bool = False,
        untrusted: bool = False,
        other_protocol: bool = False,
        refuses_retry: bool = False,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.http_status = http_status
        self.unreachable = unreachable
        self.expired = expired
        self.untrusted = untrusted
        self.other_protocol = other_protocol
        self.refuses_retry = refuses_retry
        self.request_id = request_id
        self.request_size = 0

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later, or on another endpoint."""
        if self.refuses_retry:
            return False
        if self.code == "RESOURCE_EXHAUSTED":
            if self.retry_after is not None:
                return True
            # Of gRPC: a server without a free thread refuses a call before it begins. A message
            # that is larger than a server accepts has the same code.
            return self.http_status is None and self.request_size <= _ACCEPTED_BYTES
        # A server that stops cancels calls; a call that its caller cancels raises no Failure.
        return self.code in ("UNAVAILABLE", "CANCELLED") or self.http_status in (502, 503, 504)

    @property
    def timed_out(self) -> bool:
        """Whether nothing responded before the deadline."""
        return self.code == "DEADLINE_EXCEEDED" and self.http_status is None


class UnexpectedResponse(Exception):
    """The response is not one of TensorFlow Serving."""
