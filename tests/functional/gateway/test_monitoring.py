"""Prometheus' scrape jobs and alert rules, and the dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
import yaml
from tests.conftest import NAME, ROOT, SHIPPED, free_port
from tests.functional.gateway.gateway import ROWS, answers, companion, gateway
from tests.functional.serving.calls import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RunningServer
    from tests.functional.gateway.gateway import Gateway

MONITORING = ROOT / "serving" / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboards" / "servable.json").read_text())

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="Prometheus is not installed",
)


def read_yaml(name: str) -> Any:
    return yaml.safe_load((MONITORING / name).read_text())


def rules() -> list[dict[str, Any]]:
    return [rule for group in read_yaml("rules.yml")["groups"] for rule in group["rules"]]


ALERTS = [rule["alert"] for rule in rules() if "alert" in rule]


@needs_prometheus
def test_promtool_accepts_the_configuration() -> None:
    for arguments in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules.test.yml"),
    ):
        done = subprocess.run(
            ["promtool", *arguments],
            cwd=MONITORING,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_fires_in_one_test_and_not_in_another(alert: str) -> None:
    """So that no untested alert is added; promtool runs the tests."""
    tried = [
        case
        for test in read_yaml("rules.test.yml")["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
    ]
    assert any(case["exp_alerts"] for case in tried)
    assert any(not case["exp_alerts"] for case in tried)


def test_each_alert_is_documented() -> None:
    assert len(ALERTS) == len(set(ALERTS)) > 10
    docs = (ROOT / "docs" / "monitoring.md").read_text()
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"critical", "warning", "info"}
            assert rule["annotations"]["summary"]
            assert rule["annotations"]["description"]
            assert f"`{rule['alert']}`" in docs


def targets() -> list[tuple[str, str]]:
    """Each query of the dashboard, with its panel's title."""
    return [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]


def plain(expression: str) -> str:
    """A query as Grafana would send it."""
    return expression.replace("$__rate_interval", "1m").replace("$model", ".*")


_NAME = re.compile(r"(?<![\w:$\"])(:tensorflow:[\w:]+|servable[\w:]*|process_\w+|up)(?=[{\[)\s]|$)")


