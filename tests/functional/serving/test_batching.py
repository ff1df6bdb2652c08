"""Batches across requests: the batcher by itself, and a server with 16 callers."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tests.conftest import serving
from tests.functional.serving.calls import PREDICTION, call, config_of, eventually, post, slow

from servable_serving.core.errors import ModelError
from servable_serving.repository.manifest import MANIFEST
from servable_serving.server.proto import config_pb2
from servable_serving.server.runtime.batching import Batcher, Batching

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from tests.conftest import RunningServer

    Answer = Future[dict[str, NDArray[Any]]]


class Runtime:
    """Doubles `x`, refuses what holds -1, and can be kept busy; what it ran is in `batches`."""

    def __init__(self, settings: Batching) -> None:
        self.batcher = Batcher(settings)
        self.batches: list[NDArray[Any]] = []
        self.deadlines: list[float | None] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
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
        try:
            assert self._free.wait(60)
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
        begun = len(self.batches)
        first = self.ask([0])
        eventually(lambda: len(self.batches) > begun)
        return first

    def queue(self, *questions: object, **kwargs: Any) -> list[Answer]:
        """Ask one after the other, each when the one before it waits."""
        answers = []
        for x in questions:
            waiting = self.waiting
            answers.append(self.ask(x, **kwargs))
            eventually(lambda waiting=waiting: self.waiting > waiting)  # type: ignore[misc]
        return answers

    @property
    def waiting(self) -> int:
        return sum(len(queue.tasks) for queue in self.batcher._queues.values())

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
        assert first.result(10)["y"].tolist() == [0]
        assert [a.result(10)["y"].tolist() for a in answers] == [[2, 4], [6], [8, 10, 12]]
        assert other.result(10)["y"].tolist() == [14]
        assert [batch.tolist() for batch in runtime.batches] == [[0], [1, 2, 3, 4, 5, 6], [7]]
        assert not runtime.batcher._queues


def test_a_lone_request_does_not_wait() -> None:
    with Runtime(settings()) as runtime:
        began = time.monotonic()
        for number in range(100):
            answer = runtime.batcher.run("k", {"x": np.asarray([number])}, runtime.run)
            assert answer["y"] == [2 * number]
        assert time.monotonic() - began < 2
        assert len(runtime.batches) == 100


@pytest.mark.parametrize("threads", [1, 3])
def test_there_are_no_more_runs_at_once_than_threads(threads: int) -> None:
    with Runtime(settings(threads=threads, max_batch_size=2)) as runtime:
        runtime.occupy()
        answers = [runtime.ask([number, number]) for number in range(20)]
        eventually(lambda: len(runtime.batches) == threads and runtime.waiting == 21 - threads)
        runtime.release()
        for number, answer in enumerate(answers):
            assert answer.result(10)["y"].tolist() == [2 * number] * 2
        assert runtime.most_at_once == threads


def test_the_fault_of_one_is_not_that_of_the_others() -> None:
    with Runtime(settings()) as runtime:
        runtime.occupy()
        answers = runtime.queue([1], [-1], [2])
        runtime.release()
        assert answers[0].result(10)["y"].tolist() == [2]
        assert answers[2].result(10)["y"].tolist() == [4]
        with pytest.raises(ModelError, match="-1 is not liked") as caught:
            answers[1].result(10)
        assert caught.value.code == "INVALID_ARGUMENT"
        # And the next ones are none the wiser.
        assert runtime.ask([3]).result(10)["y"].tolist() == [6]


def test_who_waits_beyond_its_deadline_is_told_so_and_is_not_run() -> None:
    with Runtime(settings()) as runtime:
        first = runtime.occupy()
        late = runtime.ask([1], deadline=time.monotonic() + 0.05)
        with pytest.raises(ModelError) as caught:
            late.result(10)
        assert caught.value.code == "DEADLINE_EXCEEDED"
        in_time = runtime.queue([2], deadline=time.monotonic() + 60)[0]
        runtime.release()
        assert first.result(10)["y"].tolist() == [0]
        assert in_time.result(10)["y"].tolist() == [4]
        assert [batch.tolist() for batch in runtime.batches] == [[0], [2]]


def test_a_batch_has_the_time_of_its_most_patient_request() -> None:
    soon, late = time.monotonic() + 50, time.monotonic() + 100
    with Runtime(settings()) as runtime:
        for deadlines, expected in (((soon, late, soon), late), ((soon, None), None)):
            runtime.occupy()
            answers = [runtime.queue([1], deadline=deadline)[0] for deadline in deadlines]
            runtime.release()
            assert [a.result(10)["y"].tolist() for a in answers] == [[2]] * len(deadlines)
            assert runtime.deadlines[-1] == expected


def test_a_batch_is_filled_up_to_an_allowed_size() -> None:
    with Runtime(settings(max_batch_size=8, allowed_sizes=(2, 4, 8), strict=True)) as runtime:
        runtime.occupy()
        answers = runtime.queue([1], [2], [3])
        runtime.release()
        assert [a.result(10)["y"].tolist() for a in answers] == [[2], [4], [6]]
        assert runtime.shapes == [(2,), (4,)]
        assert runtime.ask([4, 5, 6, 7, 8]).result(10)["y"].tolist() == [8, 10, 12, 14, 16]
        assert runtime.shapes[-1] == (8,)


def test_batches_hold_no_more_rows_than_the_largest() -> None:
    with Runtime(settings(max_batch_size=4)) as runtime:
        runtime.occupy()
        answers = runtime.queue([1, 1, 1], [2, 2], [3], [4, 4])
        runtime.release()
        assert [a.result(10)["y"][0] for a in answers] == [2, 4, 6, 8]
        # A small one may overtake where it still has a place; nothing is cut.
        assert [batch.tolist() for batch in runtime.batches[1:]] == [[1, 1, 1, 3], [2, 2, 4, 4]]


def test_a_large_request_is_split() -> None:
    split = settings(max_batch_size=10, max_execution_batch_size=4, strict=True)
    with Runtime(split) as runtime:
        x = np.arange(10)
        assert runtime.ask(x).result(10)["y"].tolist() == (2 * x).tolist()
        assert runtime.shapes == [(4,), (4,), (2,)]
        with pytest.raises(ModelError, match="Task size 11 is larger than maximum"):
            runtime.ask(np.arange(11)).result(10)


def test_rows_of_different_lengths_are_padded_where_that_is_wanted() -> None:
    short, long = [[1, 2]], [[3, 4, 5]]
    with Runtime(settings(pad_variable_length_inputs=True)) as runtime:
        runtime.occupy()
        answers = runtime.queue(short, long)
        runtime.release()
        assert [a.result(10)["y"].tolist() for a in answers] == [[[2, 4, 0]], [[6, 8, 10]]]
        assert runtime.batches[1].tolist() == [[1, 2, 0], [3, 4, 5]]
    with Runtime(settings()) as runtime:
        runtime.occupy()
        answers = runtime.queue(short, long)
        runtime.release()
        assert [a.result(10)["y"].tolist() for a in answers] == [[[2, 4]], [[6, 8, 10]]]
        assert runtime.shapes[1:] == [(1, 2), (1, 3)]


def test_dtypes_do_not_mix() -> None:
    with Runtime(settings()) as runtime:
        runtime.occupy()
        answers = runtime.queue(np.asarray([1.5]), np.asarray([2]))
        runtime.release()
        assert [a.result(10)["y"].dtype.kind for a in answers] == ["f", "i"]
        assert len(runtime.batches) == 3


def test_the_first_waits_for_more_as_long_as_it_is_told() -> None:
    with Runtime(settings(timeout=30, max_batch_size=3)) as runtime:
        # The third fills the batch, and nobody waits for the half minute.
        began = time.monotonic()
        answers = [runtime.ask([number]) for number in (1, 2, 3)]
        assert [a.result(20)["y"].tolist() for a in answers] == [[2], [4], [6]]
        assert time.monotonic() - began < 15
        assert runtime.shapes == [(3,)]
    with Runtime(settings(timeout=0.2, max_batch_size=3)) as runtime:
        began = time.monotonic()
        assert runtime.ask([1]).result(20)["y"].tolist() == [2]
        assert time.monotonic() - began >= 0.2


def test_strictly_what_cannot_be_batched_is_refused() -> None:
    with Runtime(settings(strict=True, max_batch_size=4)) as runtime:
        for x, words in ((1, "at least one dimension"), ([1] * 5, "Task size 5 is larger")):
            with pytest.raises(ModelError, match=words) as caught:
                runtime.ask(x).result(10)
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
            y = runtime.ask(x).result(10)["y"]
            assert y.tolist() == (np.asarray(x) * 2).tolist()
        assert runtime.shapes == [(), (5,)]


def test_a_full_queue_is_unavailable() -> None:
    full = settings(strict=True, max_batch_size=2, max_enqueued_batches=2)
    with Runtime(full) as runtime:
        runtime.occupy()
        answers = runtime.queue([1, 1], [2, 2])
        with pytest.raises(ModelError, match=r"queue .* is full") as caught:
            runtime.ask([3]).result(10)
        assert caught.value.code == "UNAVAILABLE"
        runtime.release()
        assert [a.result(10)["y"].tolist() for a in answers] == [[2, 2], [4, 4]]


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
def test_parameters_that_make_no_sense(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        Batching.read(text_format.Parse(text, config_pb2.BatchingParameters()))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_sixteen_callers_share_runs_and_get_their_own_answers(
    slow_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "batching").write_text(
        "max_batch_size { value: 64 } batch_timeout_micros { value: 2000 } "
        "num_batch_threads { value: 1 } max_enqueued_batches { value: 100 }"
    )
    with serving(
        slow_model, tmp_path / "log",
        "--enable_batching", f"--batching_parameters_file={tmp_path / 'batching'}", model="slow",
    ) as server:  # fmt: skip
        assert runs_of(server, callers=1, each=20) == 20
        assert runs_of(server, callers=16, each=20) < 16 * 20 / 2


def test_without_the_flag_only_models_known_to_be_fit_for_it_share_runs(
    slow_model: Path, tmp_path: Path
) -> None:
    for name in ("slow", "known"):
        shutil.copytree(slow_model, tmp_path / name)
    # The mark of what Servable exported, whose rows are independent of each other.
    (tmp_path / "known/1/assets.extra").mkdir()
    (tmp_path / "known/1" / MANIFEST).write_text("{}")
    config = tmp_path / "models.config"
    config.write_text(config_of({"slow": tmp_path / "slow", "known": tmp_path / "known"}))
    with serving(None, tmp_path / "log", f"--model_config_file={config}", model="known") as server:
        assert runs_of(server, callers=16, each=10, model="known") < 16 * 10
        assert runs_of(server, callers=16, each=10) == 16 * 10


def runs_of(server: RunningServer, *, callers: int, each: int, model: str = "slow") -> int:
    """Ask, hold each answer against its question, and count the runs that it took."""

    def ask(caller: int) -> float:
        runs = 0.0
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            for number in range(each):
                # Two callers in three say what gRPC is for, and the third REST.
                mine = [5 + caller % 3, number % 3]
                if caller % 3:
                    answer = call(channel, f"{PREDICTION}Predict", slow(mine, model=model))
                    steps = tf.make_ndarray(answer.outputs["steps"]).tolist()
                    rows = tf.make_ndarray(answer.outputs["rows"]).tolist()
                else:
                    reply = post(server, {"inputs": mine}, f"{model}:predict")
                    steps, rows = (reply.json()["outputs"][key] for key in ("steps", "rows"))
                assert steps == mine
                assert rows[0] == rows[1] >= 2
                # Its own share of the run that it was part of.
                runs += 2 / rows[0]
        return runs

    with ThreadPoolExecutor(callers) as executor:
        return round(sum(executor.map(ask, range(callers))))
