"""`docker compose up --scale serving=3`: the load is shared, and a server may go."""

from __future__ import annotations

import re

import pytest
from tests.system.stack.stacks import Load, Stack, eventually, run

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]


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
