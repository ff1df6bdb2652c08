"""The gateway's requests and state as Prometheus metrics.

nginx sends a log line for each request, and `servable gateway` the state of the servers once a
second, as syslog over UDP; here they become counters, histograms and gauges. Nothing waits for
delivery: without a listener the messages are lost, and the gateway is not affected.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily

from servable_client._errors import code_of_http_status
from servable_client._wire.status import STATUS_CODES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "servable_gateway_"

# Seconds; each about 1.5 times the previous one, fine enough to compare two versions.
BUCKETS = (
    0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075,
    0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip

_METHODS = {
    "predict": "predict",
    "classify": "classify",
    "regress": "regress",
    "metadata": "metadata",
    "status": "status",
    "Predict": "predict",
    "Classify": "classify",
    "Regress": "regress",
    "MultiInference": "multi_inference",
    "GetModelMetadata": "metadata",
    "GetModelStatus": "status",
    "HandleReloadConfigRequest": "reload",
}
_STATES = ("START", "LOADING", "AVAILABLE", "UNLOADING", "END")
_OTHER = "other"
# How many names of a kind have series of their own; the rest share one.
_MOST = {"model": 50, "label": 20, "version": 100, "server": 64}
# Seconds after which a report of the gateway is out of date.
_STALE = 15.0


@dataclass
class _Names:
    """Names with series of their own: clients must not be able to exhaust the memory."""

    most: int
    known: set[str] = field(default_factory=set)

    def admit(self, name: str) -> None:
        if len(self.known) < self.most:
            self.known.add(name)

    def fold(self, name: str) -> str:
        return name if not name or name in self.known else _OTHER


class GatewayMetrics:
    """Counts the gateway's messages.

    Example:
        >>> metrics = GatewayMetrics()
        >>> metrics.read(b'<190>Nov 24 22:00:00 servable: {"kind":"request", ...}')
        >>> generate_latest(metrics.registry)
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        names = ["model", "version", "label", "method", "transport"]
        requests = Counter(
            f"{PREFIX}requests",
            "Requests, by the status sent to the client.",
            [*names, "status"],
            registry=self.registry,
        )
        seconds = Histogram(
            f"{PREFIX}request_seconds",
            "Latency of successful requests, from the first byte read to the last byte sent.",
            names,
            buckets=BUCKETS,
            registry=self.registry,
        )
        served = Counter(
            f"{PREFIX}server_requests",
            "Requests passed on, by the server that answered.",
            ["server"],
            registry=self.registry,
        )
        self._requests = cache(requests.labels)
        self._seconds = cache(seconds.labels)
        self._served = cache(served.labels)
        self._received = Counter(
            f"{PREFIX}received_bytes", "Bytes received from clients.", registry=self.registry
        )
        self._sent = Counter(
            f"{PREFIX}sent_bytes", "Bytes sent to clients.", registry=self.registry
        )
        self._invalid = Counter(
            f"{PREFIX}invalid_messages",
            "Messages that could not be parsed.",
            registry=self.registry,
        )
        self._heard = Gauge(
            f"{PREFIX}last_heard_timestamp_seconds",
            "Time of the gateway's last report, in seconds since 1970.",
            registry=self.registry,
        )
        self._names = {kind: _Names(most) for kind, most in _MOST.items()}
        self._state = _State()
        self.registry.register(self._state)

    def read(self, datagram: bytes) -> None:
        """Process one message; an invalid one is counted and otherwise ignored."""
        try:
            message = orjson.loads(datagram[datagram.index(b"{") :])
            kind = message["kind"]
            if kind == "request":
                self._request(message)
            elif kind == "status":
                self._status(message)
            elif kind == "gateway":
                self._state.gateway(message)
                self._heard.set(time.time())
            elif kind == "traffic":
                self._traffic(message)
            else:
                self._invalid.inc()
        except (ValueError, LookupError, TypeError, AttributeError):
            self._invalid.inc()

    def _request(self, line: Mapping[str, str]) -> None:
        transport = line["transport"] if line["transport"] in ("rest", "grpc") else "page"
        status = _code(transport, line["status"], line["grpc_status"])
        seconds, received, sent = (float(line[k]) for k in ("seconds", "bytes_in", "bytes_out"))
        if status == "OK":
            # A server answered, so these exist; names of failed requests may be anything.
            for kind in ("model", "label", "version"):
                if line[kind]:
                    self._names[kind].admit(line[kind])
        model, label, version = (
            self._names[k].fold(line[k]) for k in ("model", "label", "version")
        )
        if model == _OTHER:
            label = version = _OTHER
        method = _METHODS.get(line["method"], _OTHER if transport != "page" else "")
        series = (model, version, label, method, transport)
        self._requests(*series, status).inc()
        if status == "OK":
            self._seconds(*series).observe(seconds)
        self._received.inc(received)
        self._sent.inc(sent)
        # After retries nginx lists all servers tried, "a, b"; a group's name: none was reached.
        server = line["upstream"].rpartition(", ")[2]
        if ":" in server:
            self._names["server"].admit(server)
            self._served(self._names["server"].fold(server)).inc()
        self._state.connections(int(line["connections"]), int(line["busy"]))

    def _status(self, message: Mapping[str, Any]) -> None:
        model, server = str(message["model"]), str(message["server"])
        for kind, name in (("model", model), ("server", server)):
            self._names[kind].admit(name)
        versions = {
            int(number): state for number, state in message["versions"].items() if state in _STATES
        }
        highest = sorted(versions)[-_MOST["version"] :]
        for number in highest:
            self._names["version"].admit(str(number))
        self._state.status(
            self._names["model"].fold(model),
            self._names["server"].fold(server),
            {number: versions[number] for number in highest},
        )

    def _traffic(self, message: Mapping[str, Any]) -> None:
        routes = []
        for route in message["routes"]:
            model, label, version, percent = route.split(" ")
            for kind, name in (("model", model), ("label", label), ("version", version)):
                self._names[kind].admit(name)
            routes.append(
                (
                    self._names["model"].fold(model),
                    self._names["label"].fold(label),
                    int(version),
                    float(percent) / 100,
                )
            )
        self._state.traffic(routes)


