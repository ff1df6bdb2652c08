"""What a user's function may return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable_serving.core.errors import UserCodeError
from servable_trainer.data.dataset import DatasetError
from servable_trainer.data.own_data import OwnData, as_own_data, own_data

if TYPE_CHECKING:
    from pathlib import Path

X = np.arange(20, dtype=np.float32).reshape([10, 2])
Y = np.arange(10) % 2


class Batches:
    """What yields batches, as a tf.data.Dataset does."""

    def __iter__(self) -> Any:
        yield X, Y


def rows(data: OwnData, **options: Any) -> tuple[list[float], list[float]]:
    fit, keep = data.split(**options)
    return fit.x[:, 0].tolist(), keep.x[:, 0].tolist()


def test_a_share_is_kept_for_validation() -> None:
    fit, keep = rows(as_own_data((X, Y), "m:f"), seed=0, validation=0.3)
    assert (len(fit), len(keep)) == (7, 3)
    assert sorted(fit + keep) == X[:, 0].tolist()
    assert (fit, keep) == rows(as_own_data((X, Y), "m:f"), seed=0, validation=0.3)
    assert (fit, keep) != rows(as_own_data((X, Y), "m:f"), seed=1, validation=0.3)


def test_the_targets_stay_with_their_examples() -> None:
    fit, keep = as_own_data((X, X[:, 0] * 3, X[:, 1]), "m:f").split(seed=0)
    for part in (fit, keep):
        np.testing.assert_array_equal(part.y, part.x[:, 0] * 3)
        np.testing.assert_array_equal(part.weights, part.x[:, 1])
        assert len(part.as_tuple) == 3


def test_a_validation_part_that_is_given_is_used_whole() -> None:
    data = as_own_data(((X, Y), (X[:2], Y[:2])), "m:f")
    fit, keep = rows(data, seed=0)
    assert keep == X[:2, 0].tolist()
    assert fit != X[:, 0].tolist()
    assert sorted(fit) == X[:, 0].tolist()


@pytest.mark.parametrize("inputs", [{"a": X, "b": Y}, [X, Y]])
def test_several_inputs(inputs: Any) -> None:
    data = as_own_data((inputs, {"y": Y}), "m:f")
    fit, _ = data.split(seed=0)
    a, b = fit.x.values() if isinstance(fit.x, dict) else fit.x
    np.testing.assert_array_equal(a[:, 0] / 2 % 2, b)
    np.testing.assert_array_equal(b, fit.y["y"])
    assert len(fit.first(3)) == 3


def test_lists_of_numbers_are_arrays() -> None:
    data = as_own_data(([[1, 2], [3, 4]], [0, 1]), "m:f")
    assert data.train.x.shape == (2, 2)


def test_what_yields_batches_stays_whole() -> None:
    batches, other = Batches(), Batches()
    data = as_own_data((batches, other), "m:f")
    fit, keep = data.split(seed=0)
    assert (fit.first(1).x, keep.x) == (batches, other)
    assert data.checksums == {}
    with pytest.raises(DatasetError, match="without one to validate on"):
        as_own_data(batches, "m:f").split(seed=0)


def test_the_checksum_is_of_the_contents() -> None:
    one, other = X.copy(), X.copy()
    other[3, 0] += 1
    names = np.array(["a", "bc"] * 5, object)
    checksums = [
        as_own_data((x, Y), "m:f").checksums["train"] for x in (one, X, other, names, names[::-1])
    ]
    assert checksums[0] == checksums[1]
    assert len(set(checksums)) == 4


def test_a_function_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rows_of_mine.py").write_text(
        "def load():\n    return [[1.0], [2.0]], [0, 1]\n\n"
        "def broken():\n    return 1 / 0\n\nnumber = 3\n"
    )
    assert own_data("rows_of_mine:load").train.x.tolist() == [[1.0], [2.0]]
    with pytest.raises(UserCodeError, match=r"ZeroDivisionError: .* \(rows_of_mine.py, line 5\)"):
        own_data("rows_of_mine:broken")
    for place in ("rows_of_mine", "rows_of_mine:nowhere", "rows_of_mine:number", "nowhere:load"):
        with pytest.raises(UserCodeError):
            own_data(place)
