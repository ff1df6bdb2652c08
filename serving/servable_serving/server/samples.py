"""A share of the requests, kept with their answers in files.

The files are TFRecords of PredictionLog, the format of TensorFlow Serving's own request logging and
of its warm-up files: https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

import logging
import os
import queue
import random
import re
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from servable_client._wire import wire_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Records and bytes that may wait for the disk; more are not kept.
_WAITING, _WAITING_BYTES = 1000, 64 << 20
# A file is closed, and so visible, when it has this many bytes or seconds.
_FILE_BYTES, _FILE_SECONDS = 16 << 20, 600.0
# The largest request and answer that are kept: a copy is made of them.
MAX_BYTES = 16 << 20
_INCOMING = ".incoming-"
# Between two warnings of the same trouble, in seconds.
_WARN_SECONDS = 60.0

_log = logging.getLogger("servable.samples")


class Writer(Protocol):
    """Writes the records of a file."""

    def write(self, record: bytes, /) -> None:
        """Add a record."""

    def flush(self) -> None:
        """Write what is buffered."""

    def close(self) -> None:
        """Close the file."""


@dataclass
class _Open:
    """A file that is being written."""

    path: Path
    writer: Writer
    since: float
    size: int = 0


class Samples:
    """Keeps a share of the requests.

    The files are FOLDER/MODEL/VERSION-TIME-HOST-PROCESS.tfrecord; the name of one that is not whole
    yet begins with ".incoming-". Only their owner may read them: requests may be personal data.

    Args:
        folder: Where the files go; made if it does not exist.
        share: The fraction of the requests that is kept, 0 to 1.
        keep_bytes: The size of all files; beyond it the oldest are deleted.
        open_writer: Opens a file for records.
        clock: Monotonic seconds.

    Attributes:
        counts: How many records were "kept", and how many "dropped": the disk was full or slow.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        share: float,
        keep_bytes: int,
        open_writer: Callable[[Path], Writer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        check = folder / f"{_INCOMING}{os.getpid()}"
        check.touch()
        check.unlink()
        _finish_files_of_the_dead(folder)
        self._folder, self._share, self._keep_bytes = folder, share, keep_bytes
        self._open_writer, self._clock = open_writer, clock
        self.counts: Counter[str] = Counter()
        self._waiting: queue.Queue[tuple[str, int, bytes] | None] = queue.Queue(_WAITING)
        self._bytes, self._lock = 0, threading.Lock()
        self._files: dict[tuple[str, int], _Open] = {}
        self._made = 0
        self._warned = -_WARN_SECONDS
        self._thread = threading.Thread(target=self._write, name="samples", daemon=True)
        self._thread.start()

    def take(self, model: str, version: int, log: Callable[[], wire.PredictionLog | None]) -> None:
        """Keep a request and its answer, or not, by chance.

        Args:
            model: The model's name.
            version: The version that answered.
            log: Makes the record; None if it would be larger than `MAX_BYTES`.
        """
        if random.random() >= self._share:
            return
        record = log()
        if record is None:
            self._done(b"", "dropped")
            return
        metadata = record.log_metadata
        metadata.model_spec.name = model
        metadata.model_spec.version.value = version
        metadata.sampling_config.sampling_rate = self._share
        data = record.SerializeToString()
        with self._lock:
            fits = self._bytes + len(data) <= _WAITING_BYTES
            self._bytes += len(data) if fits else 0
        try:
            if not fits:
                raise queue.Full
            self._waiting.put_nowait((model, version, data))
        except queue.Full:
            self._done(data if fits else b"", "dropped")

    def close(self) -> None:
        """Write what waits, and close the files."""
        self._waiting.put(None)
        self._thread.join()

    def _write(self) -> None:
        while True:
            try:
                item = self._waiting.get(timeout=_FILE_SECONDS / 10)
            except queue.Empty:
                item = ("", 0, b"")
            if item is None:
                for key in list(self._files):
                    self._finish(key)
                return
            for key, file in list(self._files.items()):
                if self._clock() - file.since >= _FILE_SECONDS:
                    self._finish(key)
            if item[2]:
                self._add(*item)

    def _add(self, model: str, version: int, data: bytes) -> None:
        try:
            file = self._files.get((model, version))
            if file is None:
                file = self._files[model, version] = self._open(model, version)
            file.writer.write(data)
            # A process that is killed loses nothing that was flushed.
            file.writer.flush()
        except Exception as error:  # noqa: BLE001 - TensorFlow's errors, and the system's
            self._done(data, "dropped")
            if self._clock() - self._warned >= _WARN_SECONDS:
                self._warned = self._clock()
                _log.warning("requests are not kept in %s: %s", self._folder, error)
            self._finish((model, version))
            return
        self._done(data, "kept")
        file.size += len(data)
        if file.size >= _FILE_BYTES:
            self._finish((model, version))

    def _open(self, model: str, version: int) -> _Open:
        folder = self._folder / _folder_name(model)
        folder.mkdir(exist_ok=True)
        self._made += 1
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        name = f"{version}-{now}-{socket.gethostname()}-{os.getpid()}.{self._made}.tfrecord"
        path = folder / f"{_INCOMING}{name}"
        path.touch(mode=0o600)
        return _Open(path, self._open_writer(path), self._clock())

    def _finish(self, key: tuple[str, int]) -> None:
        """Close a file, make it visible, and delete the oldest ones beyond the limit."""
        file = self._files.pop(key, None)
        if file is None:
            return
        with suppress(Exception):  # what was written before counts
            file.writer.close()
        with suppress(OSError):
            if file.size:
                file.path.rename(file.path.with_name(file.path.name.removeprefix(_INCOMING)))
            else:
                file.path.unlink()
        with suppress(OSError):
            self._delete_oldest()

    def _delete_oldest(self) -> None:
        found = sorted(
            (path.stat().st_mtime_ns, path.stat().st_size, path)
            for path in self._folder.glob("*/*.tfrecord")
            if not path.name.startswith(_INCOMING)
        )
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= self._keep_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _done(self, data: bytes, outcome: str) -> None:
        with self._lock:
            self._bytes -= len(data)
            self.counts[outcome] += 1


def prediction_log(kind: str, request: Any, response: Any) -> wire.PredictionLog | None:
    """A request and its answer as they are kept.

    Args:
        kind: The field of PredictionLog: "predict_log", "classify_log", ...
        request: The request of that kind.
        response: Its response.

    Returns:
        A copy of them; None if they are larger than `MAX_BYTES`.
    """
    if request.ByteSize() + response.ByteSize() > MAX_BYTES:
        return None
    log = wire.PredictionLog()
    getattr(log, kind).request.CopyFrom(request)
    getattr(log, kind).response.CopyFrom(response)
    return log


def _folder_name(model: str) -> str:
    """The name of a model as that of a folder, which is never hidden, and never another folder."""
    name = quote(model, safe="") or "_"
    return name.replace(".", "%2E", 1) if name.startswith(".") else name


def _finish_files_of_the_dead(folder: Path) -> None:
    """Make the files visible that processes of this machine left which were killed."""
    host = re.escape(socket.gethostname())
    for path in folder.glob(f"*/{_INCOMING}*.tfrecord"):
        found = re.fullmatch(rf".*-{host}-(\d+)\.\d+\.tfrecord", path.name)
        # A container's first process has the same number each time.
        if found and (int(found[1]) == os.getpid() or not _is_running(int(found[1]))):
            with suppress(OSError):
                path.rename(path.with_name(path.name.removeprefix(_INCOMING)))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
