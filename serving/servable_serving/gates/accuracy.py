"""Gate `accuracy`: a candidate against the served version on the same images.

Both classify every held-out image, so what counts is where they differ: of `b` images only the
served version is right, of `c` only the candidate. The accuracies are (c - b) / n apart, and the
interval is that of Agresti and Min for matched proportions, which adds half an image to each of the
four cells (Statistics in Medicine 24, 2005, 729-740, https://doi.org/10.1002/sim.1781). The
probability that chance alone makes such a difference is McNemar's, the exact one (1947).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client import ServableError
from servable_serving.core.statistics import Z, binomial_tail, wilson_interval
from servable_serving.gates.verdict import Refused, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable_serving.gates.holdout import Holdout
    from servable_serving.gates.inspected_version import Classifier

_BATCH = 500


def compare_accuracy(
    candidate: Classifier, served: Classifier | None, holdout: Holdout | None, tolerance: float
) -> Verdict:
    """Compare a candidate's answers with the true classes and with the served version's.

    Args:
        candidate: The candidate.
        served: The served version; None to report the candidate's accuracy only.
        holdout: The images; None if there are none, and then the gate is skipped.
        tolerance: The maximum drop in accuracy, 0 to 1.

    Raises:
        Refused: The accuracy is lower than that.
        ModelError: One of the two cannot be run.
    """
    if holdout is None:
        return Verdict(
            outcome="skipped",
            said="this model has no held-out set; name one with --holdout FILE.npz",
        )
    _, right = classes(candidate, holdout)
    if served is None:
        return judge(right, None, source=holdout.source, tolerance=tolerance)
    try:
        before = classes(served, holdout)[1]
    except ServableError as error:
        # Its failure says nothing about the candidate.
        alone = judge(right, None, source=holdout.source, tolerance=tolerance)
        said = alone.said.partition("; no served version")[0]
        return replace(
            alone, said=f"{said}; the served version could not be measured: {error.message}"
        )
    return judge(right, before, source=holdout.source, tolerance=tolerance)


def judge(
    right: NDArray[np.bool_], before: NDArray[np.bool_] | None, *, source: str, tolerance: float
) -> Verdict:
    """The verdict on which images a candidate and the served version classify correctly.

    Args:
        right: Whether the candidate is right, for each image.
        before: Whether the served version is; None if nothing is served.
        source: Where the images come from.
        tolerance: The maximum drop in accuracy, 0 to 1.

    Raises:
        Refused: The accuracy is lower than that.
    """
    count, hits = len(right), int(right.sum())
    low, high = wilson_interval(hits, count)
    figures: dict[str, Any] = {
        "holdout": source, "count": count, "accuracy": hits / count, "interval": [low, high],
    }  # fmt: skip
    said = (
        f"{hits / count:.4f} of {count:,} held-out images (95 % interval {low:.4f} to {high:.4f})"
    )
    if before is None:
        return Verdict(said=f"{said}; no served version to compare with", figures=figures)
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
            f"{said}; the maximum drop is {tolerance:g}",
            hint="train it longer, or skip the gate 'accuracy' with a reason",
            figures=figures,
        )
    return Verdict(said=said, figures=figures)


def classes(version: Classifier, holdout: Holdout) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The class that a version gives each image, and whether that is right.

    By the classes' names, bytes [N], since versions may number them differently; by their numbers,
    int64 [N], where the held-out set has no names.

    Raises:
        Refused: The images have another size, or classes that the version does not know.
        ModelError: It cannot be run.
    """
    output, truth = "class_id", holdout.targets
    if holdout.labels:
        names = np.array([label.encode() for label in holdout.labels], object)
        output, truth = "label", names[holdout.targets]
    _check(version, holdout)
    batches = (holdout.images[i : i + _BATCH] for i in range(0, len(holdout.images), _BATCH))
    given = np.concatenate([version.run(batch, output) for batch in batches])
    return given, np.asarray(given == truth)


def _check(version: Classifier, holdout: Holdout) -> None:
    expected = version.image_shape
    if expected != list(holdout.images.shape[1:]):
        raise Refused(
            f"{holdout.source} has images of {list(holdout.images.shape[1:])}, and "
            f"{version.folder} takes {expected}",
            hint="name images of the model's own size with --holdout FILE.npz",
        )
    if not holdout.labels:
        return
    missing = sorted(set(holdout.labels) - set(version.labels))
    if missing:
        raise Refused(
            f"{holdout.source} has classes that {version.folder} does not know: "
            f"{', '.join(missing)}",
            hint="name images of the model's own classes with --holdout FILE.npz",
        )


def paired_interval(lost: int, won: int, count: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two accuracies on the same images (Agresti, Min).

    Args:
        lost: Images that only the first classifies correctly.
        won: Images that only the second does.
        count: All images.
    """
    b, c, n = lost + 0.5, won + 0.5, count + 2
    middle = (c - b) / n
    half = Z * math.sqrt((b + c) - (c - b) ** 2 / n) / n
    return max(middle - half, -1.0), min(middle + half, 1.0)


def mcnemar(lost: int, won: int) -> float:
    """The probability that chance makes the two differ at least so much: two-sided, exact."""
    return min(2 * binomial_tail(max(lost, won), lost + won, 0.5), 1.0)
