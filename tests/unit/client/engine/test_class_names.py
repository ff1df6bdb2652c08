"""How the names of all classes are found."""

from __future__ import annotations

import numpy as np
import pytest

from servable_client.engine import class_names
from servable_client.types.answers import Signature, TensorSpec
from servable_client.types.operations import Description, Target


def signature(inputs: dict[str, str], *outputs: str) -> Signature:
    return Signature(
        inputs={name: TensorSpec(dtype=dtype, shape=(-1,)) for name, dtype in inputs.items()},
        outputs={name: TensorSpec(dtype="DT_FLOAT", shape=(-1,)) for name in outputs},
        method="tensorflow/serving/predict",
    )


CLASSIFY = signature({"examples": "DT_STRING"}, "classes", "scores")
FLOATS = signature({"x": "DT_FLOAT"}, "classes", "scores")
ENCODED = signature({"image_bytes": "DT_STRING"}, "probabilities")


@pytest.mark.parametrize(
    ("signatures", "possible"),
    [
        ({"classify": CLASSIFY, "serving_bytes": ENCODED}, True),
        ({"serving_bytes": ENCODED}, False),
        ({"classify": CLASSIFY}, False),
        (
            {
                "classify": signature({"x": "DT_FLOAT"}, "classes", "scores"),
                "serving_bytes": ENCODED,
            },
            False,
        ),
        ({"classify": signature({"x": "DT_STRING"}, "scores"), "serving_bytes": ENCODED}, False),
        ({"classify": CLASSIFY, "serving_bytes": signature({"x": "DT_STRING"}, "y")}, False),
        (
            {
                "classify": CLASSIFY,
                "serving_bytes": signature({"x": "DT_STRING", "y": "DT_STRING"}, "probabilities"),
            },
            False,
        ),
    ],
)
def test_which_models_tell_their_names(signatures: dict[str, Signature], possible: bool) -> None:
    description = Description(version=1, signatures=signatures)
    assert class_names.can_be_read(description) is possible


def test_both_operations_carry_the_same_images() -> None:
    description = Description(
        version=3, signatures={"classify": CLASSIFY, "serving_bytes": ENCODED}
    )
    target = Target(model="m", version=3)
    named, numbered = class_names.operations(description, target)
    (examples,), (images,) = named.inputs.values(), numbered.inputs.values()
    assert len(examples) == len(images) == 8
    assert all(image in example for image, example in zip(images, examples, strict=True))
    assert named.target == numbered.target == target


def match(
    classes: list[list[bytes]], scores: list[list[float]], probabilities: list[list[float]]
) -> list[str | None]:
    return class_names.match(
        np.array(classes, object),
        np.array(scores, np.float32),
        np.array(probabilities, np.float32),
    )


def test_names_are_matched_by_their_scores() -> None:
    assert match([[b"a", b"b", b"c"]], [[0.6, 0.3, 0.1]], [[0.1, 0.6, 0.3]]) == ["c", "a", "b"]


def test_scores_that_are_equal_tell_no_name() -> None:
    assert match([[b"a", b"b", b"c"]], [[0.6, 0.2, 0.2]], [[0.2, 0.6, 0.2]]) == [None, "a", None]


def test_a_second_image_tells_what_the_first_does_not() -> None:
    found = match(
        [[b"a", b"b", b"c"], [b"c", b"a", b"b"]],
        [[0.6, 0.2, 0.2], [0.7, 0.2, 0.1]],
        [[0.2, 0.6, 0.2], [0.7, 0.2, 0.1]],
    )
    assert found[0] == "c"


def test_images_that_contradict_each_other_tell_no_name() -> None:
    found = match([[b"a", b"b"], [b"b", b"a"]], [[0.7, 0.3]] * 2, [[0.7, 0.3]] * 2)
    assert found == [None, None]


def test_scores_of_another_call_are_left_out() -> None:
    assert match([[b"a", b"b"]], [[0.9, 0.1]], [[0.6, 0.4]]) == [None, None]


@pytest.mark.parametrize(
    ("classes", "scores", "probabilities"),
    [
        (np.zeros([1, 2]), np.zeros([1, 3]), np.zeros([1, 3])),
        (np.zeros([1, 3]), np.zeros([1, 3]), np.zeros([2, 3])),
        (np.zeros(3), np.zeros(3), np.zeros(3)),
    ],
)
def test_shapes_that_do_not_agree_tell_nothing(
    classes: np.ndarray, scores: np.ndarray, probabilities: np.ndarray
) -> None:
    assert class_names.match(classes, scores, probabilities) == []


def test_a_name_that_is_not_utf8_is_still_a_name() -> None:
    assert match([[b"\xff", b"b"]], [[0.9, 0.1]], [[0.9, 0.1]]) == ["�", "b"]
