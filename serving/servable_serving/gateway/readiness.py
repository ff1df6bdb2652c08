"""Polls once a second whether every model is available, and reports it as metrics."""

from __future__ import annotations

import http.client
import json
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from servable_serving.core.names import is_shadow
from servable_serving.gateway.certificate import expiry
from servable_serving.gateway.nginx import READY
from servable_serving.gateway.traffic import lines
from servable_serving.repository.models_config import NAME, ModelsConfig, ModelsConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from servable_serving.gateway.settings import Settings
    from servable_serving.repository.traffic import Route

logger = logging.getLogger("servable.gateway")

AVAILABLE = "AVAILABLE"
_DEFAULT_MODEL = "fashion_mnist"
_ASK_SECONDS = 2.0
_LARGEST_ANSWER = 1 << 20

# A version's state, as TensorFlow Serving names it, by its number.
States = dict[int, str]


class View(Protocol):
    """The state that nginx was configured with."""

    @property
    def addresses(self) -> Sequence[str]:
        """The addresses of the model servers."""

    @property
    def metrics_address(self) -> str | None:
        """The address of `servable gateway-metrics`, if known."""

    @property
    def traffic(self) -> Mapping[str, Sequence[Route]]:
        """The routes of each model."""


class StatusSource(Protocol):
    """Queries the states of a model's versions at servers."""

    def __call__(self, address: str, model: str) -> States:
        """The states; none if the server does not answer or does not know the model."""


class MetricsSink(Protocol):
    """Sends messages to `servable gateway-metrics`."""

    def __call__(self, address: str, message: Mapping[str, Any]) -> None:
        """Send one message, without confirmation."""


@dataclass(frozen=True)
class Readiness:
    """Whether every model is available.

    Attributes:
        ready: Whether it is.
        summary: A sentence that says so, or names a model that is not.
    """

    ready: bool
    summary: str


class ReadinessCheck:
    """Polls the servers, and maintains the file that /readyz checks.

    Args:
        settings: The gateway's.
        view: What it has in force.
        ask: Asks a server.
        send: Sends a message.
    """

    def __init__(
        self, settings: Settings, view: View, *, ask: StatusSource, send: MetricsSink
    ) -> None:
        self._settings, self._view, self._ask, self._send = settings, view, ask, send
        self._config = ModelsConfig(settings.models_root)
        self._ready_file = settings.run / READY
        self._models: list[str] | None = None
        self._logged = ""
        self._config_error = ""

    def step(self) -> Readiness:
        """Query every server for every model, once."""
        found = self._check()
        if found.ready:
            self._ready_file.touch()
        else:
            self._ready_file.unlink(missing_ok=True)
        if found.summary != self._logged:
            logger.info("%s", found.summary)
            self._logged = found.summary
        self._report(found)
        return found

    def _check(self) -> Readiness:
        models = self._wanted()
        if models is None:
            return Readiness(ready=False, summary=f"{NAME} cannot be read")
        found = Readiness(ready=True, summary="every model is AVAILABLE")
        for model in models:
            if not self._is_available(model):
                found = Readiness(ready=False, summary=f"no server has {model} AVAILABLE")
        return found

    def _is_available(self, model: str) -> bool:
        available = False
        for address in self._view.addresses:
            states = self._ask(address, model)
            available = available or AVAILABLE in states.values()
            self._tell(
                {
                    "kind": "status",
                    "server": address,
                    "model": model,
                    "versions": {str(number): state for number, state in states.items()},
                }
            )
        return available

    def _wanted(self) -> list[str] | None:
        """The models that must be available; None if models.config could never be read."""
        if self._settings.models:
            return list(self._settings.models)
        try:
            models = [name for name in self._config.all_labels() if not is_shadow(name)]
        except ModelsConfigError as error:
            # The servers keep the last valid one, too.
            if str(error) != self._config_error:
                self._config_error = str(error)
                logger.warning("%s", error)
            return self._models
        self._config_error = ""
        self._models = models if models or self._config.path.exists() else [_DEFAULT_MODEL]
        return self._models

    def _report(self, found: Readiness) -> None:
        expires = expiry(self._settings.certificate)
        self._tell(
            {
                "kind": "gateway",
                "ready": int(found.ready),
                "servers": len(self._view.addresses),
                "certificate_expires": None if expires is None else int(expires.timestamp()),
            }
        )
        # As nginx has them: `servable canary` unloads a version once nginx sends nothing to it.
        self._tell({"kind": "traffic", "routes": lines(self._view.traffic)})

    def _tell(self, message: Mapping[str, Any]) -> None:
        address = self._view.metrics_address
        if address is not None:
            self._send(address, message)


class RestStatus:
    """Queries servers over REST.

    Args:
        port: The servers' REST port.
    """

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(self, address: str, model: str) -> States:
        """See `StatusSource`."""
        connection = http.client.HTTPConnection(address, self._port, timeout=_ASK_SECONDS)
        try:
            connection.request("GET", f"/v1/models/{quote(model, safe='')}")
            return parse_status(connection.getresponse().read(_LARGEST_ANSWER))
        except (OSError, http.client.HTTPException):
            return {}
        finally:
            connection.close()


def parse_status(body: bytes) -> States:
    """The states in TensorFlow Serving's response; none if it is of another form."""
    try:
        versions = json.loads(body)["model_version_status"]
        return {int(each["version"]): str(each["state"]) for each in versions}
    except (ValueError, LookupError, TypeError):
        return {}


class SyslogSender:
    """Sends messages as syslog over UDP.

    Args:
        port: Where `servable gateway-metrics` listens.
    """

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(self, address: str, message: Mapping[str, Any]) -> None:
        """See `MetricsSink`."""
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(syslog_line(message), (address, self._port))
        except OSError:
            logger.debug("cannot send to %s", address, exc_info=True)


def syslog_line(message: Mapping[str, Any]) -> bytes:
    """A message of facility local7, severity info, as nginx sends its own."""
    return b"<190>servable: " + json.dumps(message, separators=(",", ":")).encode()
