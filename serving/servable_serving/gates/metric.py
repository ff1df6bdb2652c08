"""Gate `accuracy` for models of any kind: a metric of the answers to held-out rows.

The served version answers the same rows, and the difference of the two values is judged; an error
such as `rmse` by its relative increase.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client import ServableError
from servable_client._extras import how_to_install
from servable_client.codec.as_dtype import as_declared
from servable_client.types.answers import Signature, TensorSpec
from servable_serving.core.arrays import read_arrays
from servable_serving.core.names import DEFAULT_SIGNATURE
from servable_serving.gates.holdout import HoldoutError
from servable_serving.gates.verdict import Refused, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from servable_serving.gates.inspected_version import AnyModel

SCORES, ERRORS = ("accuracy", "macro_f1", "auc"), ("mae", "rmse")
METRICS = (*SCORES, *ERRORS)

_BATCH = 500
_TARGETS = "targets"
_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Held-out rows with what should be answered.

    Attributes:
        source: Where they come from, for messages.
        inputs: Arrays [N, ...] by the name of the input.
        targets: Class numbers or values, [N, ...].
    """

    source: str
    inputs: Mapping[str, NDArray[Any]] = field(repr=False)
    targets: NDArray[Any] = field(repr=False)


def read_rows(file: Path) -> Rows:
    """Read an .npz file with `targets` and an array for each input.

    Raises:
        HoldoutError: It is not such a file.
    """
    hint = "np.savez(FILE, targets=..., NAME=...), with an array for each input of the model"
    try:
        arrays = read_arrays(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a valid .npz file"
        raise HoldoutError(f"cannot read {file}: {reason}", hint=hint) from error
    if _TARGETS not in arrays:
        raise HoldoutError(f"{file} has no array {_TARGETS!r}", hint=hint)
    targets = arrays.pop(_TARGETS)
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    count = len(targets) if targets.ndim else 0
    if not count or not arrays or set(lengths.values()) != {count}:
        raise HoldoutError(
            f"{file} has {count} targets, and arrays of "
            f"{', '.join(f'{length} for {name}' for name, length in lengths.items()) or 'no input'}"
            ": there must be as many rows of each",
            hint=hint,
        )
    return Rows(source=str(file), inputs=arrays, targets=targets)


def check_metric(metric: str) -> tuple[str, str | None]:
    """The name of a metric and of the output that it is of, from NAME or NAME:OUTPUT.

    Raises:
        HoldoutError: The metric is unknown.
    """
    name, _, output = metric.partition(":")
    if name not in METRICS:
        raise HoldoutError(
            f"{name!r} is not a valid metric", hint=f"the metrics are {', '.join(METRICS)}"
        )
    return name, output or None


def compare_metric(
    candidate: AnyModel,
    served: AnyModel | None,
    contract: Mapping[str, Any],
    rows: Rows,
    metric: str,
    tolerance: float,
) -> Verdict:
    """Compare a metric of a candidate's answers with that of the served version's.

    Args:
        candidate: The candidate.
        served: The served version; None to report the candidate's value only.
        contract: The candidate's signatures, as `contract_of` gives them.
        rows: The held-out rows.
        metric: One of `METRICS`, possibly followed by ":" and the name of an output.
        tolerance: The maximum drop of a score, 0 to 1, or the maximum relative increase of an
            error.

    Raises:
        Refused: The value is worse than that, or the model does not take the rows.
        HoldoutError: The metric is unknown, or the targets do not fit it.
        ModelError: The candidate cannot be run.
    """
    name, output = check_metric(metric)
    value = _value(candidate, contract, rows, name, output)
    figures: dict[str, Any] = {
        "holdout": rows.source, "count": len(rows.targets), "metric": metric, "value": value,
    }  # fmt: skip
    said = f"{metric} {value:.5g} of {len(rows.targets):,} held-out rows"
    if served is None:
        return Verdict(said=f"{said}; no served version to compare with", figures=figures)
    try:
        before = _value(served, contract, rows, name, output)
    except ServableError as error:
        # Its failure says nothing about the candidate.
        return Verdict(
            said=f"{said}; the served version could not be measured: {error.message}",
            figures=figures,
        )
    figures |= {"served_value": before, "tolerance": tolerance}
    said += f", the served version {before:.5g}"
    worst = before * (1 + tolerance) if name in ERRORS else before - tolerance
    # Negated, so that NaN fails.
    if not (value <= worst if name in ERRORS else value >= worst):
        raise Refused(
            f"{said}; the {'maximum' if name in ERRORS else 'minimum'} is {worst:.5g}",
            hint="train it longer, or skip the gate 'accuracy' with a reason",
            figures=figures,
        )
    return Verdict(said=said, figures=figures)


def score(metric: str, answers: NDArray[Any], targets: NDArray[Any]) -> float:
    """The value of a metric.

    Args:
        metric: One of `METRICS`.
        answers: Probabilities or scores [N, C], [N, 1] or [N]; or classes [N].
        targets: Class numbers [N]; for errors values of the answers' shape.

    Raises:
        HoldoutError: Their shapes or dtypes do not fit.
    """
    if answers.ndim == targets.ndim + 1 and answers.shape[-1] == 1:
        answers = answers[..., 0]
    if targets.ndim == answers.ndim + 1 and targets.shape[-1] == 1:
        targets = targets[..., 0]
    if metric in ERRORS:
        if answers.shape != targets.shape or answers.dtype.kind not in "biuf":
            raise _unfit(metric, answers, targets)
        apart = answers.astype(np.float64) - targets
        return float(np.abs(apart).mean() if metric == "mae" else np.sqrt((apart**2).mean()))
    if targets.ndim != 1 or len(answers) != len(targets) or answers.ndim > 2:
        raise _unfit(metric, answers, targets)
    if metric == "auc":
        return _auc(answers, targets)
    classes = _classes(answers, targets)
    if metric == "accuracy":
        return float((classes == targets).mean())
    return float(_sklearn().f1_score(targets, classes, average="macro"))


def _classes(answers: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    if answers.ndim == 2:
        return np.asarray(answers.argmax(axis=1))
    if answers.dtype.kind == "f":
        return (answers > _THRESHOLD).astype(np.int64)
    if answers.dtype.kind == "O":
        return np.array([one.decode(errors="replace") for one in answers], targets.dtype.kind)
    return answers


def _auc(answers: NDArray[Any], targets: NDArray[Any]) -> float:
    if answers.dtype.kind != "f":
        raise _unfit("auc", answers, targets)
    if len(np.unique(targets)) < 2:
        raise HoldoutError("the auc of held-out rows of one class is not defined")
    if answers.ndim == 2 and answers.shape[1] == 2:
        answers = answers[:, 1]
    try:
        value = _sklearn().roc_auc_score(targets, answers, multi_class="ovr")
    except ValueError as error:
        raise HoldoutError(f"the auc of the held-out rows is not defined: {error}") from error
    return float(value)


def _sklearn() -> Any:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise HoldoutError(
            "this metric needs scikit-learn", hint=how_to_install("trainer")
        ) from error
    return metrics


def _unfit(metric: str, answers: NDArray[Any], targets: NDArray[Any]) -> HoldoutError:
    return HoldoutError(
        f"the metric {metric} is not defined for answers {answers.dtype} {list(answers.shape)} and "
        f"targets {targets.dtype} {list(targets.shape)}",
        hint="name another output with --metric NAME:OUTPUT, or other targets",
    )


def _value(
    version: AnyModel, contract: Mapping[str, Any], rows: Rows, metric: str, output: str | None
) -> float:
    signature = contract.get(DEFAULT_SIGNATURE)
    if signature is None:
        raise Refused(f"the model has no signature {DEFAULT_SIGNATURE} to measure")
    if set(rows.inputs) != set(signature["inputs"]):
        raise Refused(
            f"{rows.source} has arrays for {', '.join(sorted(rows.inputs))}, and the model takes "
            f"{', '.join(sorted(signature['inputs']))}",
            hint="name the arrays after the inputs",
        )
    names = sorted(signature["outputs"])
    if output is None and len(names) > 1:
        raise Refused(
            f"the model gives {', '.join(names)}", hint="name one with --metric NAME:OUTPUT"
        )
    if output is not None and output not in names:
        raise Refused(f"the model gives {', '.join(names)}, and not {output}")
    inputs = as_declared(dict(rows.inputs), _declared(signature))
    found = [
        version.ask(
            DEFAULT_SIGNATURE, {name: array[at : at + _BATCH] for name, array in inputs.items()}
        )[output or names[0]]
        for at in range(0, len(rows.targets), _BATCH)
    ]
    return score(metric, np.concatenate(found), rows.targets)


def _declared(signature: Mapping[str, Any]) -> Signature:
    return Signature(
        inputs={
            name: TensorSpec(dtype=info["dtype"], shape=None)
            for name, info in signature["inputs"].items()
        },
        outputs={},
        method="",
    )
