"""Batching: requests that wait while the runtime is busy share the next run.

There is no collector thread. A request's own thread runs it, in one of three ways:

1. A run slot is free (fewer runs than `threads` in progress): the thread *leads*. It takes its
   request and those that wait for the same key and fit, merges them, runs them, splits the
   outputs, and wakes the others.
2. No slot is free: the request joins the queue of its key, and its thread sleeps on a lock of
   its own, until a leader has its outputs or makes it the next leader, or its deadline passes.
3. When a run ends, its leader hands the slot to the longest waiting request of any key.

So a single request is never delayed, and under load the batches grow by themselves. A run that
fails is repeated request by request, so that one bad request does not fail the others. With a
`timeout`, as TensorFlow Serving has it, the leader first waits for its batch to fill up.

The parameters are those of TensorFlow Serving's batching parameters file:
https://www.tensorflow.org/tfx/serving/serving_config#batching_configuration
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from servable_serving.core.errors import ModelError, invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from servable_serving.server.proto.config_pb2 import BatchingParameters

    Arrays = Mapping[str, NDArray[Any]]
    Run = Callable[[Arrays, float | None], dict[str, NDArray[Any]]]


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How requests are batched.

    Args:
        max_batch_size: Rows in one run, and in one request.
        timeout: Seconds that the first of a batch waits for more.
        max_enqueued_batches: How many batches may wait; further requests are refused.
        threads: Maximum number of concurrent runs.
        allowed_sizes: The batch sizes that the model is run with; a batch is filled up.
        pad_variable_length_inputs: Whether rows of different shapes go together, with zeros.
        max_execution_batch_size: Requests of more rows are split; None for never.
        strict: Refuse requests that cannot be batched, as TensorFlow Serving does, rather than
            run them alone.
    """

    max_batch_size: int = 1000
    timeout: float = 0.0
    max_enqueued_batches: int = 10
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    max_execution_batch_size: int | None = None
    strict: bool = True

    @classmethod
    def read(cls, parameters: BatchingParameters) -> Self:
        """From the parameters file.

        Raises:
            ModelError: A value is not valid; `code` is INVALID_ARGUMENT.
        """

        def value(name: str, default: Any) -> Any:
            return getattr(parameters, name).value if parameters.HasField(name) else default

        max_batch_size = value("max_batch_size", cls.max_batch_size)
        splitting = value("enable_large_batch_splitting", False)
        sizes = tuple(parameters.allowed_batch_sizes)
        settings = cls(
            max_batch_size=max_batch_size,
            timeout=value("batch_timeout_micros", 0) / 1e6,
            max_enqueued_batches=value("max_enqueued_batches", cls.max_enqueued_batches),
            threads=value("num_batch_threads", os.cpu_count() or 1),
            allowed_sizes=sizes,
            pad_variable_length_inputs=parameters.pad_variable_length_inputs,
            max_execution_batch_size=(
                value("max_execution_batch_size", max_batch_size) if splitting else None
            ),
        )
        if settings.threads < 1:
            raise invalid(f"num_batch_threads must be positive; was {settings.threads}")
        if max_batch_size < 1:
            raise invalid(f"max_batch_size must be positive; was {max_batch_size}")
        if settings.max_enqueued_batches < 0 or settings.timeout < 0:
            raise invalid("max_enqueued_batches and batch_timeout_micros must not be negative")
        if any(a >= b for a, b in pairwise(sizes)):
            raise invalid("allowed_batch_sizes entries must be monotonically increasing")
        if sizes and sizes[-1] != (largest := settings.max_execution_batch_size or max_batch_size):
            raise invalid(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{sizes[-1]}; expected {largest}"
            )
        return settings


class _Task:
    """A waiting request."""

    def __init__(self, inputs: Arrays, size: int, deadline: float | None) -> None:
        self.inputs, self.size, self.deadline = inputs, size, deadline
        self.since = time.monotonic()
        self.leads = False
        self.outputs: dict[str, NDArray[Any]] | None = None
        self.error: BaseException | None = None
        # A bare lock is the cheapest way to wake a thread.
        self._woken = threading.Lock()
        self._woken.acquire()

    def wake(self) -> None:
        self._woken.release()

    def wait(self, seconds: float | None = None) -> bool:
        return self._woken.acquire(timeout=-1 if seconds is None else max(seconds, 0))

    def finish(
        self, outputs: dict[str, NDArray[Any]] | None, error: BaseException | None = None
    ) -> None:
        self.outputs, self.error = outputs, error
        if not self.leads:
            self.wake()

    def fits(self, other: _Task) -> bool:
        """Whether two can share a batch as they are."""
        return all(
            array.shape[1:] == other.inputs[name].shape[1:]
            and array.dtype == other.inputs[name].dtype
            for name, array in self.inputs.items()
        )


