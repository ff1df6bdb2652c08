"""The gate of the accuracy: a candidate against the served version on the same pictures.

Both answer every held-out picture, so what counts is where they differ: of `b` pictures the served
version alone is right, of `c` the candidate alone. The accuracies are (c - b) / n apart, and the
interval is that of Agresti and Min for matched proportions, which adds half a picture to each of
the four cells (Statistics in Medicine 24, 2005, 729-740, https://doi.org/10.1002/sim.1781). The
probability that chance alone makes such a difference is McNemar's, the exact one (1947).
"""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_serving.core.names import DEFAULT_SIGNATURE
from servable_serving.core.statistics import Z, binomial_tail, wilson_interval
from servable_serving.gates.verdict import Refused, Verdict
from servable_serving.model.saved_model import SavedModel
from servable_serving.repository.manifest import check_candidate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from servable_serving.gates.holdout import Holdout

_BATCH = 500


def compare_accuracy(
    candidate: Path, served: Path | None, holdout: Holdout | None, tolerance: float
) -> Verdict:
    """Hold a candidate's answers against the truth and the served version's.

    Args:
        candidate: A folder as `export` writes it.
        served: Another; or None, and then the candidate's accuracy is told and no more.
        holdout: The pictures; or None, and then there is nothing to say.
        tolerance: How far its accuracy may lie below, 0 to 1.

    Raises:
        Refused: It lies lower.
        ModelError: One of the two cannot be run.
    """
    if holdout is None:
        return Verdict(
            outcome="skipped",
            said="skipped: this model has no held-out set; name one with --holdout FILE.npz",
        )
    _, right = classes(candidate, holdout)
    count, hits = len(right), int(right.sum())
    low, high = wilson_interval(hits, count)
    figures: dict[str, Any] = {
        "holdout": holdout.source, "count": count,
        "accuracy": hits / count, "interval": [low, high],
    }  # fmt: skip
    said = (
        f"{hits / count:.4f} of {count:,} held-out pictures (95 % interval {low:.4f} to {high:.4f})"
    )
    if served is None:
        return Verdict(said=f"{said}; nothing is served to hold it against", figures=figures)
    _, before = classes(served, holdout)
    lost, won = int((before & ~right).sum()), int((right & ~before).sum())
    difference, before_accuracy, p = (won - lost) / count, float(before.mean()), mcnemar(lost, won)
    low, high = paired_interval(lost, won, count)
    figures |= {
        "served_accuracy": before_accuracy, "difference": difference,
        "difference_interval": [low, high], "served_alone_right": lost,
        "candidate_alone_right": won, "p": p, "tolerance": tolerance,
    }  # fmt: skip
    said += (
        f", the served version {before_accuracy:.4f}: a difference of {difference:+.4f} "
        f"(paired, {low:+.4f} to {high:+.4f}; McNemar p {p:.2g})"
    )
    if hits < int(before.sum()) - tolerance * count:
        raise Refused(
            f"{said}, and at most {tolerance:g} less is tolerated",
            hint="train it longer, or skip the gate 'accuracy' with a reason",
            figures=figures,
        )
    return Verdict(said=said, figures=figures)


def classes(folder: Path, holdout: Holdout) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """What a version takes each picture for, and whether that is right.

    By the classes' names, bytes [N], since versions may number them differently; by their numbers,
    int64 [N], where the held-out set has no names.

    Raises:
        Refused: The pictures are of another size, or of classes that it does not know.
        ModelError: It cannot be run.
    """
    output, truth = "class_id", holdout.targets
    if holdout.labels:
        names = np.array([label.encode() for label in holdout.labels], object)
        output, truth = "label", names[holdout.targets]
    with closing(SavedModel(folder)) as model:
        _check(folder, model, holdout)
        batches = (holdout.images[i : i + _BATCH] for i in range(0, len(holdout.images), _BATCH))
        given = np.concatenate(
            [model.run(DEFAULT_SIGNATURE, {"image": batch}, [output])[output] for batch in batches]
        )
    return given, np.asarray(given == truth)


def _check(folder: Path, model: SavedModel, holdout: Holdout) -> None:
    """Refuse pictures that are of another size, or of classes that a version does not know."""
    image = model.signatures[DEFAULT_SIGNATURE].inputs["image"]
    taken = [dim.size for dim in image.tensor_shape.dim][1:]
    if taken != list(holdout.images.shape[1:]):
        raise Refused(
            f"{holdout.source} has pictures of {list(holdout.images.shape[1:])}, and {folder} "
            f"takes {taken}",
            hint="hold it against pictures of its own size, with --holdout FILE.npz",
        )
    if not holdout.labels:
        return
    missing = sorted(set(holdout.labels) - set(check_candidate(folder)["labels"]))
    if missing:
        raise Refused(
            f"{holdout.source} has classes that {folder} does not know: {', '.join(missing)}",
            hint="hold it against pictures of its own classes, with --holdout FILE.npz",
        )


def paired_interval(lost: int, won: int, count: int) -> tuple[float, float]:
    """Where the true difference of two accuracies on the same pictures lies, 95 % (Agresti, Min).

    Args:
        lost: Pictures that the first alone names rightly.
        won: Pictures that the second alone does.
        count: All pictures.
    """
    b, c, n = lost + 0.5, won + 0.5, count + 2
    middle = (c - b) / n
    half = Z * math.sqrt((b + c) - (c - b) ** 2 / n) / n
    return max(middle - half, -1.0), min(middle + half, 1.0)


def mcnemar(lost: int, won: int) -> float:
    """How likely chance makes the two differ at least so much: two-sided, exact."""
    return min(2 * binomial_tail(max(lost, won), lost + won, 0.5), 1.0)
