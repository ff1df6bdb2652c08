"""`docker compose up --scale serving=3`: the load is shared, and a server may go."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Self

import numpy as np
import pytest
from tests.conftest import NAME, SHIPPED
from tests.forked import servable
from tests.system.stack.stacks import ADMIN, Stack, eventually, run

from servable_client import ServableError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

BLANK = np.zeros((28, 28), np.uint8)


@pytest.fixture
def three(stack: Stack) -> Iterator[Stack]:
    """The stack with three servers."""
    stack.up("--scale", "serving=3")
    yield stack
    stack.up("--scale", "serving=1")


class Load:
    """Callers by gRPC and by REST, who ask one after another until the block ends."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.answers, self.errors = 0, list[ServableError]()
        self._over = threading.Event()
        self._callers = [
            threading.Thread(target=self._call, args=(scheme,))
            for scheme in ("grpcs", "https", "grpcs", "https")
        ]

    def _call(self, scheme: str) -> None:
        with self._stack.client(scheme, label="stable") as client:
            while not self._over.is_set():
                try:
                    client.classify(BLANK)
                except ServableError as error:
                    self.errors.append(error)
                else:
                    self.answers += 1
                # A caller takes its time: the key has its rate.
                self._over.wait(0.05)

    def __enter__(self) -> Self:
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for caller in self._callers:
            caller.join()

    def more(self, count: int) -> None:
        """Wait for as many answers more."""
        wanted = self.answers + count
        eventually(lambda: self.answers >= wanted or self.errors, why="answers")


def requests_of(container: str) -> float:
    """How many a server has answered, as it tells itself."""
    done = run(
        "docker", "exec", container, "bash", "-c",
        "exec 3<>/dev/tcp/127.0.0.1/8501 && printf 'GET /monitoring/prometheus/metrics HTTP/1.0"
        "\\r\\n\\r\\n' >&3 && cat <&3",
    )  # fmt: skip
    counts = re.findall(r"^:tensorflow:serving:request_count\{.*\} ([\d.e+]+)", done.stdout, re.M)
    return sum(map(float, counts))


def test_all_servers_are_asked_and_one_that_goes_is_not_missed(three: Stack) -> None:
    names = [container["Name"].lstrip("/") for container in three.containers("serving")]
    assert len(names) == 3
    with Load(three) as load:
        before = {name: requests_of(name) for name in names}
        # Those whose connection was made to the first server go on to the others, too.
        eventually(
            lambda: all(requests_of(name) > before[name] + 10 for name in names) or load.errors,
            why="traffic at all three servers",
        )
        assert run("docker", "stop", "--time", "15", names[1]).returncode == 0
        load.more(200)
    assert load.errors == []


def test_a_release_reaches_all_of_them(three: Stack) -> None:
    at = (
        "--repository", three.models / NAME, "--server", three.grpcs, "--api-key", ADMIN,
        "--ca", three.ca, "--timeout", 600,
    )  # fmt: skip
    skipped = [
        word
        for gate in ("trial", "accuracy", "latency", "size")
        for word in ("--skip", gate, "--why", "it is the shipped version")
    ]
    with Load(three) as load:
        done = servable("push", SHIPPED, *skipped, *at)
        assert done.returncode == 0, done.stderr
        (version,) = re.findall(r"is version (\d+) of", done.stdout)
        assert f"by version {version} at each of 3 servers" in done.stderr
        assert servable("promote", version, *at).returncode == 0
        load.more(50)
        done = servable("rollback", "--to", 1, *at)
        assert done.returncode == 0, done.stderr
        load.more(50)
    assert load.errors == []
    assert not list((three.models / NAME).glob(".rejected/*"))
