"""The models of a server, and which version of which one a question means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable_serving._manager import ModelManager, not_found, unknown
from servable_serving._saved_model import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from servable_client import VersionStatus
    from servable_serving._saved_model import SavedModel


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Which model a question means."""

    name: str
    version: int | None = None
    label: str | None = None


class Models:
    """The models of a server, by name."""

    def __init__(self, managers: Sequence[ModelManager]) -> None:
        self._managers = {manager.name: manager for manager in managers}

    def __iter__(self) -> Iterator[ModelManager]:
        return iter(self._managers.values())

    def find(self, spec: Spec) -> AbstractContextManager[tuple[int, SavedModel]]:
        """The version that a question means, loaded while the block lasts.

        Raises:
            ModelError: There is none.
        """
        if not spec.name:
            raise ModelError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        if spec.label is not None:
            raise ModelError(
                "INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.label}"
            )
        if spec.name not in self._managers:
            raise not_found(spec.name, spec.version)
        return self._managers[spec.name].model(spec.version)

    def status(self, spec: Spec) -> list[VersionStatus]:
        """The versions of a model, highest first, or one of them; a label is passed over.

        Raises:
            ModelError: There is none.
        """
        if spec.name not in self._managers:
            raise unknown(spec.name, spec.version)
        return self._managers[spec.name].status(spec.version)
