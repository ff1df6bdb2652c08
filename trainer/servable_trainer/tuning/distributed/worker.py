"""The worker of a distributed search, which runs trials."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_client import OracleClient

from servable_trainer.tuning.distributed.protocol import NAME, SERVICE, TOKEN
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from keras_tuner.engine.trial import Trial

    from servable_trainer.tuning.protocol import Outcome, StopSignal

_BEAT_SECONDS = 2.0
_RETRY_SECONDS = 0.5
# A chief that starts late is found within this time; gRPC would back off for minutes.
_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


class ChiefUnavailable(TuneError):
    """The chief does not answer, or does not know this worker any more."""


class ChiefConnection:
    """A worker's connection to its chief.

    Attributes:
        ended: Number of trials that it finished.
        failure: Why the chief was given up while a trial ran, or None.

    Args:
        address: HOST:PORT of the chief.
        name: The worker's name.
        patience: Heartbeat timeout in seconds.
        stop: Requested if the chief is unavailable or cancels the current trial.
    """

    def __init__(self, address: str, name: str, *, patience: float, stop: StopSignal) -> None:
        self.address = address
        self.name = name
        self._patience = patience
        self._stop = stop
        self._metadata = ((NAME, name), (TOKEN, uuid.uuid4().hex))
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._oracle = _Oracle(self)
        self.ended = 0
        self.failure: ChiefUnavailable | None = None
        self._trial: str | None = None
        self._epochs: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def join(self, identity: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Join the search.

        Args:
            identity: The worker's data and code.
            settings: Settings given to this worker; must equal the chief's.

        Returns:
            The chief's settings.

        Raises:
            ChiefUnavailable: It does not answer.
            TuneError: It runs another search.
        """
        token = dict(self._metadata)[TOKEN]
        said = {"name": self.name, "token": token, "identity": identity, "settings": settings}
        answer = self._say("Join", said)
        if "refusal" in answer:
            raise TuneError(
                f"the chief at {self.address} runs another search: {answer['refusal']}",
                hint="chief and workers need the same data, version and settings",
            )
        self._beats.start()
        found: dict[str, Any] = answer["settings"]
        return found

    def close(self) -> None:
        """Stop the heartbeat and close the connection."""
        self._over.set()
        if self._beats.is_alive():
            self._beats.join()
        self._channel.close()

    def leave(self) -> None:
        """Return the current trial to the chief, if that is still there."""
        self._over.set()  # the chief would reject a heartbeat after this
        with contextlib.suppress(grpc.RpcError):
            self._unary("Leave")(b"{}", timeout=_BEAT_SECONDS, metadata=self._metadata)

    def epoch(self, *measured: Any) -> None:
        """Report an epoch to the chief with the next heartbeat."""
        with self._lock:
            self._epochs.append(measured)

    def next_trial(self) -> Trial:
        """Get the next trial from the chief."""
        trial = self._oracle.create_trial(self.name)
        self._trial = trial.trial_id or None
        return trial

    def report(self, trial: Trial, outcome: Outcome) -> None:
        """Report a trial's outcome to the chief."""
        name = trial.trial_id
        self._trial = None
        try:
            self._say("Report", {"trial": name, "notes": outcome.notes})
            if outcome.metrics:
                self._oracle.update_trial(name, outcome.metrics, step=outcome.step)
            trial.status = outcome.status
            self._oracle.end_trial(trial)
            self.ended += 1
        except _NotOurs:
            return  # the chief gave it to another worker

    def return_trial(self, trial: Trial) -> None:
        """Return a trial that was not finished."""
        del trial  # the chief cancelled it, or learns of it by `leave`
        self._trial = None

    def _unary(self, method: str) -> Any:
        return self._channel.unary_unary(f"/{SERVICE}/{method}", None, None)

    def _say(self, method: str, said: dict[str, Any]) -> dict[str, Any]:
        answer = self.call(self._unary(method), json.dumps(said).encode())
        found: dict[str, Any] = json.loads(answer)
        return found

    def call(self, method: Any, request: Any) -> Any:
        """Call a method of the chief, and retry while it is unreachable.

        Raises:
            ChiefUnavailable: It stayed unreachable, or does not know this worker.
        """
        until = time.monotonic() + self._patience
        while True:
            left = max(until - time.monotonic(), 0.1)
            try:
                return method(request, timeout=left, metadata=self._metadata, wait_for_ready=True)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.ABORTED:
                    raise _NotOurs from error
                if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                    raise self._unknown() from error
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > until:
                    raise self._gone(error.details()) from error
            time.sleep(_RETRY_SECONDS)

    def _unknown(self) -> ChiefUnavailable:
        return ChiefUnavailable(
            f"the chief at {self.address} does not know worker {self.name} any more",
            hint="it was restarted, or another worker has this name: --worker NAME",
        )

    def _gone(self, details: str | None = None) -> ChiefUnavailable:
        return ChiefUnavailable(
            f"the chief at {self.address} has not answered for {self._patience:g} seconds",
            hint=f"is it running there? gRPC says: {details}" if details else "is it running?",
        )

    def _beat(self) -> None:
        """Send heartbeats, which report epochs and learn of cancellations."""
        beat, heard = self._unary("Beat"), time.monotonic()
        pause = min(_BEAT_SECONDS, self._patience / 4)
        while not self._over.wait(pause):
            trial = self._trial
            with self._lock:
                epochs, self._epochs = self._epochs, []
            said = json.dumps({"trial": trial, "epochs": epochs}).encode()
            try:
                answer = json.loads(beat(said, timeout=pause * 2, metadata=self._metadata))
            except grpc.RpcError as error:
                if self._over.is_set():
                    return
                if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                    self.failure = self._unknown()
                elif time.monotonic() - heard > self._patience:
                    self.failure = self._gone()
                else:
                    continue
                self._stop.request("chief")
                return
            heard = time.monotonic()
            if not answer["go_on"] and self._trial == trial:
                self._stop.cancel_trial()


class _NotOurs(Exception):
    """The trial was given to another worker."""


class _Oracle(OracleClient):  # type: ignore[misc]
    """KerasTuner's client, without its timeout of an hour."""

    def __init__(self, connection: ChiefConnection) -> None:
        # Its own constructor reads the environment.
        self.stub = _Stub(protos.get_service_grpc().OracleStub(connection._channel), connection)  # noqa: SLF001
        self.multi_worker, self.should_report = False, True


class _Stub:
    def __init__(self, stub: Any, connection: ChiefConnection) -> None:
        self._stub = stub
        self._chief = connection

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._stub, name)
        return lambda request, **_: self._chief.call(method, request)
