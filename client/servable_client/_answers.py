"""What a server answers, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What a model takes a picture for.

    Attributes:
        label: The name of the likeliest class.
        class_id: Its number.
        probability: How likely, 0 to 1.
        probabilities: Every class's, float32 [C], in the order of the class numbers.
        version: The version that answered; None where the server did not say (TensorFlow
            Serving names it over gRPC, not over REST).
        elapsed: Seconds from call to answer.
    """

    label: str
    class_id: int
    probability: float
    probabilities: NDArray[np.float32] = field(repr=False)
    version: int | None
    elapsed: float = field(compare=False)

    def __str__(self) -> str:
        return f"{self.label} ({self.probability:.1%})"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A model's outputs.

    Attributes:
        outputs: Arrays by name; strings are arrays of bytes with dtype object.
        version: The version that answered; None where the server did not say.
    """

    outputs: dict[str, NDArray[Any]]
    version: int | None


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """How a version of a model is.

    Attributes:
        version: Its number.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error_code: The canonical status code by name, OK where nothing failed.
        error_message: Why it failed, or nothing.
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
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    method: str


# What TensorFlow 2 writes beside a model's own signatures; servers show it, and none can call it.
INIT_SIGNATURE = "__saved_model_init_op"

# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
STATUS_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
