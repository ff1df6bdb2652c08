"""The results of a server, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    # An array, or a function that creates it on first access.
    Output: TypeAlias = NDArray[Any] | Callable[[], NDArray[Any]]

# How many classes a notebook shows.
_SHOWN = 5


class Score(NamedTuple):
    """A class and its score.

    Attributes:
        label: The class name; the class number as text if the model has no names.
        score: The score; 0 to 1 for a probability.
        class_id: The class number, or None if only names are known.

    Example:
        >>> client.classify("boot.png").top(1)[0].label
        'Ankle boot'
    """

    label: str
    score: float
    class_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Classification:
    """The classification of an image.

    The names of all classes come from the `classify` signature of the model, which the client
    reads once per version. A model without it names only the likeliest class, and `top` uses
    class numbers as the names of the others.

    Attributes:
        label: The name of the likeliest class.
        class_id: The number of the likeliest class.
        probability: The probability of the likeliest class, 0 to 1.
        probabilities: The probabilities of all classes, float32 [C], by class number.
        version: The model version that was used.
        elapsed: The duration of the call in seconds, retries included; for an image of a
            batch, that of the batch.
        labels: The names of all classes, by class number.

    Example:
        >>> boot = client.classify("boot.png")
        >>> print(boot)
        Ankle boot (99.6%)
        >>> [score.label for score in boot.top(3)]
        ['Ankle boot', 'Shirt', 'Sandal']
    """

    label: str
    class_id: int
    probability: float
    probabilities: NDArray[np.float32] = field(repr=False, compare=False)
    version: int | None
    elapsed: float = field(compare=False)
    labels: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def top(self, k: int = 5) -> list[Score]:
        """The `k` likeliest classes, best first; fewer if the model has fewer.

        Example:
            >>> client.classify("boot.png").top(1)[0].class_id
            9
        """
        order = (-self.probabilities).argsort(kind="stable")[: max(k, 0)].tolist()
        return [Score(self._name(i), float(self.probabilities[i]), i) for i in order]

    def _name(self, class_id: int) -> str:
        if class_id == self.class_id:
            return self.label
        return self.labels[class_id] if class_id < len(self.labels) else str(class_id)

    def __str__(self) -> str:
        return f"{self.label} ({self.probability:.1%})"

    def _repr_html_(self) -> str:
        """A small table with bars, for notebooks."""
        rows = "".join(
            f"<tr><td style='text-align:left'>{escape(score.label)}</td>"
            f"<td style='text-align:left'><div style='background:#4c78a8;height:.8em;"
            f"width:{100 * min(max(score.score, 0), 1):.1f}px'></div></td>"
            f"<td>{score.score:.1%}</td></tr>"
            for score in self.top(_SHOWN)
        )
        version = "" if self.version is None else f", version {self.version}"
        caption = f"{escape(self.label)}{version}, {self.elapsed * 1000:.1f} ms"
        return f"<table><caption>{caption}</caption>{rows}</table>"


class Prediction(Mapping[str, "NDArray[Any]"]):
    """The outputs of a model; also a mapping of them.

    Attributes:
        outputs: Arrays by name; strings are arrays of bytes with dtype object. Some are
            read-only, since they share the memory of the response.
        version: The model version that was used.

    Example:
        >>> answer = client.predict({"image": images})
        >>> answer["probabilities"].shape, answer.version
        ((3, 10), 1)
    """

    __slots__ = ("_held", "version")

    def __init__(self, *, outputs: Mapping[str, Output], version: int | None) -> None:
        self._held = outputs if isinstance(outputs, dict) else dict(outputs)
        self.version = version

    @property
    def outputs(self) -> dict[str, NDArray[Any]]:
        """All outputs, by name."""
        return {name: self[name] for name in self._held}

    def __getitem__(self, name: str) -> NDArray[Any]:
        held = self._held[name]
        if callable(held):
            held = self._held[name] = held()
        return held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return f"Prediction(outputs={self.outputs!r}, version={self.version!r})"


@dataclass(frozen=True, kw_only=True)
class ClassScores(Sequence["list[Score]"]):
    """The result of the Classify API: for each example its classes, in the order of the model.

    Attributes:
        results: One list per example.
        version: The model version that was used.

    Example:
        >>> answer = client.classify_examples([{"image/encoded": png}])
        >>> answer[0][0].label, answer.version
        ('Ankle boot', 1)
    """

    results: list[list[Score]]
    version: int | None

    @overload
    def __getitem__(self, index: int) -> list[Score]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Score]]: ...
    def __getitem__(self, index: int | slice) -> list[Score] | list[list[Score]]:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """The status of a model version.

    Attributes:
        version: The version number.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error_code: The canonical status code by name, OK if nothing failed.
        error_message: The error message, or an empty string.

    Example:
        >>> client.status()
        [VersionStatus(version=1, state='AVAILABLE', error_code='OK', error_message='')]
    """

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """The dtype and shape of an input or output.

    Attributes:
        dtype: The DataType by name, `DT_FLOAT` for example.
        shape: The sizes, -1 for any; None if the rank is unknown.

    Example:
        >>> client.metadata()["serving_default"].inputs["image"]
        TensorSpec(dtype='DT_UINT8', shape=(-1, 28, 28))
    """

    dtype: str
    shape: tuple[int, ...] | None

    @property
    def plain_dtype(self) -> str:
        """The dtype by its name in NumPy and TensorFlow, `float32` for example."""
        name = self.dtype.removeprefix("DT_").lower()
        return {"float": "float32", "double": "float64", "half": "float16"}.get(name, name)

    @property
    def plain_shape(self) -> str:
        """The shape as text, with N for a first size that may be any, ? for others."""
        if self.shape is None:
            return "any shape"
        sizes = ["?" if size < 0 else str(size) for size in self.shape]
        if self.shape[:1] == (-1,):
            sizes[0] = "N"
        return f"[{', '.join(sizes)}]"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A signature of a model.

    Attributes:
        inputs: The inputs, by name.
        outputs: The outputs, by name.
        method: The method name, usually `tensorflow/serving/predict`.

    Example:
        >>> client.metadata()["classify"].method
        'tensorflow/serving/classify'
        >>> print(client.signature())
        input   image          uint8    [N, 28, 28]
        output  class_id       int64    [N]
        output  label          string   [N]
        output  probabilities  float32  [N, 10]
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    method: str

    def _rows(self) -> list[tuple[str, str, str, str]]:
        """Each tensor: whether it is an input, its name, dtype and shape."""
        return [
            (what, name, spec.plain_dtype, spec.plain_shape)
            for what, specs in (("input", self.inputs), ("output", self.outputs))
            for name, spec in sorted(specs.items())
        ]

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        return "\n".join(
            "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]])
            for row in rows
        )

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        head = "".join(f"<th>{title}</th>" for title in ("", "name", "dtype", "shape"))
        return f"<table><tr>{head}</tr>{rows}</table>"
