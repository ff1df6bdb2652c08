"""Forks, threads, event loops, and the exit of a program."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import NAME

from servable_client import AsyncClient, Client

if TYPE_CHECKING:
    import numpy as np
    from tests.conftest import RunningServer

FORKS = """
import os, sys, threading
import numpy as np
from servable_client import Client

client = Client(sys.argv[1], model="fashion_mnist", timeout=20)
black = np.zeros([28, 28], np.uint8)
expected = client.classify(black)
busy = threading.Event()

def keep_asking():
    while not busy.is_set():
        client.classify(black)

threads = [threading.Thread(target=keep_asking) for _ in range(3)]
for thread in threads if sys.argv[2] == "busy" else []:
    thread.start()
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        try:
            assert client.classify(black).label == expected.label
            assert len(list(client.classify_many([black] * 20, batch_size=4))) == 20
            os._exit(0)
        except Exception as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    children.append(child)
assert client.classify(black).label == expected.label
for child in children:
    assert os.waitpid(child, 0)[1] == 0
busy.set()
assert client.classify(black).label == expected.label
client.close()
print("done")
"""


@pytest.mark.parametrize("load", ["idle", "busy"])
def test_a_client_works_on_both_sides_of_a_fork(
    server: RunningServer, scheme: str, load: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKS, server.address(scheme), load],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "Error" not in done.stderr


CLIENT: Any = None


def ask(index: int) -> str:
    import numpy as np

    return str(CLIENT.classify(np.full([28, 28], index, np.uint8)).label)


def test_a_pool_of_forked_processes(server: RunningServer, scheme: str) -> None:
    code = f"""
import multiprocessing
from tests.functional.client import test_processes as t
from servable_client import Client
t.CLIENT = Client({server.address(scheme)!r}, model={NAME!r}, timeout=20)
t.ask(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(t.ask, range(20)) == [t.ask(i) for i in range(20)]
    pool.close()
    pool.join()
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=90
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_an_async_client_serves_one_loop_after_another(
    server: RunningServer, scheme: str, boot: np.ndarray
) -> None:
    async def once() -> str:
        async with AsyncClient(server.address(scheme), model=NAME) as client:
            answers = await asyncio.gather(*(client.classify(boot) for _ in range(10)))
            return answers[0].label

    for _ in range(2):
        assert asyncio.run(once()) == "Ankle boot"


def test_an_async_client_serves_two_loops_at_the_same_time(
    server: RunningServer, scheme: str, boot: np.ndarray
) -> None:
    client = AsyncClient(server.address(scheme), model=NAME, timeout=60)
    both = threading.Barrier(2)
    found: list[str] = []

    async def ask() -> None:
        for _ in range(5):
            await asyncio.to_thread(both.wait)
            answers = await asyncio.gather(*(client.classify(boot) for _ in range(4)))
            found.extend(answer.label for answer in answers)

    threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["Ankle boot"] * 40
    asyncio.run(client.close())


def test_a_cancelled_call_ends(server: RunningServer, scheme: str, boot: np.ndarray) -> None:
    async def cancel() -> None:
        async with AsyncClient(server.address(scheme), model=NAME) as client:
            await client.classify(boot)
            server.process.send_signal(signal.SIGSTOP)
            try:
                task = asyncio.create_task(client.classify(boot))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            finally:
                server.process.send_signal(signal.SIGCONT)
            assert (await client.classify(boot)).label == "Ankle boot"

    asyncio.run(cancel())


@pytest.mark.parametrize("ending", ["client.close()", "del client", "pass"])
def test_a_program_exits_without_output(server: RunningServer, scheme: str, ending: str) -> None:
    code = f"""
from servable_client import Client
client = Client({server.address(scheme)!r}, model={NAME!r})
client.status()
{ending}
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_thread_is_left(server: RunningServer, boot: np.ndarray) -> None:
    before, children = set(threading.enumerate()), set(multiprocessing.active_children())
    with Client(server.http, model=NAME) as client:
        list(client.classify_many([boot] * 10, batch_size=2))
    assert set(threading.enumerate()) <= before
    assert set(multiprocessing.active_children()) <= children
