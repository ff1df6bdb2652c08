"""The chief of a distributed search, which hands out the trials.

Trials are exchanged through KerasTuner's own service. A second service at the same port adds what
that lacks: workers join with the identity of their search, so that all search the same; they send
heartbeats while a trial runs, so that the trial of a dead worker is given to another; and they
report why a trial failed.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from servable_trainer.tuning.distributed.protocol import NAME, SERVICE, TOKEN
from servable_trainer.tuning.results import FAILURES, completed, trial_of
from servable_trainer.tuning.search_folder import differences
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_trainer.tuning.progress import SearchProgress
    from servable_trainer.tuning.project import Project, SearchBudget
    from servable_trainer.tuning.protocol import StopSignal
    from servable_trainer.tuning.search_folder import SearchFolder

_LOOK_SECONDS = 0.2
# By then every live worker has learnt of the end.
_GRACE_SECONDS = 1.0


@dataclass
class _Worker:
    token: str
    heard: float = field(default_factory=time.monotonic)
    given_up: bool = False
    # It knows that the search is over; a heartbeat of it may still arrive.
    dismissed: bool = False

    @property
    def awaited(self) -> bool:
        """Whether the chief still waits for it."""
        return not self.given_up and not self.dismissed


class Chief:
    """Hands out trials until there are no more, and reassigns those of dead workers.

    Only one thread touches the oracle: KerasTuner's lock is per thread, and an exception would
    leave it locked for every other.

    Args:
        oracle: The trials.
        project: The search.
        folder: Its directory.
        budget: When to end.
        stop: Receives requests to end, and the reason.
        progress: Receives the progress.
        watchdog: Heartbeat timeout of workers in seconds; a worker that was only slow may rejoin,
            without its trial.
    """

    def __init__(
        self,
        oracle: Any,
        project: Project,
        *,
        folder: SearchFolder,
        budget: SearchBudget,
        stop: StopSignal,
        progress: SearchProgress,
        watchdog: float,
    ) -> None:
        self.oracle = oracle
        self._project = project
        self._folder = folder
        self._budget = budget
        self._stop = stop
        self.progress = progress
        self._watchdog = watchdog
        self._workers: dict[str, _Worker] = {}
        self._lock = threading.Lock()
        self._heard = time.monotonic()
        self._done = False
        self._oracles_thread = ThreadPoolExecutor(1, thread_name_prefix="oracle")

    def serve(self, address: str) -> None:
        """Listen at HOST:PORT until the search is over and the workers know.

        Raises:
            TuneError: The address is not available, or the disk is full.
        """
        server = grpc.server(
            ThreadPoolExecutor(16, thread_name_prefix="chief"),
            options=[("grpc.so_reuseport", 0)],
        )
        # The handler is KerasTuner's; its servicer is ours.
        protos.get_service_grpc().add_OracleServicer_to_server(_Trials(self), server)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {
                        name: grpc.unary_unary_rpc_method_handler(_as_json(method))
                        for name, method in (
                            ("Join", self._join),
                            ("Beat", self._beat),
                            ("Report", self._report),
                            ("Leave", self._leave),
                        )
                    },
                ),
            )
        )
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise TuneError(f"cannot listen at {address}", hint="is the port in use?") from error
        server.start()
        self.progress.say(f"the chief listens at {address}")
        self._heard = time.monotonic()
        try:
            while not self._over():
                time.sleep(_LOOK_SECONDS)
            self._end()
        finally:
            server.stop(_GRACE_SECONDS).wait()
            self._oracles_thread.shutdown()
        self.oracle.check()

    def _over(self) -> bool:
        """Check the workers and the budget; whether the search is over."""
        self._folder.tick()
        now = time.monotonic()
        with self._lock:
            dead = [name for name, one in self._workers.items() if self._is_dead(one, now)]
            for name in dead:
                self._workers[name].given_up = True
        for name in dead:
            self.progress.say(f"no heartbeat from worker {name} for {self._watchdog:g} seconds")
            self._on_oracle(partial(self._put_back, name, lost=True))
        if self.oracle.failure is not None:
            self._stop.request("disk")
        elif self._budget.over(self._folder.seconds):
            self._stop.request("minutes")
        elif now - self._heard > self._watchdog:
            self._stop.request("workers")
        return self._done or self._stop.reason is not None

    def _is_dead(self, worker: _Worker, now: float) -> bool:
        return worker.awaited and now - worker.heard > self._watchdog

    def _end(self) -> None:
        """Start no more trials, cancel those that run, and inform the workers."""
        self.oracle.over = True
        for name in list(self._workers):
            self._on_oracle(partial(self.oracle.put_back, name))
        if self._stop.reason == "workers":
            return
        until = time.monotonic() + self._watchdog
        while time.monotonic() < until and any(one.awaited for one in list(self._workers.values())):
            time.sleep(_LOOK_SECONDS)

    def _on_oracle(self, call: Callable[[], Any]) -> Any:
        return self._oracles_thread.submit(call).result()

    def _forget(self, name: str, *, lost: bool) -> None:
        with self._lock:
            self._workers.pop(name, None)
        self._on_oracle(lambda: self._put_back(name, lost=lost))

    def _put_back(self, name: str, *, lost: bool) -> None:
        trial = self.oracle.ongoing_trials.get(name)
        self.oracle.put_back(name, lost=lost)
        if trial is not None:
            self.progress.trial_cancelled(trial.trial_id)
            self.progress.say(f"trial {trial.trial_id} is waiting for another worker")

    def known(self, context: grpc.ServicerContext) -> str:
        """The name of the calling worker; an unknown caller is rejected."""
        said = dict(context.invocation_metadata())
        name = str(said.get(NAME, ""))
        with self._lock:
            worker = self._workers.get(name)
            if worker is not None and worker.token == said.get(TOKEN):
                if worker.given_up:
                    self.progress.say(f"worker {name} is back")
                worker.heard, worker.given_up = time.monotonic(), False
                self._heard = worker.heard
                return name
        context.abort(
            grpc.StatusCode.PERMISSION_DENIED,
            f"the chief does not know worker {name!r}",
        )
        raise AssertionError  # abort raises

    def next_trial(self, name: str) -> Any:
        """The next trial for a worker."""
        if len(self.oracle.failed_in_a_row()) >= FAILURES:
            self.oracle.over = True
            self._stop.request("failures")
        if not self.oracle.over:
            self._folder.start_clock()
        before = self.oracle.ongoing_trials.get(name)
        trial = self.oracle.create_trial(name)
        if trial.status == TrialStatus.STOPPED:
            with self._lock:
                if name in self._workers:  # it may have left meanwhile
                    self._workers[name].dismissed = True
            self._done = True
        elif trial.status == TrialStatus.RUNNING and trial is not before:
            self.progress.trial_started(trial.trial_id, trial.hyperparameters.values, worker=name)
        return trial

    def runs(self, name: str, trial: str) -> bool:
        """Whether a worker runs that trial."""
        one = self.oracle.ongoing_trials.get(name)
        return one is not None and one.trial_id == trial

    def ended(self, trial: str) -> None:
        """Report that a trial ended."""
        self.progress.trial_ended(trial_of(self.oracle, trial), completed(self.oracle))

    def _join(self, said: dict[str, Any], _context: grpc.ServicerContext) -> dict[str, Any]:
        name, identity = said["name"], self._project.identity
        settings = asdict(self._project.settings)
        # A worker takes the settings that it was not given from here.
        theirs = {**said["identity"], "settings": {**settings, **said["settings"]}}
        differing = differences(
            json.loads(json.dumps(identity)),
            theirs,
            places=("at the chief", "at this worker"),
        )
        if differing:
            return {"refusal": "; ".join(differing)}
        if name in self._workers:  # it restarted, or another worker has its name, which then ends
            self._forget(name, lost=True)
        with self._lock:
            self._workers[name] = _Worker(token=said["token"])
            self._heard = time.monotonic()
        self.progress.say(f"worker {name} joined")
        return {"settings": settings}

    def _beat(self, said: dict[str, Any], context: grpc.ServicerContext) -> dict[str, Any]:
        name = self.known(context)
        for epoch in said["epochs"]:
            self.progress.epoch(*epoch)
        trial = said["trial"]
        return {"go_on": trial is None or self.runs(name, trial)}

    def _report(self, said: dict[str, Any], context: grpc.ServicerContext) -> dict[str, Any]:
        name, trial = self.known(context), said["trial"]
        self._on_oracle(lambda: self._note(name, trial, said["notes"]))
        return {}

    def _note(self, name: str, trial: str, notes: dict[str, Any]) -> None:
        if self.runs(name, trial):
            self.oracle.notes[trial] = {**notes, "worker": name}

    def _leave(self, _said: dict[str, Any], context: grpc.ServicerContext) -> dict[str, Any]:
        name = self.known(context)
        self.progress.say(f"worker {name} left")
        self._forget(name, lost=False)
        return {}


class _Trials(OracleServicer):  # type: ignore[misc]
    """KerasTuner's service, for workers that have joined."""

    def __init__(self, chief: Chief) -> None:
        super().__init__(chief.oracle)
        self._chief = chief

    def CreateTrial(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        name = self._chief.known(context)
        trial = self._chief._on_oracle(lambda: self._chief.next_trial(name))  # noqa: SLF001
        return protos.get_service().CreateTrialResponse(trial=trial.to_proto())

    def UpdateTrial(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._own(request.trial_id, context)
        return self._chief._on_oracle(lambda: super(_Trials, self).UpdateTrial(request, context))  # noqa: SLF001

    def EndTrial(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._own(request.trial.trial_id, context)

        def end() -> Any:
            answer = super(_Trials, self).EndTrial(request, context)
            self._chief.ended(request.trial.trial_id)
            return answer

        return self._chief._on_oracle(end)  # noqa: SLF001

    def _own(self, trial: str, context: grpc.ServicerContext) -> None:
        if not self._chief.runs(self._chief.known(context), trial):
            context.abort(grpc.StatusCode.ABORTED, f"trial {trial} was given to another worker")


def _as_json(
    method: Callable[[dict[str, Any], grpc.ServicerContext], dict[str, Any]],
) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    return lambda request, context: json.dumps(method(json.loads(request), context)).encode()
