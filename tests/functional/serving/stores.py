"""Real stores for the tests of remote repositories: S3 by moto's server, SSH by asyncssh's."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": "us-east-1",
}

# moto looks for an object and then writes it, so that If-None-Match would not be atomic, as it is
# in S3, if it answered two requests at a time.
_MOTO = """
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

application, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def one_by_one(environ, start_response):
    with lock:
        return list(application(environ, start_response))

run_simple("127.0.0.1", int(sys.argv[1]), one_by_one, threaded=True)
"""


@contextmanager
def s3_server(log: Path, port: int | None = None) -> Iterator[str]:
    """moto's S3 in a process of its own; gives its address."""
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _MOTO, str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while True:
            assert process.poll() is None, log.read_text()
            try:
                requests.get(f"{address}/moto-api/", timeout=30)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def new_bucket(address: str) -> str:
    """A bucket of its own; S3 buckets are made by a PUT."""
    name = f"tests-{uuid.uuid4().hex[:12]}"
    assert requests.put(f"{address}/{name}", timeout=60).status_code == 200
    return name


@contextmanager
def ssh_server(known_hosts: Path) -> Iterator[str]:
    """An SFTP server in a thread; gives the URL of its root, which is this machine's.

    Args:
        known_hosts: A file to write, which names the server's key.
    """
    import asyncssh
    import fsspec
    from sshfs import SSHFileSystem

    class AnyPassword(asyncssh.SSHServer):
        def begin_auth(self, _username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, _username: str, password: str) -> bool:
            return password == "secret"

    key = asyncssh.generate_private_key("ssh-ed25519")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=AnyPassword,
            server_host_keys=[key],
            sftp_factory=True,
        )

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    port = server.get_port()
    known_hosts.write_text(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")
    fsspec.config.conf["ssh"] = {"known_hosts": str(known_hosts)}
    try:
        yield f"ssh://tests:secret@127.0.0.1:{port}"
    finally:
        del fsspec.config.conf["ssh"]
        # They hang up when nobody has them any more.
        SSHFileSystem.clear_instance_cache()
        gc.collect()
        asyncio.run_coroutine_threadsafe(stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
