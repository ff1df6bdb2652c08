"""Clients in a process and in its forked children: unused, used, busy or closed at the fork."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RunningServer

# Each child asks by the client of its parent, and by one of its own. It may be late by half a
# second; the parent waits longer than that only for a child that hangs.
PROGRAM = """
import asyncio, os, sys, threading, time, traceback
import numpy as np
from servable_client import AsyncClient, Client, ServableError

face, address = sys.argv[1:]
images = {"image": np.zeros([1, 28, 28], np.uint8)}
TIMEOUT = 20

def make():
    kind = Client if face == "sync" else AsyncClient
    return kind(address, model="fashion_mnist", timeout=TIMEOUT)

def ask(client):
    if face == "sync":
        return client.predict(images).version
    return asyncio.run(ask_in_loop(client))

async def ask_in_loop(client):
    return (await client.predict(images)).version

def close(client):
    client.close() if face == "sync" else asyncio.run(client.close())

def keep_asking(client, ended):
    async def several():
        while not ended.is_set():
            await asyncio.gather(*(client.predict(images) for _ in range(3)))

    if face == "async":
        return asyncio.run(several())
    while not ended.is_set():
        client.predict(images)

def in_child(client, state):
    if state == "closed":
        try:
            ask(client)
        except ServableError as error:
            assert "closed" in str(error)
        else:
            raise AssertionError("a closed client answered")
    else:
        assert ask(client) == 1
    own = make()
    assert ask(own) == 1
    close(own)

def fork(client, state):
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        in_child(client, state)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)

def wait_for(children):
    end = time.monotonic() + 2 * TIMEOUT + 5
    for child in children:
        while not (found := os.waitpid(child, os.WNOHANG))[0]:
            assert time.monotonic() < end, "a child hangs"
            time.sleep(0.01)
        assert found[1] == 0, f"status {found[1]}"

def check(state):
    client, ended = make(), threading.Event()
    threads = [
        threading.Thread(target=keep_asking, args=(client, ended))
        for _ in range(2 if state == "busy" else 0)
    ]
    if state != "unused":
        assert ask(client) == 1
    if state == "closed":
        close(client)
    for thread in threads:
        thread.start()
    try:
        wait_for([fork(client, state) for _ in range(3)])
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    if state != "closed":
        assert ask(client) == 1
        close(client)

for state in ("unused", "used", "busy", "closed"):
    check(state)
    print(state)
"""


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize(
    "transport",
    ["gRPC over libcurl", "gRPC over grpcio", "REST over libcurl", "REST over httpcore"],
)
def test_clients_in_forked_processes(server: RunningServer, transport: str, face: str) -> None:
    protocol, library = transport.split(" over ")
    environment = {**os.environ, "SERVABLE_LIBCURL": str(int(library == "libcurl"))}
    address = server.http if protocol == "REST" else server.grpc
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, face, address],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "unused\nused\nbusy\nclosed\n"), done.stderr
    assert "Error" not in done.stderr
