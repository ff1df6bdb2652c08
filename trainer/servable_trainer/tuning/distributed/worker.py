"""The processes of a search that run the trials."""

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

    from servable_trainer.tuning.protocol import Outcome, Stop

_BEAT_SECONDS = 2.0
_RETRY_SECONDS = 0.5
# A chief that comes late is found within as long; gRPC would let the pauses grow to minutes.
_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


class ChiefGone(TuneError):
    """The chief does not answer, or will not have this worker any more."""


class Link:
    """A worker's side of a chief.

    Attributes:
        ended: How many trials it brought to their end.
        failure: Why the chief was given up while a trial ran, or None.

    Args:
        address: HOST:PORT where the chief listens.
        name: What this worker is called.
        patience: How many seconds the chief may not answer.
        stop: Told to end where the chief is gone, or wants a trial broken off.
    """

    def __init__(self, address: str, name: str, *, patience: float, stop: Stop) -> None:
        self.address = address
        self.name = name
        self._patience = patience
        self._stop = stop
        self._metadata = ((NAME, name), (TOKEN, uuid.uuid4().hex))
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._oracle = _Oracle(self)
        self.ended = 0
        self.failure: ChiefGone | None = None
        self._trial: str | None = None
        self._epochs: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def join(self, identity: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Join the search.

        Args:
            identity: The data and the code here.
            settings: Those that this worker was told; they must be the chief's.

        Returns:
            The chief's settings.

        Raises:
            ChiefGone: It does not answer.
            TuneError: It searches something else.
        """
        token = dict(self._metadata)[TOKEN]
        said = {"name": self.name, "token": token, "identity": identity, "settings": settings}
        answer = self._say("Join", said)
        if "refusal" in answer:
            raise TuneError(
                f"the chief at {self.address} searches something else: {answer['refusal']}",
                hint="chief and workers need the same data, the same version and the same settings",
            )
        self._beats.start()
        found: dict[str, Any] = answer["settings"]
        return found

    def close(self) -> None:
        """Leave, and hang up."""
        self._over.set()
        if self._beats.is_alive():
            self._beats.join()
        self._channel.close()

    def leave(self) -> None:
        """Give back what runs; a chief that is gone does not mind."""
        self._over.set()  # a heartbeat that comes after this is one of a stranger
        with contextlib.suppress(grpc.RpcError):
            self._unary("Leave")(b"{}", timeout=_BEAT_SECONDS, metadata=self._metadata)

    def epoch(self, *measured: Any) -> None:
        """Let the chief know of an epoch with the next heartbeat."""
        with self._lock:
            self._epochs.append(measured)

    def ask(self) -> Trial:
        """The next trial, from the chief."""
        trial = self._oracle.create_trial(self.name)
        self._trial = trial.trial_id or None
        return trial

    def tell(self, trial: Trial, outcome: Outcome) -> None:
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
            return  # the chief took it for lost, and has said so

    def give_back(self, trial: Trial) -> None:
        """Return a trial that was not finished."""
        del trial  # the chief knows which, and has asked for it or is told by `leave`
        self._trial = None

    def _unary(self, method: str) -> Any:
        return self._channel.unary_unary(f"/{SERVICE}/{method}", None, None)

    def _say(self, method: str, said: dict[str, Any]) -> dict[str, Any]:
        answer = self.call(self._unary(method), json.dumps(said).encode())
        found: dict[str, Any] = json.loads(answer)
        return found

    def call(self, method: Any, request: Any) -> Any:
        """Call a method of the chief, again where it is away for a moment.

        Raises:
            ChiefGone: It was away for too long, or does not know this worker.
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

    def _unknown(self) -> ChiefGone:
        return ChiefGone(
            f"the chief at {self.address} does not know worker {self.name} any more",
            hint="it began again, or another worker has this name: --worker NAME",
        )

    def _gone(self, details: str | None = None) -> ChiefGone:
        return ChiefGone(
            f"the chief at {self.address} has not answered for {self._patience:g} seconds",
            hint=f"is it running there? gRPC says: {details}" if details else "is it running?",
        )

    def _beat(self) -> None:
        """While a trial runs the chief hears of it, and this worker of the chief."""
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
                self._stop.ask("chief")
                return
            heard = time.monotonic()
            if not answer["go_on"] and self._trial == trial:
                self._stop.break_off()


class _NotOurs(Exception):
    """The trial was given to another worker."""


class _Oracle(OracleClient):  # type: ignore[misc]
    """KerasTuner's client, which would wait for an hour where nobody answers."""

    def __init__(self, link: Link) -> None:
        # Its own constructor reads the environment.
        self.stub = _Stub(protos.get_service_grpc().OracleStub(link._channel), link)  # noqa: SLF001
        self.multi_worker, self.should_report = False, True


class _Stub:
    def __init__(self, stub: Any, link: Link) -> None:
        self._stub = stub
        self._link = link

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._stub, name)
        return lambda request, **_: self._link.call(method, request)
