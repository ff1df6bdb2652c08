"""A release at `docker compose up --scale serving=3`; after the tests of one server alone."""

from __future__ import annotations

import json
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


def test_a_version_is_asked_in_the_shadow_of_them(three: Stack) -> None:
    """After a release, which leaves a version that is not stable."""
    three.up("--no-deps", "gateway-metrics")
    at = ("--repository", three.models / NAME, "--server", three.grpcs, "--api-key", ADMIN,
          "--ca", three.ca, "--timeout", 600)  # fmt: skip
    listed = json.loads(servable("versions", *at[:-2], "--json").stdout)
    version = max(one["version"] for one in listed if "stable" not in one["labels"])
    with Load(three) as load:
        done = servable(
            "shadow", version, *at, "--for", "20s", "--min-requests", 20,
            "--max-latency-ratio", 100, "--json",
            "--mirror", f"http://127.0.0.1:{three.ports['GATEWAY_MIRROR']}",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load.errors == []
    answers = json.loads(done.stdout)["answers"]
    assert answers["transports"].keys() == {"grpc", "rest"}
    assert (answers["differ"], answers["version"]["errors"]) == (0, 0)
    three("rm", "--stop", "--force", "gateway-metrics")
