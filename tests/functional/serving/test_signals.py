"""Programs that a signal ends where an exception alone would not end them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

BEGIN = """
import threading, time
from servable_serving.core.signals import exit_on_signals, uninterrupted

exit_on_signals()

def wait():
    print("waiting", flush=True)
    time.sleep(2.5)
    return True

"""
PLAIN = """
try:
    wait()
    time.sleep(60)
finally:
    print("undone", flush=True)
"""
FINALIZER = """
class Channel:
    def __del__(self):
        wait()

try:
    Channel()
    time.sleep(60)
finally:
    print("undone", flush=True)
"""
# As httpcore's: https://github.com/encode/httpcore/blob/master/httpcore/_synchronization.py
LOCK = """
class Lock:
    def __init__(self):
        self._lock = threading.Lock()

    def __enter__(self):
        self._lock.acquire()
        wait()

    def __exit__(self, *_):
        self._lock.release()

lock = Lock()
try:
    try:
        with lock:
            pass
    except BaseException:
        with lock:
            pass
finally:
    print("undone", flush=True)
"""
UNDO = """
try:
    raise ValueError("a step failed")
except ValueError:
    with uninterrupted():
        wait()
    print("undone", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("program", [PLAIN, FINALIZER, LOCK, UNDO])
def test_a_signal_ends_a_command_after_its_undoing(program: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "servable: terminated\n")
    assert out == "undone\n"


def test_other_exceptions_of_a_finalizer_are_reported() -> None:
    program = BEGIN + "class Channel:\n    def __del__(self): raise ValueError('no')\nChannel()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "ValueError: no" in done.stderr