@pytest.fixture(scope="module")
def prometheus(
    backend: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Gateway]]:
    """Prometheus with the shipped rules and jobs; addresses and intervals are the test's."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "models").mkdir()
    (folder / "models" / "models.traffic").write_text("linear canary 2 50\nlinear stable 1 50\n")
    shutil.copy(MONITORING / "rules.yml", folder)
    config = read_yaml("prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    port, mirror = free_port(), free_port()
    with (
        companion(
            "--upstream=127.0.0.1",
            "--upstream-grpc-port",
            backend.port,
            "--upstream-rest-port",
            backend.rest_port,
            "--mirror-port",
            mirror,
            "--models-root",
            SHIPPED.parents[1],
        ) as (page, syslog),
        gateway(
            folder,
            grpc_port=backend.port,
            rest_port=backend.rest_port,
            SERVABLE_METRICS_SYSLOG=syslog,
            SERVABLE_MIRROR_PORT=mirror,
            SERVABLE_OBSERVE=100,
        ) as running,
    ):
        addresses = {
            "serving": f"127.0.0.1:{backend.rest_port}",
            "gateway-metrics": page.removeprefix("http://").removesuffix("/metrics"),
            "prometheus": f"127.0.0.1:{port}",
        }
        for job in config["scrape_configs"]:
            job.pop("dns_sd_configs", None)
            job["static_configs"] = [{"targets": [addresses[job["job_name"]]]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with (folder / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    "prometheus", f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )  # fmt: skip
        try:
            eventually(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), 120)
            running.ask()
            yield f"http://127.0.0.1:{port}", running
        finally:
            process.terminate()
            process.wait(60)


def query(address: str, expression: str) -> list[Any]:
    answer = requests.get(
        f"{address}/api/v1/query", params={"query": expression}, timeout=60
    ).json()
    assert answer["status"] == "success", (expression, answer)
    return list(answer["data"]["result"])


def traffic(gateway: Gateway) -> None:
    for path in ("linear:predict", "linear/versions/2:predict", "shoes:predict"):
        gateway.ask(path)
    gateway.ask(f"{NAME}:predict", json={"instances": [[[0] * 28] * 28]})
    with gateway.client("grpc") as client:
        client.predict({"x": np.array(ROWS, np.float32)}, version=1)


@needs_prometheus
def test_every_panel_shows_something(prometheus: tuple[str, Gateway]) -> None:
    """Each query parses, names metrics that are there, and has an answer under real traffic."""
    address, gateway = prometheus

    eventually(lambda: len(query(address, "up == 1")) == 3, 120)

    def empty() -> list[tuple[str, str]]:
        traffic(gateway)
        return [(title, e) for title, e in targets() if not query(address, plain(e))]

    left: list[tuple[str, str]] = []

    def shown() -> bool:
        nonlocal left
        left = empty()
        return not left

    try:
        eventually(shown, 300)
    except AssertionError:
        pytest.fail(f"panels without data: {left}")
    known = set(requests.get(f"{address}/api/v1/label/__name__/values", timeout=60).json()["data"])
    for title, expression in targets():
        names = _NAME.findall(expression)
        assert names, (title, expression)
        assert set(names) <= known, (title, set(names) - known)

    def recorded() -> set[str]:
        rates = query(address, "servable:requests:rate5m")
        return {rate["metric"].get("model") for rate in rates}

    # No panel shows it: it may be recorded a moment after they are full.
    eventually(lambda: "linear" in recorded(), 120)


@needs_prometheus
def test_every_alert_is_evaluated_and_names_existing_metrics(
    prometheus: tuple[str, Gateway],
) -> None:
    address, running = prometheus

    def groups() -> list[Any]:
        answer = requests.get(f"{address}/api/v1/rules", timeout=60).json()
        return list(answer["data"]["groups"])

    def evaluated() -> bool:
        found = [rule for group in groups() for rule in group["rules"]]
        return bool(found) and all(rule["health"] == "ok" for rule in found)

    eventually(evaluated, 120)
    known: set[str] = set()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    wanted = set().union(*(_NAME.findall(rule["expr"]) for rule in rules())) - recorded

    def all_known() -> bool:
        traffic(running)
        answer = requests.get(f"{address}/api/v1/label/__name__/values", timeout=60).json()
        known.update(answer["data"])
        return wanted <= known

    try:
        eventually(all_known, 300)
    except AssertionError:
        pytest.fail(f"nobody gives {wanted - known}")
    for rule in rules():
        names = set(_NAME.findall(rule["expr"]))
        assert names, rule
        assert names <= known | recorded, names - known


def test_the_servers_metrics_are_tensorflow_servings() -> None:
    """What the dashboard asks of a server is in the recorded page of TensorFlow Serving 2.20.0."""
    transcript = json.loads(
        (ROOT / "tests/functional/serving/conformance/transcripts/monitoring.json").read_text()
    )
    page = next(s["expect"]["body"] for s in transcript["steps"] if s["id"] == "metrics")
    asked = {
        name
        for _, expression in targets()
        for name in _NAME.findall(expression)
        if name.startswith(":tensorflow")
    }
    assert asked
    for name in asked:
        assert f"\n{name}{{" in page, name


def test_grafana_is_provisioned_as_the_dashboard_wants_it() -> None:
    sources = read_yaml("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    uids = {source["uid"] for source in sources}
    providers = read_yaml("grafana/provisioning/dashboards/servable.yml")["providers"]
    assert [p["options"]["path"] for p in providers] == ["/var/lib/grafana/dashboards"]
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    for panel in panels:
        assert panel["datasource"]["uid"] in uids
        assert {target["datasource"]["uid"] for target in panel["targets"]} <= uids
        assert panel["description"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    # No two panels lie on each other.
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