def _code(transport: str, status: str, grpc_status: str) -> str:
    """The canonical code, by name, of an answer."""
    number = int(status)
    if transport == "grpc" and number == 200:
        # Without one the call was interrupted, by the client or by the server.
        return STATUS_CODES[int(grpc_status)] if grpc_status else "CANCELLED"
    if number == 499:
        return "CANCELLED"
    return "OK" if 200 <= number < 400 else code_of_http_status(number)


class _State:
    """The last reports of the servers and the gateway; stale ones are not exported."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[tuple[str, str], tuple[float, dict[int, str]]] = {}
        self._routes: tuple[float, list[tuple[str, str, int, float]]] = (0.0, [])
        self._gateway: tuple[float, Mapping[str, Any]] = (0.0, {})
        self._connections: tuple[float, int, int] = (0.0, 0, 0)

    def status(self, model: str, server: str, versions: dict[int, str]) -> None:
        with self._lock:
            self._versions[model, server] = (time.monotonic(), versions)

    def traffic(self, routes: list[tuple[str, str, int, float]]) -> None:
        with self._lock:
            self._routes = (time.monotonic(), routes)

    def gateway(self, message: Mapping[str, Any]) -> None:
        float(message["ready"]), float(message["servers"])
        with self._lock:
            self._gateway = (time.monotonic(), dict(message))

    def connections(self, all_of_them: int, busy: int) -> None:
        with self._lock:
            self._connections = (time.monotonic(), all_of_them, busy)

    def describe(self) -> list[GaugeMetricFamily]:
        """No names in advance; without this prometheus_client would collect at once."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        old = time.monotonic() - _STALE
        with self._lock:
            self._versions = {k: v for k, v in self._versions.items() if v[0] > old}
            versions = {key: dict(found) for key, (_, found) in self._versions.items()}
            routes = self._routes[1] if self._routes[0] > old else []
            gateway = self._gateway[1] if self._gateway[0] > old else None
            connections = self._connections[1:] if self._connections[0] > old else (0, 0)
        yield from _server_gauges(versions)
        yield from _route_gauges(routes)
        if gateway is not None:
            yield from _gateway_gauges(gateway, connections)


def _server_gauges(
    versions: Mapping[tuple[str, str], dict[int, str]],
) -> Iterator[GaugeMetricFamily]:
    state = GaugeMetricFamily(
        "servable_model_version_state",
        "1 for the current state of a version on a server.",
        labels=["model", "server", "version", "state"],
    )
    available = GaugeMetricFamily(
        "servable_model_available_versions",
        "Number of AVAILABLE versions of a model on a server; 0 if it did not answer.",
        labels=["model", "server"],
    )
    for (model, server), found in sorted(versions.items()):
        for number, name in sorted(found.items()):
            state.add_metric([model, server, str(number), name], 1)
        available.add_metric([model, server], sum(s == "AVAILABLE" for s in found.values()))
    yield state
    yield available


def _route_gauges(routes: list[tuple[str, str, int, float]]) -> Iterator[GaugeMetricFamily]:
    version = GaugeMetricFamily(
        "servable_model_label_version", "Version of a label.", labels=["model", "label"]
    )
    share = GaugeMetricFamily(
        "servable_model_label_share",
        "Share of REST requests without a version that goes to a label, 0 to 1.",
        labels=["model", "label"],
    )
    for model, label, number, part in routes:
        version.add_metric([model, label], number)
        share.add_metric([model, label], part)
    yield version
    yield share


def _gateway_gauges(
    gateway: Mapping[str, Any], connections: tuple[int, ...]
) -> Iterator[GaugeMetricFamily]:
    values: list[tuple[str, str, Any]] = [
        ("ready", "1 if every model is AVAILABLE on some server.", gateway["ready"]),
        ("servers", "Number of server addresses.", gateway["servers"]),
        ("connections", "Open connections, as of the last request.", connections[0]),
        (
            "busy_connections",
            "Connections with a request in flight, as of the last request.",
            connections[1],
        ),
        (
            "certificate_expires_timestamp_seconds",
            "Expiry time of the certificate, in seconds since 1970.",
            gateway.get("certificate_expires"),
        ),
    ]
    for name, text, value in values:
        if value is not None:
            yield GaugeMetricFamily(f"{PREFIX}{name}", text, value=float(value))
