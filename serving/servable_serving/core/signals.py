"""Ending a command by a signal, so that it undoes what it began."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_AGAIN_SECONDS = 1.0


class _Terminated(SystemExit):
    pass


class _State(threading.local):
    """Of the main thread, in which Python runs the handlers of signals."""

    requested = False
    uninterrupted = 0


_state = _State()
_report = sys.unraisablehook


def exit_on_signals() -> None:
    """Turn SIGTERM and SIGHUP into a `SystemExit` in the main thread.

    An exception that comes from outside is not enough: Python discards it in a finalizer, such as
    that of a gRPC channel (https://docs.python.org/3/reference/datamodel.html#object.__del__), and
    between the acquisition of a lock and the block that releases it, it leaves a lock that the
    handling of the exception may wait for. Thus it is raised once a second until the process has
    ended, except in blocks of `uninterrupted`.

    Raises:
        ValueError: This is not the main thread.
    """
    _state.requested = False
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    sys.unraisablehook = _report_others


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block, such as one that undoes a step, that no signal interrupts.

    A signal that came meanwhile ends the command afterwards.
    """
    _state.uninterrupted += 1
    try:
        yield
    finally:
        _state.uninterrupted -= 1


def _terminate(number: int, _: FrameType | None) -> None:
    if not _state.requested:
        _state.requested = True
        # A `threading.Thread` would need locks that the interrupted code may hold.
        _thread.start_new_thread(_send_again, (number,))
    if not _state.uninterrupted:
        raise _Terminated("servable: terminated")


def _send_again(number: int) -> None:
    main = threading.main_thread().ident or 0
    time.sleep(_AGAIN_SECONDS)
    while signal.getsignal(number) is _terminate:
        signal.pthread_kill(main, number)
        time.sleep(_AGAIN_SECONDS)


def _report_others(discarded: sys.UnraisableHookArgs) -> None:
    """Report an exception that Python discards, unless it is going to be raised again."""
    if not isinstance(discarded.exc_value, _Terminated):
        _report(discarded)
