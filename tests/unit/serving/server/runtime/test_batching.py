"""Batches across requests: what shares a run, and what each request gets of it."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
from google.protobuf import text_format

from servable_serving.core.errors import ModelError
from servable_serving.server.proto import config_pb2
from servable_serving.server.runtime.batching import Batcher, Batching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Answer = Future[dict[str, NDArray[Any]]]

# A guard against a hang, and not a promise.
HANG = 60.0
LONG_AGO, SOON, LATER = 0.0, 1e9, 2e9  # by time.monotonic


class Runtime:
    """Doubles `x`, refuses what holds -1, and can be kept busy; what it ran is in `batches`."""

    def __init__(self, settings: Batching) -> None:
        self._queued = threading.Semaphore(0)
        self.batcher = Batcher(settings, queued=self._queued.release)
        self.batches: list[NDArray[Any]] = []
        self.deadlines: list[float | None] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._begun = threading.Semaphore(0)
        self._free = threading.Event()
        self._free.set()
        self._callers = ThreadPoolExecutor(32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._free.set()
        self._callers.shutdown()

    def run(
        self, inputs: Mapping[str, NDArray[Any]], deadline: float | None
    ) -> dict[str, NDArray[Any]]:
        with self._lock:
            self.batches.append(inputs["x"])
            self.deadlines.append(deadline)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        self._begun.release()
        try:
            assert self._free.wait(HANG)
            if (inputs["x"] == -1).any():
                raise ModelError("INVALID_ARGUMENT", "-1 is not liked here")
            return {"y": inputs["x"] * 2}
        finally:
            with self._lock:
                self._at_once -= 1

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [batch.shape for batch in self.batches]

    def ask(self, x: object, *, key: str = "k", deadline: float | None = None) -> Answer:
        return self._callers.submit(
            self.batcher.run, key, {"x": np.asarray(x)}, self.run, deadline=deadline
        )

    def occupy(self) -> Answer:
        """Keep the runtime busy until `release`."""
        self._free.clear()
        while self._begun.acquire(blocking=False):
            pass
        first = self.ask([0])
        self.wait_begun()
        return first

    def wait_begun(self, count: int = 1) -> None:
        """Wait until so many more runs have begun."""
        for _ in range(count):
            assert self._begun.acquire(timeout=HANG)

    def wait_queued(self, count: int = 1) -> None:
        """Wait until so many more requests wait for their run."""
        for _ in range(count):
            assert self._queued.acquire(timeout=HANG)

    def queue(self, *questions: object, **kwargs: Any) -> list[Answer]:
        """Ask one after the other, each when the one before it waits."""
        answers = []
        for x in questions:
            answers.append(self.ask(x, **kwargs))
            self.wait_queued()
        return answers

    @property
    def has_queued(self) -> bool:
        return self._queued.acquire(blocking=False)

    def release(self) -> None:
        self._free.set()


def settings(**kwargs: Any) -> Batching:
    return Batching(**{"threads": 1, "strict": False, **kwargs})


def test_what_waits_while_the_runtime_is_busy_goes_together() -> None:
    with Runtime(settings()) as runtime:
        first = runtime.occupy()
        answers = runtime.queue([1, 2], [3], [4, 5, 6])
        other = runtime.queue([7], key="another signature")[0]
        runtime.release()
        assert first.result(HANG)["y"].tolist() == [0]
        assert [a.result(HANG)["y"].tolist() for a in answers] == [[2, 4], [6], [8, 10, 12]]
        assert other.result(HANG)["y"].tolist() == [14]
        assert [batch.tolist() for batch in runtime.batches] == [[0], [1, 2, 3, 4, 5, 6], [7]]


def test_a_lone_request_does_not_wait() -> None:
    with Runtime(settings()) as runtime:
        for number in range(3):
            answer = runtime.batcher.run("k", {"x": np.asarray([number])}, runtime.run)
            assert answer["y"] == [2 * number]
        assert runtime.shapes == [(1,)] * 3
        assert not runtime.has_queued


@pytest.mark.parametrize("threads", [1, 3])
def test_there_are_no_more_runs_at_once_than_threads(threads: int) -> None:
    with Runtime(settings(threads=threads, max_batch_size=2)) as runtime:
        runtime.occupy()
        answers = [runtime.ask([number, number]) for number in range(20)]
        runtime.wait_begun(threads - 1)
        runtime.wait_queued(21 - threads)
        runtime.release()
        for number, answer in enumerate(answers):
            assert answer.result(HANG)["y"].tolist() == [2 * number] * 2
        assert runtime.most_at_once == threads


def test_the_fault_of_one_is_not_that_of_the_others() -> None:
    with Runtime(settings()) as runtime:
        runtime.occupy()
        answers = runtime.queue([1], [-1], [2])
        runtime.release()
        assert answers[0].result(HANG)["y"].tolist() == [2]
        assert answers[2].result(HANG)["y"].tolist() == [4]
        with pytest.raises(ModelError, match="-1 is not liked") as caught:
            answers[1].result(HANG)
        assert caught.value.code == "INVALID_ARGUMENT"
        # And the next ones are none the wiser.
        assert runtime.ask([3]).result(HANG)["y"].tolist() == [6]


def test_who_waits_beyond_its_deadline_is_told_so_and_is_not_run() -> None:
    with Runtime(settings()) as runtime:
        first = runtime.occupy()
        late = runtime.ask([1], deadline=LONG_AGO)
        with pytest.raises(ModelError) as caught:
            late.result(HANG)
        assert caught.value.code == "DEADLINE_EXCEEDED"
        in_time = runtime.queue([2], deadline=SOON)[0]
        runtime.release()
        assert first.result(HANG)["y"].tolist() == [0]
        assert in_time.result(HANG)["y"].tolist() == [4]
        assert [batch.tolist() for batch in runtime.batches] == [[0], [2]]


def test_a_batch_has_the_time_of_its_most_patient_request() -> None:
    with Runtime(settings()) as runtime:
        for deadlines, expected in (((SOON, LATER, SOON), LATER), ((SOON, None), None)):
            runtime.occupy()
            answers = [runtime.queue([1], deadline=deadline)[0] for deadline in deadlines]
            runtime.release()
            assert [a.result(HANG)["y"].tolist() for a in answers] == [[2]] * len(deadlines)
            assert runtime.deadlines[-1] == expected


def test_a_batch_is_filled_up_to_an_allowed_size() -> None:
    with Runtime(settings(max_batch_size=8, allowed_sizes=(2, 4, 8), strict=True)) as runtime:
        runtime.occupy()
        answers = runtime.queue([1], [2], [3])
        runtime.release()
        assert [a.result(HANG)["y"].tolist() for a in answers] == [[2], [4], [6]]
        assert runtime.shapes == [(2,), (4,)]
        assert runtime.ask([4, 5, 6, 7, 8]).result(HANG)["y"].tolist() == [8, 10, 12, 14, 16]
        assert runtime.shapes[-1] == (8,)


def test_batches_hold_no_more_rows_than_the_largest() -> None:
    with Runtime(settings(max_batch_size=4)) as runtime:
        runtime.occupy()
        answers = runtime.queue([1, 1, 1], [2, 2], [3], [4, 4])
        runtime.release()
        assert [a.result(HANG)["y"][0] for a in answers] == [2, 4, 6, 8]
        # A small one may overtake where it still has a place; nothing is cut.
        assert [batch.tolist() for batch in runtime.batches[1:]] == [[1, 1, 1, 3], [2, 2, 4, 4]]


def test_a_large_request_is_split() -> None:
    split = settings(max_batch_size=10, max_execution_batch_size=4, strict=True)
    with Runtime(split) as runtime:
        x = np.arange(10)
        assert runtime.ask(x).result(HANG)["y"].tolist() == (2 * x).tolist()
        assert runtime.shapes == [(4,), (4,), (2,)]
        with pytest.raises(ModelError, match="Task size 11 is larger than maximum"):
            runtime.ask(np.arange(11)).result(HANG)


def test_rows_of_different_lengths_are_padded_where_that_is_wanted() -> None:
    short, long = [[1, 2]], [[3, 4, 5]]
    with Runtime(settings(pad_variable_length_inputs=True)) as runtime:
        runtime.occupy()
        answers = runtime.queue(short, long)
        runtime.release()
        assert [a.result(HANG)["y"].tolist() for a in answers] == [[[2, 4, 0]], [[6, 8, 10]]]
        assert runtime.batches[1].tolist() == [[1, 2, 0], [3, 4, 5]]
    with Runtime(settings()) as runtime:
        runtime.occupy()
        answers = runtime.queue(short, long)
        runtime.release()
        assert [a.result(HANG)["y"].tolist() for a in answers] == [[[2, 4]], [[6, 8, 10]]]
        assert runtime.shapes[1:] == [(1, 2), (1, 3)]


def test_dtypes_do_not_mix() -> None:
    with Runtime(settings()) as runtime:
        runtime.occupy()
        answers = runtime.queue(np.asarray([1.5]), np.asarray([2]))
        runtime.release()
        assert [a.result(HANG)["y"].dtype.kind for a in answers] == ["f", "i"]
        assert len(runtime.batches) == 3


def test_a_batch_that_is_full_does_not_wait_for_its_time() -> None:
    # Were the third request not to start the run, nobody would for an hour.
    with Runtime(settings(timeout=3600, max_batch_size=3)) as runtime:
        answers = [runtime.ask([number]) for number in (1, 2, 3)]
        assert [a.result(HANG)["y"].tolist() for a in answers] == [[2], [4], [6]]
        assert runtime.shapes == [(3,)]


def test_a_batch_that_is_not_full_runs_when_its_time_is_over() -> None:
    with Runtime(settings(timeout=0.001, max_batch_size=3)) as runtime:
        assert runtime.ask([1]).result(HANG)["y"].tolist() == [2]


def test_a_deadline_ends_its_own_request_alone() -> None:
    with Runtime(settings()) as runtime:
        runtime._free.clear()
        first = runtime.ask([0], deadline=SOON)
        runtime.wait_begun()
        rest = runtime.queue([1], [2])
        runtime.release()
        assert [a.result(HANG)["y"].tolist() for a in (first, *rest)] == [[0], [2], [4]]
        assert runtime.deadlines == [SOON, None]


@pytest.fixture
def broken() -> Iterator[Runtime]:
    """A runtime whose batches, but not its single requests, are interrupted."""
    with Runtime(settings()) as runtime:
        ask = runtime.run

        def run(inputs: Any, deadline: float | None) -> Any:
            if len(inputs["x"]) > 1:
                raise KeyboardInterrupt
            return ask(inputs, deadline)

        runtime.run = run  # type: ignore[method-assign]
        yield runtime


def test_a_batch_that_is_interrupted_wakes_everyone(broken: Runtime) -> None:
    first = broken.occupy()
    answers = broken.queue([1], [2], [3])
    broken.release()
    assert first.result(HANG)["y"].tolist() == [0]
    errors = [answer.exception(HANG) for answer in answers]
    assert isinstance(errors[0], KeyboardInterrupt)
    assert [error.code for error in errors[1:] if isinstance(error, ModelError)] == ["INTERNAL"] * 2


def test_strictly_what_cannot_be_batched_is_refused() -> None:
    with Runtime(settings(strict=True, max_batch_size=4)) as runtime:
        for x, words in ((1, "at least one dimension"), ([1] * 5, "Task size 5 is larger")):
            with pytest.raises(ModelError, match=words) as caught:
                runtime.ask(x).result(HANG)
            assert caught.value.code == "INVALID_ARGUMENT"
        uneven = {"x": np.zeros(2), "z": np.zeros(3)}
        with pytest.raises(ModelError, match="equal 0th-dimension size"):
            runtime.batcher.run("k", uneven, runtime.run)

        def ragged(_: object, __: object) -> dict[str, NDArray[Any]]:
            return {"y": np.zeros(7)}

        def flat(_: object, __: object) -> dict[str, NDArray[Any]]:
            return {"y": np.zeros(())}

        for run, words in ((ragged, "does not equal the sum"), (flat, "has 0 dimensions")):
            with pytest.raises(ModelError, match=words) as caught:
                runtime.batcher.run("k", {"x": np.zeros(2)}, run)
            assert caught.value.code == "FAILED_PRECONDITION"
        assert not runtime.batches


def test_otherwise_it_is_run_alone() -> None:
    with Runtime(settings(max_batch_size=4)) as runtime:
        for x in (1, [1] * 5):
            y = runtime.ask(x).result(HANG)["y"]
            assert y.tolist() == (np.asarray(x) * 2).tolist()
        assert runtime.shapes == [(), (5,)]


def test_a_full_queue_is_unavailable() -> None:
    full = settings(strict=True, max_batch_size=2, max_enqueued_batches=2)
    with Runtime(full) as runtime:
        runtime.occupy()
        answers = runtime.queue([1, 1], [2, 2])
        with pytest.raises(ModelError, match=r"queue .* is full") as caught:
            runtime.ask([3]).result(HANG)
        assert caught.value.code == "UNAVAILABLE"
        runtime.release()
        assert [a.result(HANG)["y"].tolist() for a in answers] == [[2, 2], [4, 4]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive"),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive"),
        ("batch_timeout_micros { value: -1 }", "must not be negative"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 2",
            "monotonically increasing",
        ),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "last entry was 4; expected 8"),
    ],
)
def test_parameters_that_are_not_valid(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        Batching.read(text_format.Parse(text, config_pb2.BatchingParameters()))
    assert caught.value.code == "INVALID_ARGUMENT"


def read(text: str) -> Batching:
    return Batching.read(text_format.Parse(text, config_pb2.BatchingParameters()))


def test_parameters_that_are_not_given_have_their_defaults() -> None:
    found = read("num_batch_threads { value: 2 }")
    assert found == Batching(threads=2)


def test_a_time_in_microseconds() -> None:
    assert read("batch_timeout_micros { value: 2000 }").timeout == 0.002


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("", None),
        ("enable_large_batch_splitting { value: true }", 1000),
        (
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 10 }",
            10,
        ),
        ("max_execution_batch_size { value: 10 }", None),
    ],
)
def test_when_large_requests_are_split(text: str, limit: int | None) -> None:
    assert read(text).max_execution_batch_size == limit


def test_the_last_allowed_size_is_that_of_a_run_where_requests_are_split() -> None:
    text = (
        "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 8 } "
        "allowed_batch_sizes: 4 allowed_batch_sizes: 8"
    )
    assert read(text).allowed_sizes == (4, 8)


def test_batchers_apart_do_not_share_their_places() -> None:
    with Runtime(settings()) as runtime:
        runtime.occupy()
        answer = runtime.batcher.apart().run(
            "k", {"x": np.asarray([1])}, lambda inputs, _: {"y": inputs["x"]}
        )
        assert answer["y"].tolist() == [1]


def test_rows_of_different_ranks_are_run_by_themselves() -> None:
    with Runtime(settings(pad_variable_length_inputs=True)) as runtime:
        runtime.occupy()
        answers = runtime.queue([[1]], [[[2]]])
        runtime.release()
        # Each is then run by itself.
        assert [a.result(HANG)["y"].tolist() for a in answers] == [[[2]], [[[4]]]]
