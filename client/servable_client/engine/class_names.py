"""The names of all classes of a model; Predict returns that of the likeliest only."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from servable_client.types.examples import serialize_example
from servable_client.types.images import ENCODED
from servable_client.types.operations import Description, PredictOperation, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASSIFY = "classify"
_FEATURE = "image/encoded"
_PROBES = 8
_SIDE = 32

# Scores with a smaller relative difference are treated as equal.
_TOLERANCE = 1e-3


def can_be_read(description: Description) -> bool:
    """Whether a model has the two signatures from which the names can be read."""
    classify = description.signatures.get(CLASSIFY)
    encoded = description.signatures.get(ENCODED)
    return (
        classify is not None
        and encoded is not None
        and [spec.dtype for spec in classify.inputs.values()] == ["DT_STRING"]
        and [spec.dtype for spec in encoded.inputs.values()] == ["DT_STRING"]
        and {"classes", "scores"} <= set(classify.outputs)
        and "probabilities" in encoded.outputs
    )


def operations(
    description: Description, target: Target
) -> tuple[PredictOperation, PredictOperation]:
    """The same images for `classify`, which returns names, and for class numbers."""
    named, numbered = (description.signatures[name] for name in (CLASSIFY, ENCODED))
    images = _probes()
    return (
        PredictOperation(
            target=target,
            signature=CLASSIFY,
            inputs={
                next(iter(named.inputs)): np.array(
                    [serialize_example({_FEATURE: image}) for image in images], object
                )
            },
            outputs=("classes", "scores"),
            known=named,
        ),
        PredictOperation(
            target=target,
            signature=ENCODED,
            inputs={next(iter(numbered.inputs)): np.array(images, object)},
            known=numbered,
        ),
    )


@cache
def _probes() -> list[bytes]:
    """Random grey blots: no class is certain, so the scores of the classes differ."""
    random = np.random.default_rng(0)
    images = []
    for _ in range(_PROBES):
        blots = Image.fromarray(random.integers(0, 256, [4, 4], np.uint8))
        buffer = io.BytesIO()
        blots.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR).save(buffer, "PNG")
        images.append(buffer.getvalue())
    return images


def match(
    classes: NDArray[Any], scores: NDArray[Any], probabilities: NDArray[Any]
) -> list[str | None]:
    """Match names to class numbers; None where the scores are ambiguous.

    Args:
        classes: Names, string [N, C], best first.
        scores: Their scores, float [N, C].
        probabilities: The same scores in the order of the class numbers, float [N, C].
    """
    if not classes.shape == scores.shape == probabilities.shape or classes.ndim != 2:
        return []
    found: list[set[str]] = [set() for _ in range(probabilities.shape[1])]
    for names, sorted_scores, row in zip(classes, scores, probabilities, strict=True):
        order = np.argsort(-row, kind="stable")
        ranked = row[order].astype(np.float64)
        if not np.allclose(ranked, sorted_scores, rtol=_TOLERANCE, atol=1e-7):
            continue
        apart = ranked[:-1] > ranked[1:] * (1 + 4 * _TOLERANCE)
        alone = np.append(True, apart) & np.append(apart, True)
        for rank in np.flatnonzero(alone):
            found[order[rank]].add(names[rank].decode(errors="replace"))
    return [names.pop() if len(names) == 1 else None for names in found]
