"""What a server answers, as values."""

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

    # An array, or what makes it when it is first asked for.
    Output: TypeAlias = NDArray[Any] | Callable[[], NDArray[Any]]

# How many classes a notebook shows.
_SHOWN = 5


class Score(NamedTuple):
    """A class and how likely it is.

    Attributes:
        label: The class's name; its number as text where the model gives no names.
        score: How likely, 0 to 1 for a probability.
        class_id: Its number, None where only names are known.

    Example:
        >>> client.classify("boot.png").top(1)[0].label
        'Ankle boot'
    """

    label: str
    score: float
    class_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What a model takes a picture for.

    The names of all classes come from the model's own `classify` signature, which the client
    asks once for each version; a model that has none names only the likeliest class of each
    answer, and `top` gives the numbers of the others for names.

    Attributes:
        label: The name of the likeliest class.
        class_id: Its number.
        probability: How likely, 0 to 1.
        probabilities: Every class's, float32 [C], in the order of the class numbers.
        version: The version that answered.
        elapsed: Seconds from call to answer, retries included; for a picture of a batch, the
            batch's.
        labels: The name of each class, in the order of the class numbers.

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
        """The `k` likeliest classes, best first; all of them where there are fewer.

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
    """A model's outputs; also a mapping of them.

    Attributes:
        outputs: Arrays by name; strings are arrays of bytes with dtype object. Some are
            read-only, since they share the answer's memory.
        version: The version that answered.

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
    """The Classify API's answer: for each example its classes, in the model's order.

    Attributes:
        results: One list for each example.
        version: The version that answered.

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
    """How a version of a model is.

    Attributes:
        version: Its number.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error_code: The canonical status code by name, OK where nothing failed.
        error_message: Why it failed, or nothing.

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
    """What a signature asks for or gives.

    Attributes:
        dtype: The DataType by name, `DT_FLOAT` for example.
        shape: Sizes, -1 for any; None where the rank is not known.

    Example:
        >>> client.metadata()["serving_default"].inputs["image"]
        TensorSpec(dtype='DT_UINT8', shape=(-1, 28, 28))
    """

    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A way to call a model.

    Attributes:
        inputs: What it asks for, by name.
        outputs: What it gives, by name.
        method: TensorFlow Serving's name for its kind, `tensorflow/serving/predict` mostly.

    Example:
        >>> client.metadata()["classify"].method
        'tensorflow/serving/classify'
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    method: str
