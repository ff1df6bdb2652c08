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

# How many classes, or values of an output, are shown, and how much of each text.
_SHOWN = 5
_SHOWN_CHARACTERS = 24


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
        >>> print(client.predict({"image": images}, output_filter=["class_id", "label"]))
        class_id  int64   [3]  9, 2, 1
        label     string  [3]  Ankle boot, Pullover, Trouser
    """

    __slots__ = ("_held", "version")

    def __init__(self, *, outputs: Mapping[str, Output], version: int | None) -> None:
        self._held = outputs if isinstance(outputs, dict) else dict(outputs)
        self.version: int | None = version

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

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        # Functions that create outputs are neither pickled nor shared with a copy.
        return None, {"_held": self.outputs, "version": self.version}

    def _rows(self) -> list[tuple[str, str, str, str]]:
        """Each output: its name, dtype, shape and first values."""
        return [
            (name, _dtype(array), str(list(array.shape)), _first_values(array))
            for name, array in ((name, self[name]) for name in sorted(self))
        ]

    def __repr__(self) -> str:
        outputs = ", ".join(f"{name!r}: {dtype} {shape}" for name, dtype, shape, _ in self._rows())
        return f"Prediction({{{outputs}}}, version={self.version!r})"

    def __str__(self) -> str:
        return _aligned(self._rows())

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        caption = "" if self.version is None else f"version {self.version}"
        return _table(("name", "dtype", "shape", "values"), self._rows(), caption)


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

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        return VersionStatuses([self])._repr_html_()


class VersionStatuses(list[VersionStatus]):
    """A list that notebooks show as one table."""

    def _repr_html_(self) -> str:
        rows = [(str(v.version), v.state, v.error_code, v.error_message) for v in self]
        return _table(("version", "state", "error code", "error message"), rows)


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
        return _aligned(self._rows())

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        return _table(("", "name", "dtype", "shape"), self._rows())


class Signatures(dict[str, Signature]):
    """A dict that notebooks show as one table."""

    def _repr_html_(self) -> str:
        rows = [
            (name, *row)
            for name, signature in self.items()
            for row in signature._rows()  # noqa: SLF001
        ]
        return _table(("signature", "", "name", "dtype", "shape"), rows)


def _dtype(array: NDArray[Any]) -> str:
    """The dtype of an array by its name in TensorFlow."""
    if array.dtype.names:  # a quantized integer
        return array.dtype.names[0]
    return "string" if array.dtype.hasobject else array.dtype.name


def _first_values(array: NDArray[Any]) -> str:
    """The first values of an array as text; the others are not touched."""
    shown = [_short(value) for value in array.flat[:_SHOWN].tolist()]
    return ", ".join([*shown, "..."] if array.size > _SHOWN else shown)


def _short(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 1:  # a quantized integer
        value = value[0]
    if isinstance(value, bytes):
        text = value[: _SHOWN_CHARACTERS + 1].decode(errors="backslashreplace")
    else:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of cells as text, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table in HTML."""

    def line(cells: Sequence[str], kind: str) -> str:
        return "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells)

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    caption = caption and f"<caption>{escape(caption)}</caption>"
    return f"<table>{caption}<tr>{line(head, 'th')}</tr>{body}</table>"
