"""Profile `monitoring`, without Grafana, of which there is no stand-in."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from tests.conftest import NAME
from tests.system.stack.stacks import Stack, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

BLANK = np.zeros((28, 28), np.uint8)


@pytest.fixture
def watched(stack: Stack) -> Iterator[Stack]:
    """The stack with Prometheus and the gateway's companion."""
    stack.up("prometheus", "gateway-metrics", "gateway", "serving")
    yield stack
    stack(
        "--profile", "monitoring", "rm", "--stop", "--force",
        "prometheus", "prometheus-volume", "gateway-metrics",
    )  # fmt: skip


def ask(stack: Stack, query: str) -> list[dict[str, Any]]:
    """What Prometheus finds."""
    answer = requests.get(
        f"http://127.0.0.1:{stack.ports['PROMETHEUS']}/api/v1/query",
        params={"query": query},
        timeout=60,
    ).json()
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def test_prometheus_shows_the_servers_and_the_gateways_metrics(watched: Stack) -> None:
    def everybody_up() -> bool:
        up = {one["metric"]["job"]: one["value"][1] for one in ask(watched, "up")}
        return up == {"serving": "1", "gateway-metrics": "1", "prometheus": "1"}

    eventually(everybody_up, why="all targets")
    with watched.client("grpcs", label="stable") as by_grpc, watched.client("https") as by_rest:

        def seen(query: str) -> bool:
            # The gateway takes a second to find its companion.
            by_grpc.classify(BLANK)
            by_rest.classify(BLANK)
            return bool(ask(watched, query))

        for query in (
            f':tensorflow:serving:request_count{{model_name="{NAME}",status="OK"}} > 0',
            f':tensorflow:serving:request_latency_count{{model_name="{NAME}"}} > 0',
            'servable_gateway_requests_total{transport="grpc",method="predict"} > 0',
            f'servable_gateway_requests_total{{model="{NAME}",transport="rest"}} > 0',
        ):
            eventually(partial(seen, query), why=query)


def test_its_rules_are_loaded(watched: Stack) -> None:
    found = requests.get(
        f"http://127.0.0.1:{watched.ports['PROMETHEUS']}/api/v1/rules", timeout=60
    ).json()
    rules = [rule for group in found["data"]["groups"] for rule in group["rules"]]
    assert any(rule["type"] == "alerting" for rule in rules)
    assert all(rule["health"] != "err" for rule in rules)


def test_the_companion_is_contained_too(watched: Stack) -> None:
    for service in ("prometheus", "gateway-metrics"):
        (container,) = watched.containers(service)
        config, host = container["Config"], container["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert int(config["User"].partition(":")[0]) > 0
        assert all(
            binding["HostIp"] == "127.0.0.1"
            for bindings in container["NetworkSettings"]["Ports"].values()
            for binding in bindings or ()
        )
