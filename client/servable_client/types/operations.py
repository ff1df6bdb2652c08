"""What a client asks, whichever protocol carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from servable_client._errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from servable_client._wire import wire_pb2 as wire
    from servable_client.types.answers import Signature
    from servable_client.types.examples import Example

_MAX_NAME = 1000


class Target(NamedTuple):
    """Which model is meant: the highest available version unless one is pinned."""

    model: str
    version: int | None = None
    label: str | None = None

    def check(self) -> None:
        """Refuse what no server can have.

        Raises:
            InvalidInput: A name or number makes no sense.
        """
        if self.version is not None and self.label is not None:
            raise InvalidInput("version and label are mutually exclusive")
        if self.version is not None and not (0 < self.version < 1 << 63):
            raise InvalidInput(
                f"invalid version {self.version!r}", hint="version numbers start at 1"
            )
        for name, what in ((self.model, "model"), (self.label, "label")):
            if name is not None and not (name and name.isprintable() and len(name) <= _MAX_NAME):
                raise InvalidInput(f"invalid {what} name {name!r:.40}")


@dataclass(slots=True, kw_only=True)
class PredictOperation:
    """Run a signature. `known` is what the metadata say of it, where they were read."""

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
    """Which signatures are there."""

    target: Target
    signature = ""
    service = "tensorflow.serving.PredictionService"
    method = "GetModelMetadata"


@dataclass(slots=True, kw_only=True)
class StatusOperation:
    """Which versions are there."""

    target: Target
    signature = ""
    service = "tensorflow.serving.ModelService"
    method = "GetModelStatus"


@dataclass(slots=True, kw_only=True)
class ReloadOperation:
    """Serve other models, versions or labels."""

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
    """What a version of a model can be asked; equal to itself alone."""

    version: int | None
    signatures: Mapping[str, Signature]


class Failure(Exception):
    """An attempt that failed, in a protocol's terms.

    Attributes:
        code: The canonical status code, by name.
        message: What the server or the network said.
        retry_after: Seconds after which the server wants to be asked again.
        http_status: HTTP's status, where it was HTTP that answered.
        unreachable: Whether no server answered: it is down, or too slow.
        expired: Whether the deadline of the call passed on this side, before any answer.
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
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.http_status = http_status
        self.unreachable = unreachable
        self.expired = expired

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later, or on another endpoint."""
        if self.code == "RESOURCE_EXHAUSTED":
            return self.retry_after is not None
        return self.code == "UNAVAILABLE" or self.http_status in (502, 503, 504)

    @property
    def timed_out(self) -> bool:
        """Whether nobody said anything before the time was up."""
        return self.code == "DEADLINE_EXCEEDED" and self.http_status is None


class UnexpectedResponse(Exception):
    """The answer has another form than TensorFlow Serving's."""
