"""`servable gateway` with this machine's nginx."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import requests
from tests.conftest import free_port, serving
from tests.functional.serving.calls import eventually

from servable_client import TLS, Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer

START = (sys.executable, "-m", "servable", "gateway")
KEY = "alices-key-0123456789-abcdefgh"
OTHER_KEY = "bobs-key-0123456789-abcdefghij"
ADMIN_KEY = "root-key-0123456789-abcdefghij"
SECRETS = (KEY, OTHER_KEY, ADMIN_KEY)
ROWS = [[1.0, 2.0, 5.0]]


def slope_of(answer: Any) -> int:
    """Which version answered: its slope is the version and one."""
    return round((float(answer[0][0]) - 1.0) / ROWS[0][0])


def shared_port(*hosts: str) -> int:
    """A port that is free at each of several addresses of this machine."""
    while True:
        port = free_port()
        try:
            for host in hosts:
                with socket.socket() as sock:
                    sock.bind((host, port))
        except OSError:
            continue
        return port


@contextmanager
def patient_server(folder: Path, *flags: str, model: str) -> Iterator[RunningServer]:
    """A server with a configuration of its own; a busy machine may take minutes to start it."""
    with serving(None, folder / "server", *flags, model=model, wait=False) as running:
        with Client(running.http, model=model) as client:
            client.wait_until_available(timeout=500)
        yield running


@dataclass
class Gateway:
    """A gateway that runs."""

    process: subprocess.Popen[bytes]
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)

    def address(self, scheme: str) -> str:
        port = self.ports["tls" if scheme in ("grpcs", "https") else scheme]
        return f"{scheme}://127.0.0.1:{port}"

    @property
    def rest(self) -> str:
        return self.address("http")

    def client(self, scheme: str, *, model: str = "linear", **kwargs: Any) -> Client:
        if scheme in ("grpcs", "https"):
            kwargs["tls"] = TLS(ca=self.folder / "certs" / "tls.crt")
        return Client(self.address(scheme), model=model, **kwargs)

    def ask(self, path: str = "linear:predict", **kwargs: Any) -> requests.Response:
        """A raw request over REST: a prediction, unless told otherwise."""
        kwargs.setdefault("json", {"instances": ROWS})
        kwargs.setdefault("timeout", 60)
        return requests.post(f"{self.rest}/v1/models/{path}", **kwargs)

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", 60)
        return requests.get(f"{self.rest}{path}", **kwargs)

    def ready(self) -> bool:
        return self.get("/readyz").status_code == 200

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text()

    def lines(self) -> list[dict[str, str]]:
        """The access log."""
        text = (self.folder / "access.log").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def write_traffic(self, text: str) -> None:
        """Write models.traffic, whole."""
        new = self.folder / "models" / "new"
        new.write_text(text)
        new.rename(new.with_name("models.traffic"))

    def traffic(self, *lines: str) -> None:
        """Write models.traffic, and wait until it is in force."""
        before = self.said.count("reloaded")
        self.write_traffic("".join(f"{line}\n" for line in lines))
        eventually(lambda: self.said.count("reloaded") > before)


def environment(folder: Path, ports: dict[str, int], **settings: object) -> dict[str, str]:
    """What the gateway needs to run beside the tests."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("SERVABLE_", "KUBERNETES"))},
        "SERVABLE_LISTEN": "127.0.0.1",
        "SERVABLE_RUN": str(folder / "run"),
        "SERVABLE_CERTS": str(folder / "certs"),
        "SERVABLE_MODELS_ROOT": str(folder / "models"),
        "SERVABLE_WEB": str(folder / "web"),
        "SERVABLE_ACCESS_LOG": str(folder / "access.log"),
        "SERVABLE_WORKERS": "2",
        "SERVABLE_UPSTREAM": "127.0.0.1",
        **{f"SERVABLE_{name.upper()}_PORT": str(port) for name, port in ports.items()},
        **{name: str(value) for name, value in settings.items()},
    }


@contextmanager
def gateway(
    folder: Path,
    *,
    grpc_port: int,
    rest_port: int,
    wait: bool = True,
    models: str = "linear",
    **settings: object,
) -> Iterator[Gateway]:
    """A gateway in front of servers at these ports, ended with the block.

    Args:
        folder: Where it keeps everything; its `models` and `web` may be there already.
        grpc_port: The servers' port for gRPC.
        rest_port: The servers' port for REST.
        wait: Whether to wait until it is ready.
        models: What it is to wait for, where there is no models.config.
        settings: More of the environment.
    """
    for name in ("models", "web"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    ports = {"tls": free_port(), "grpc": free_port(), "rest": free_port()}
    if not (folder / "models" / "models.config").exists():
        settings.setdefault("SERVABLE_MODELS", models)
    variables = environment(
        folder,
        ports,
        SERVABLE_UPSTREAM_GRPC_PORT=grpc_port,
        SERVABLE_UPSTREAM_REST_PORT=rest_port,
        **settings,
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            START,
            env={**variables, "PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    running = Gateway(process, folder, {**ports, "http": ports["rest"]})
    try:
        try:
            eventually(lambda: process.poll() is not None or answers(f"{running.rest}/healthz"))
            assert process.poll() is None
            if wait:
                eventually(running.ready)
        except AssertionError as error:
            process.send_signal(signal.SIGABRT)  # faulthandler writes what it does into the log
            process.wait(60)
            error.add_note(running.said)
            raise
        yield running
    finally:
        process.terminate()
        process.wait(60)
    for secret in SECRETS:
        for name in ("log", "access.log"):
            if (folder / name).exists():
                assert secret not in (folder / name).read_text(), name


def answers(address: str) -> bool:
    """Whether somebody answers there, and well."""
    try:
        return requests.get(address, timeout=60).ok
    except requests.ConnectionError:
        return False


@contextmanager
def companion(*arguments: object) -> Iterator[tuple[str, str]]:
    """`servable gateway-metrics` in a process of its own: where it is asked, and told."""
    port, syslog = free_port(), free_port()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "servable_client", "gateway-metrics",
            f"--port={port}", f"--syslog-port={syslog}", *map(str, arguments),
        ]
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}/metrics"
    try:
        eventually(lambda: answers(address), 120)
        yield address, f"127.0.0.1:{syslog}"
    finally:
        process.terminate()
        assert process.wait(60) == 0


@contextmanager
def callers(running: Gateway, *schemes: str) -> Iterator[tuple[list[int], list[object]]]:
    """A caller of the model `linear` for each scheme, without a break for the length of the block.

    Gives how many calls were answered, as the only item of a list, and what others failed with.
    """
    stop = threading.Event()
    asked, failed = [0], list[object]()

    def ask(scheme: str) -> None:
        with running.client(scheme, timeout=60) as client:
            while not stop.is_set():
                try:
                    client.predict({"x": np.array(ROWS, np.float32)})
                    asked[0] += 1
                except Exception as error:  # noqa: BLE001
                    failed.append(error)

    threads = [threading.Thread(target=ask, args=(scheme,)) for scheme in schemes]
    for thread in threads:
        thread.start()
    try:
        yield asked, failed
    finally:
        stop.set()
        for thread in threads:
            thread.join()
