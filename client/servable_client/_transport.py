"""What a transport does, whichever protocol it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from servable_client._answers import Prediction, Signature, VersionStatus


@dataclass(frozen=True, kw_only=True)
class Target:
    """Which model is meant: the highest available version unless one is pinned."""

    model: str
    version: int | None = None
    label: str | None = None


class Transport(Protocol):
    """Carries questions to one server and raises `ServableError` where it cannot.

    `timeout` is in seconds throughout. Over gRPC it bounds the whole call, over REST the
    connecting and each wait for the next bytes.
    """

    endpoint: str

    def predict(
        self, target: Target, signature: str, inputs: Mapping[str, NDArray[Any]], timeout: float
    ) -> Prediction:
        """Run a signature."""

    def status(self, target: Target, timeout: float) -> list[VersionStatus]:
        """The versions that the server knows, highest first."""

    def metadata(self, target: Target, timeout: float) -> dict[str, Signature]:
        """The signatures of a model, by name."""

    def close(self) -> None:
        """Hang up."""
