"""A version as the gates see it: hashed, parsed and loaded once, by the first gate that needs it.

No gate loads the model into this process before `operations` and `trial` have passed: to read a
graph is harmless, to run one is not.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self

from servable_serving.core.errors import ModelError
from servable_serving.core.files import folder_size
from servable_serving.core.names import DEFAULT_SIGNATURE
from servable_serving.repository.candidate import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class Model(Protocol):
    """A model that is loaded in this process."""

    @property
    def signatures(self) -> Mapping[str, Any]:
        """Its signatures by name."""

    def run(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a signature."""

    def close(self) -> None:
        """Free the memory."""


class Classifier(Protocol):
    """What the gates that run a version need of it."""

    @property
    def folder(self) -> Path:
        """Its folder."""

    @property
    def labels(self) -> Sequence[str]:
        """The names of its classes."""

    @property
    def image_shape(self) -> list[int]:
        """The shape of one image that it takes."""

    def run(self, images: NDArray[Any], output: str | None = None) -> NDArray[Any]:
        """Its answers to images: one output, or any."""


class AnyModel(Protocol):
    """What the gates that ask any signature of a version need of it."""

    def ask(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Its answers."""


class InspectedVersion:
    """A candidate or the served version, for all gates; to be used as a context manager.

    Args:
        version: The folder, or a candidate that has been read already.
        load: Loads the model; TensorFlow unless given.
    """

    def __init__(
        self, version: Path | Candidate, *, load: Callable[[Path, Any], Model] | None = None
    ) -> None:
        self.files = version if isinstance(version, Candidate) else Candidate(version)
        self.folder = self.files.folder
        self._load = load or _load

    @property
    def labels(self) -> list[str]:
        """The names of its classes."""
        return self.files.labels

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return folder_size(self.folder)

    @cached_property
    def meta_graph(self) -> Any:
        """The MetaGraphDef that is served.

        Raises:
            ModelError: There is no SavedModel, or it is damaged.
        """
        from servable_serving.model.saved_model import read_meta_graph

        return read_meta_graph(self.folder)

    @cached_property
    def contract(self) -> dict[str, Any]:
        """Its signatures, as `contract_of` gives them.

        Raises:
            ModelError: There is no SavedModel, or it is damaged.
        """
        from servable_serving.model.contract import contract_of

        return contract_of(self.meta_graph)

    @property
    def image_shape(self) -> list[int]:
        """The shape of one image that it takes."""
        image = self._model.signatures[DEFAULT_SIGNATURE].inputs["image"]
        return [dim.size for dim in image.tensor_shape.dim][1:]

    def run(self, images: NDArray[Any], output: str | None = None) -> NDArray[Any]:
        """Its answers to images: one output, or any.

        Raises:
            ModelError: It cannot be loaded or run.
        """
        outputs = None if output is None else [output]
        answers = self._model.run(DEFAULT_SIGNATURE, {"image": images}, outputs)
        return answers[output] if output is not None else next(iter(answers.values()))

    def ask(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Its answers to any signature.

        Raises:
            ModelError: It cannot be loaded or run, or has no such signature.
        """
        if signature not in self._model.signatures:
            raise ModelError("NOT_FOUND", f"{self.folder} has no signature {signature}")
        return self._model.run(signature, inputs)

    @cached_property
    def _model(self) -> Model:
        return self._load(self.folder, self.meta_graph)

    def close(self) -> None:
        """Free the memory of the model, if it was loaded."""
        if (model := self.__dict__.pop("_model", None)) is not None:
            model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _load(folder: Path, meta_graph: Any) -> Model:
    from servable_serving.model.saved_model import SavedModel

    return SavedModel(folder, meta_graph=meta_graph)