@dataclass
class _Queue:
    run: Run
    tasks: deque[_Task] = field(default_factory=deque)
    led: bool = False  # one of its tasks is about to take a batch

    @property
    def rows(self) -> int:
        return sum(task.size for task in self.tasks)


class Batcher:
    """Runs requests in batches.

    Args:
        settings: How to batch.
        queued: Called when a request waits for its run, before any other request is looked at.
    """

    def __init__(self, settings: Batching, *, queued: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._queued = queued
        self._condition = threading.Condition()
        self._queues: dict[Hashable, _Queue] = {}
        self._running = 0

    def apart(self) -> Batcher:
        """Another batcher with the same settings and separate run slots."""
        return Batcher(self._settings)

    def run(
        self, key: Hashable, inputs: Arrays, run: Run, *, deadline: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run a request, possibly batched with others that have the same key.

        Args:
            key: Which requests may go together.
            inputs: Arrays of shape [rows, ...] by name.
            run: Runs a whole batch until a deadline, as below. It may get the requests of other
                callers, and their `run` may get this one: it must depend on the key alone.
            deadline: Until when to wait for the start, by time.monotonic.

        Raises:
            ModelError: The inputs cannot be batched, too much waits already (UNAVAILABLE), the
                deadline has passed (RESOURCE_EXHAUSTED where strict, as TensorFlow Serving, else
                DEADLINE_EXCEEDED), or `run` failed.
        """
        settings = self._settings
        size = self._size(inputs)
        if size is None:
            return run(inputs, deadline)
        if size > settings.max_batch_size:
            if not settings.strict:
                return run(inputs, deadline)
            raise invalid(
                f"Task size {size} is larger than maximum input batch size "
                f"{settings.max_batch_size}"
            )
        limit = settings.max_execution_batch_size
        if limit and size > limit:
            parts = [
                self.run(key, {k: v[at : at + limit] for k, v in inputs.items()}, run,
                         deadline=deadline)
                for at in range(0, size, limit)
            ]  # fmt: skip
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        task = _Task(inputs, size, deadline)
        with self._condition:
            queue = self._queues.setdefault(key, _Queue(run))
            self._check_room(queue, size)
            queue.tasks.append(task)
            if queue.led:
                if settings.timeout:
                    self._condition.notify_all()
            elif self._running < settings.threads:
                self._running += 1
                queue.led = task.leads = True
            if not task.leads:
                self._queued()
        if not task.leads:
            self._wait(key, queue, task)
        if task.leads:
            self._lead(key, queue)
        if task.error is not None:
            raise task.error
        assert task.outputs is not None
        return task.outputs

    def _size(self, inputs: Arrays) -> int | None:
        """The rows of a request; None if it must run alone."""
        sizes = {array.shape[0] if array.ndim else None for array in inputs.values()}
        if len(sizes) == 1 and None not in sizes:
            return sizes.pop()
        if not self._settings.strict:
            return None
        if not sizes:
            raise invalid("Batching Run() must have at least one input tensor")
        if None in sizes:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")

    def _check_room(self, queue: _Queue, size: int) -> None:
        settings = self._settings
        if settings.strict and queue.tasks:
            room = settings.max_enqueued_batches * settings.max_batch_size
            if queue.rows + size > room:
                raise ModelError(
                    "UNAVAILABLE",
                    "The batch scheduling queue to which this task was submitted is full",
                )

    def _wait(self, key: Hashable, queue: _Queue, task: _Task) -> None:
        """Wait until the task is done, or becomes the leader."""
        remaining = None if task.deadline is None else task.deadline - time.monotonic()
        if task.wait(remaining):
            return
        with self._condition:
            if task in queue.tasks and not task.leads:
                queue.tasks.remove(task)
                self._forget(key, queue)
                task.error = (
                    ModelError(
                        "RESOURCE_EXHAUSTED",
                        "Run() timeout exceeded while waiting in batching queue",
                    )
                    if self._settings.strict
                    else ModelError("DEADLINE_EXCEEDED", "Timed out waiting for a batch")
                )
                return
        # It is in a run already, or was just made to lead.
        task.wait()

    def _lead(self, key: Hashable, queue: _Queue) -> None:
        with self._condition:
            if self._settings.timeout:
                end = queue.tasks[0].since + self._settings.timeout
                self._condition.wait_for(
                    lambda: queue.rows >= self._settings.max_batch_size,
                    max(end - time.monotonic(), 0),
                )
            batch = self._take(queue)
            queue.led = False
            if self._running < self._settings.threads:
                self._running += 1
                self._hand_on()
        try:
            self._execute(queue.run, batch)
        finally:
            with self._condition:
                self._hand_on()
                self._forget(key, queue)

    def _hand_on(self) -> None:
        """Give the run slot to the request that has waited longest; the lock is held."""
        waiting = [queue for queue in self._queues.values() if queue.tasks and not queue.led]
        if not waiting:
            self._running -= 1
            return
        queue = min(waiting, key=lambda queue: queue.tasks[0].since)
        queue.led = queue.tasks[0].leads = True
        queue.tasks[0].wake()

    def _forget(self, key: Hashable, queue: _Queue) -> None:
        if not queue.tasks and not queue.led and self._queues.get(key) is queue:
            del self._queues[key]

    def _take(self, queue: _Queue) -> list[_Task]:
        """The first task, and those that go with it."""
        settings = self._settings
        limit = settings.max_execution_batch_size or settings.max_batch_size
        first = queue.tasks.popleft()
        batch, rows, rest = [first], first.size, deque[_Task]()
        for task in queue.tasks:
            fits = settings.pad_variable_length_inputs or first.fits(task)
            if fits and rows + task.size <= limit:
                batch.append(task)
                rows += task.size
            else:
                rest.append(task)
        queue.tasks = rest
        return batch

    def _execute(self, run: Run, batch: list[_Task]) -> None:
        try:
            outputs = self._run_together(run, batch)
        except Exception as error:  # noqa: BLE001
            if len(batch) == 1:
                batch[0].finish(None, error)
                return
            # One invalid request must not fail the others.
            for task in batch:
                self._execute(run, [task])
        except BaseException:
            # It ends this thread; without this the other requests would wait forever.
            for task in batch:
                task.finish(None, ModelError("INTERNAL", "The run of the batch was interrupted"))
            raise
        else:
            for task, part in zip(batch, outputs, strict=True):
                task.finish(part)

    def _run_together(self, run: Run, batch: Sequence[_Task]) -> list[dict[str, NDArray[Any]]]:
        settings = self._settings
        rows = sum(task.size for task in batch)
        filled = next((size for size in settings.allowed_sizes if size >= rows), rows)
        # The latest deadline: a request with an earlier one must not cancel the others' run.
        deadlines = [task.deadline for task in batch if task.deadline is not None]
        deadline = max(deadlines) if len(deadlines) == len(batch) else None
        if len(batch) == 1 and filled == rows and not settings.strict:
            return [run(batch[0].inputs, deadline)]
        merged = {
            name: _merged([task.inputs[name] for task in batch], filled - rows)
            for name in batch[0].inputs
        }
        outputs = run(merged, deadline)
        for array in outputs.values():
            if not array.ndim:
                raise ModelError("FAILED_PRECONDITION", "Batched output tensor has 0 dimensions")
            if array.shape[0] != filled:
                raise ModelError(
                    "FAILED_PRECONDITION",
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                    "dimension sizes of the input tensors",
                )
        parts, at = [], 0
        for task in batch:
            parts.append({name: array[at : at + task.size] for name, array in outputs.items()})
            at += task.size
        return parts


def _merged(arrays: list[NDArray[Any]], missing: int) -> NDArray[Any]:
    """Arrays concatenated by rows, padded with zeros; the first row `missing` times more."""
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) > 1:
        if len({len(shape) for shape in shapes}) > 1:
            raise invalid("Tensors of different ranks cannot be padded to one shape")
        largest = np.max([*shapes], axis=0)
        empty = b"" if arrays[0].dtype.kind == "O" else 0
        arrays = [
            np.pad(
                array, [(0, 0), *((0, n) for n in largest - array.shape[1:])], constant_values=empty
            )
            for array in arrays
        ]
    if missing and len(arrays[0]):
        arrays = [*arrays, np.repeat(arrays[0][:1], missing, axis=0)]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
