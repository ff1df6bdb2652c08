"""The model interface of the APIs and the version manager; `LoadedModel` implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from servable_client._wire import wire_pb2 as wire


class Model(Protocol):
    """A version in memory; safe to run from several threads."""

    warmup_records: int

    @property
    def number(self) -> int:
        """The version."""

    @property
    def signatures(self) -> Mapping[str, wire.SignatureDef]:
        """The signatures, by name."""

    def run(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] = (),
        *,
        api: str = "Predict",
        deadline: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a signature; see `LoadedModel.run`."""

    def run_tensors(
        self,
        feeds: Mapping[str, NDArray[Any]],
        fetches: Sequence[str],
        *,
        api: str,
        deadline: float | None = None,
    ) -> list[NDArray[Any]]:
        """Run the graph by the names of its tensors."""

    def close(self) -> None:
        """Release the memory; it cannot be run any more."""


class Load(Protocol):
    """Loads a version: its model's name, its number and its folder; raises ModelError."""

    def __call__(self, name: str, number: int, folder: Path, /) -> Model:
        """The version, ready to answer requests."""
