"""Two versions' answers to the same requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import fill_proto
from servable_serving.core.errors import FolderError, ModelError
from servable_serving.release.replay import kept_requests, replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


class Version:
    """Answers each request with the next of its answers; refuses it where that is None."""

    def __init__(self, *answers: Arrays | None) -> None:
        self._answers = list(answers)

    def ask(self, signature: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        assert signature == "serving_default"
        assert inputs["x"].shape == (2,)
        answer = self._answers.pop(0)
        if answer is None:
            raise ModelError("INVALID_ARGUMENT", "no")
        return dict(answer)


def request() -> wire.PredictRequest:
    found = wire.PredictRequest()
    fill_proto(found.inputs["x"], np.zeros(2, np.float32))
    return found


def classes(*labels: str, sure: float = 0.9) -> Arrays:
    probabilities = np.full([len(labels), 2], sure, np.float32)
    return {"probabilities": probabilities, "label": np.array([s.encode() for s in labels], object)}


def asked(one: Version, other: Version, count: int = 1) -> Any:
    return replay(one, other, [(f"f:{n}", request()) for n in range(count)])


def test_rows_are_compared_by_their_labels() -> None:
    found = asked(
        Version(classes("Coat", "Bag"), classes("Coat", "Coat")),
        Version(classes("Coat", "Bag", sure=0.6), classes("Shirt", "Coat", sure=0.6)),
        2,
    )
    assert (found.requests, found.rows, found.differ, found.failed) == (2, 4, 1, (0, 0))
    assert found.largest == pytest.approx(0.3)
    (example,) = found.examples
    assert (example.request, example.row) == ("f:1", 0)
    assert (example.one, example.other) == ("Coat 0.90", "Shirt 0.60")


def test_without_labels_by_all_outputs() -> None:
    one = {"y": np.array([1.0, 2.0], np.float32), "n": np.array([1, 2])}
    near = {"y": np.array([1.0002, 2.0], np.float32), "n": np.array([1, 2])}
    far = {"y": np.array([1.1, 2.0], np.float32), "n": np.array([1, 3])}
    assert asked(Version(one), Version(near)).differ == 0
    assert asked(Version(one), Version(far)).differ == 2


@pytest.mark.parametrize(
    ("first", "second", "rows"),
    [
        ({"y": np.zeros([2, 3])}, {"y": np.zeros([2, 4])}, 2),
        ({"y": np.float32(1)}, {"y": np.float32(2)}, 1),
        ({"y": np.array([np.nan])}, {"y": np.array([1.0])}, 1),
        ({"y": np.array([[b"a", b"b"]], object)}, {"y": np.array([[b"a", b"c"]], object)}, 1),
    ],
    ids=["another shape", "scalars", "nan", "text"],
)
def test_answers_of_any_shape(first: Arrays, second: Arrays, rows: int) -> None:
    found = asked(Version({k: np.asarray(v) for k, v in first.items()}),
                  Version({k: np.asarray(v) for k, v in second.items()}))  # fmt: skip
    assert (found.rows, found.differ) == (rows, rows)
    same = asked(Version(first), Version(first))
    assert same.differ == 0


def test_what_one_refuses_is_counted_and_not_compared() -> None:
    found = asked(Version(classes("Coat"), classes("Coat")), Version(None, classes("Coat")), 2)
    assert (found.rows, found.differ, found.failed) == (1, 0, (0, 1))
    assert found.milliseconds[0] is not None
    assert asked(Version(None), Version(None)).milliseconds == (None, None)


def lines(path: Path) -> Iterator[bytes]:
    for line in path.read_text().split():
        if line == "broken":
            raise ModelError("DATA_LOSS", "corrupted record at 12")
        yield bytes.fromhex(line)


def logged(*, predict: bool = True) -> str:
    log = wire.PredictionLog()
    if predict:
        log.predict_log.request.CopyFrom(request())
    else:
        log.classify_log.SetInParent()
    return log.SerializeToString().hex()


def test_the_requests_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "1-a.tfrecord").write_text(f"{logged()} {logged(predict=False)}")
    (tmp_path / "m" / "2-b.tfrecord").write_text(logged())
    (tmp_path / "m" / ".incoming-2-c.tfrecord").write_text("broken")
    names = [name for name, _ in kept_requests(tmp_path, lines)]
    assert sorted(names) == ["1-a.tfrecord:0", "2-b.tfrecord:0"]
    assert len(kept_requests(tmp_path / "m" / "1-a.tfrecord", lines)) == 1


def test_what_a_killed_server_wrote_counts(tmp_path: Path) -> None:
    (tmp_path / "1-a.tfrecord").write_text(f"{logged()} {logged()} broken")
    assert len(kept_requests(tmp_path, lines)) == 2


def test_what_is_no_file_of_requests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="no Predict requests"):
        kept_requests(tmp_path, lines)
    for text in ("broken", "ffff"):
        (tmp_path / "x.tfrecord").write_text(text)
        with pytest.raises(FolderError, match=r"x\.tfrecord is not a file of kept requests"):
            kept_requests(tmp_path, lines)
