"""A release at `docker compose up --scale serving=3`; after the tests of one server alone."""

from __future__ import annotations

import re

import pytest
from tests.conftest import NAME, SHIPPED
from tests.forked import servable
from tests.system.stack.stacks import ADMIN, Load, Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]


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
