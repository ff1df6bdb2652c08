"""Stand-ins for what the server needs of TensorFlow, of threads and of time."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client._wire import wire_pb2 as wire
from servable_serving.core.names import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from servable_serving.server.config import ModelSettings
from servable_serving.server.lifecycle.manager import ModelManager
from servable_serving.server.lifecycle.registry import Models

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class Calls(Executor):
    """An executor, and a scheduler, that makes its calls when it is told to."""

    def __init__(self) -> None:
        self.pending: list[Callable[[], Any]] = []
        self.timers: list[FakeTimer] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.pending.append(lambda: fn(*args, **kwargs))
        return Future()

    def run(self, call: Callable[[], None]) -> None:
        self.pending.append(call)

    def after(self, seconds: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(seconds, call)
        self.timers.append(timer)
        return timer

    def step(self) -> None:
        """Make the next call."""
        self.pending.pop(0)()

    def settle(self) -> None:
        """Make all calls, and those that they ask for."""
        while self.pending:
            self.step()

    def elapse(self) -> None:
        """Let every timer run out, and settle."""
        timers, self.timers = self.timers, []
        for timer in timers:
            if not timer.cancelled:
                timer.call()
        self.settle()


class FakeTimer:
    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds, self.call, self.cancelled = seconds, call, False

    def cancel(self) -> None:
        self.cancelled = True


def signature(
    method: str, inputs: Mapping[str, wire.DataType], outputs: Mapping[str, wire.DataType]
) -> wire.SignatureDef:
    definition = wire.SignatureDef(method_name=method)
    for infos, given in ((definition.inputs, inputs), (definition.outputs, outputs)):
        for name, dtype in given.items():
            infos[name].name = f"{name}:0"
            infos[name].dtype = dtype
    return definition


SIGNATURES = {
    "serving_default": signature(PREDICT_METHOD, {"x": wire.DT_FLOAT}, {"y": wire.DT_FLOAT}),
    "classify": signature(
        CLASSIFY_METHOD,
        {"inputs": wire.DT_STRING},
        {"classes": wire.DT_STRING, "scores": wire.DT_FLOAT},
    ),
    "regress": signature(REGRESS_METHOD, {"inputs": wire.DT_STRING}, {"outputs": wire.DT_FLOAT}),
}


class FakeModel:
    """Doubles `x`; classifies everything as a, then b; regresses everything to 0.5."""

    def __init__(self, name: str = "m", number: int = 1, folder: Path | None = None) -> None:
        self.name, self.number, self.folder = name, number, folder
        self.warmup_records = 0
        self.signatures: dict[str, wire.SignatureDef] = dict(SIGNATURES)
        self.closed = False
        self.ran: list[str] = []
        self.deadlines: list[float | None] = []
        self.error: Exception | None = None
        self.answer: dict[str, NDArray[Any]] | None = None

    def run(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] = (),
        *,
        api: str = "Predict",
        deadline: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        self.ran.append(api)
        self.deadlines.append(deadline)
        if self.error is not None:
            raise self.error
        if self.answer is not None:
            return self.answer
        found = self._answer(len(next(iter(inputs.values()))), inputs)
        names = outputs or self.signatures[signature].outputs
        return {name: found[name] for name in names}

    def run_tensors(
        self,
        feeds: Mapping[str, NDArray[Any]],
        fetches: Sequence[str],
        *,
        api: str,
        deadline: float | None = None,
    ) -> list[NDArray[Any]]:
        self.ran.append(api)
        self.deadlines.append(deadline)
        found = self._answer(len(next(iter(feeds.values()))), feeds)
        return [found[name.removesuffix(":0")] for name in fetches]

    def close(self) -> None:
        self.closed = True

    def _answer(self, rows: int, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {
            "y": np.asarray(inputs["x"] * 2) if "x" in inputs else np.zeros(rows, np.float32),
            "classes": np.array([[b"a", b"b"]] * rows, object),
            "scores": np.array([[0.75, 0.25]] * rows, np.float32),
            "outputs": np.array([0.5] * rows, np.float32),
        }


class Loader:
    """Loads fake models, and fails for the versions in `broken`."""

    def __init__(self) -> None:
        self.broken: dict[int, Exception] = {}
        self.attempts: list[tuple[str, int]] = []
        self.models: list[FakeModel] = []

    def __call__(self, name: str, number: int, folder: Path, /) -> FakeModel:
        self.attempts.append((name, number))
        if number in self.broken:
            raise self.broken[number]
        model = FakeModel(name, number, folder)
        self.models.append(model)
        return model


class Managed:
    """A version manager over a folder of the test's, whose loads run when the test says so."""

    def __init__(self, base: Path, **options: Any) -> None:
        self.base, self.calls, self.load = base, Calls(), Loader()
        self.manager = ModelManager(
            ModelSettings(name="m", base_path=base),
            load=self.load,
            executor=self.calls,
            scheduler=self.calls,
            changed=threading.Condition(threading.RLock()),
            **options,
        )

    def put(self, *numbers: int) -> None:
        for number in numbers:
            (self.base / str(number)).mkdir(parents=True)

    def look(self) -> None:
        """Look for versions, and load and unload what follows of it."""
        self.manager.look()
        self.calls.settle()

    @property
    def states(self) -> dict[int, str]:
        return {status.version: status.state for status in self.manager.status()}


class Registered:
    """Models over a folder of the test's, as `Managed`."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root, self.calls, self.load = root, Calls(), Loader()
        self.models = Models(self.load, executor=self.calls, scheduler=self.calls, **options)

    def settings(self, name: str = "m", *versions: int, **labels: int) -> ModelSettings:
        for number in versions:
            (self.root / name / str(number)).mkdir(parents=True, exist_ok=True)
        return ModelSettings(name=name, base_path=self.root / name, labels=labels)

    def configure(self, *settings: ModelSettings) -> list[str]:
        """Serve these models, and load their versions."""
        new = self.models.configure(settings)
        self.calls.settle()
        return new
