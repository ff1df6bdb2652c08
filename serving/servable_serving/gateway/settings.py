"""The gateway's settings, from the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Self

from servable_serving.core.addresses import is_ip_address, is_loopback
from servable_serving.gateway.errors import USAGE, GatewayError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Every variable that is read, with its default; an empty one counts as unset. Defaults that depend
# on other settings or on the machine are "" here.
DEFAULTS: Mapping[str, str] = {
    "SERVABLE_BIND": "127.0.0.1",
    "SERVABLE_UPSTREAM": "serving",
    "SERVABLE_UPSTREAM_GRPC_PORT": "8500",
    "SERVABLE_UPSTREAM_REST_PORT": "8501",
    "SERVABLE_API_KEYS_FILE": "",
    "SERVABLE_ADMIN_KEYS_FILE": "",
    "SERVABLE_MAX_BODY": "64m",
    "SERVABLE_COMPRESSED_BODIES": "refuse",
    "SERVABLE_RATE": "1000",
    "SERVABLE_BURST": "",
    "SERVABLE_UNKNOWN_KEY_RATE": "10",
    "SERVABLE_TIMEOUT": "60",
    "SERVABLE_CORS_ORIGINS": "",
    "SERVABLE_METRICS_SYSLOG": "",
    "SERVABLE_MIRROR_PORT": "9146",
    "SERVABLE_OBSERVE": "0",
    "SERVABLE_MODELS_ROOT": "/models",
    "SERVABLE_MODELS": "",
    "SERVABLE_CERTS": "/certs",
    "SERVABLE_CERTIFICATE": "",
    "SERVABLE_CERTIFICATE_KEY": "",
    "SERVABLE_TLS_NAMES": "localhost,gateway,127.0.0.1,::1",
    "SERVABLE_WEB": "",
    "SERVABLE_RUN": "/tmp/servable-gateway",  # noqa: S108 - a file system of its own in a container
    "SERVABLE_ACCESS_LOG": "/dev/stdout",
    "SERVABLE_LOG_LEVEL": "error",
    "SERVABLE_WORKERS": "",
    "SERVABLE_TLS_PORT": "8443",
    "SERVABLE_GRPC_PORT": "8500",
    "SERVABLE_REST_PORT": "8501",
    "SERVABLE_LISTEN": "",
}

_SIZE = re.compile(r"[0-9]+[kKmMgG]?")
_RATE = re.compile(r"([0-9]+)(?:r/([sm]))?")
_ADDRESS = re.compile(r"[A-Za-z0-9.:_-]+")
_NAME = re.compile(r"[A-Za-z0-9._*-]+")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:_-]+")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,2})?)%?")
_TARGET = re.compile(r"([A-Za-z0-9._-]+):([0-9]+)")
_LOG_LEVELS = ("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")
_MOST_WORKERS = 4
_LAST_PORT = 65535


class SettingsError(GatewayError):
    """A setting is invalid.

    Attributes:
        variable: The variable that holds it.
    """

    def __init__(self, variable: str, message: str) -> None:
        super().__init__(message, exit_status=USAGE)
        self.variable = variable


@dataclass(frozen=True)
class Rate:
    """Requests in a unit of time; 0 for no limit.

    Attributes:
        requests: How many.
        unit: `s` or `m`.
    """

    requests: int
    unit: str = "s"

    def __str__(self) -> str:
        return f"{self.requests}r/{self.unit}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, valid and with defaults filled in; docs/gateway.md explains each.

    Attributes:
        contained: Whether this runs in a container, whose engine publishes the ports on `bind`.
    """

    bind: str
    listen: str
    contained: bool
    upstream: tuple[str, ...]
    upstream_grpc_port: int
    upstream_rest_port: int
    api_keys_file: Path | None
    admin_keys_file: Path | None
    max_body: str
    compressed_bodies: str
    rate: Rate
    burst: int
    unknown_key_rate: Rate
    timeout: int
    cors_origins: tuple[str, ...]
    metrics_syslog: tuple[str, int] | None
    mirror_port: int
    observe: float
    models_root: Path
    models: tuple[str, ...]
    certs: Path
    certificate: Path
    certificate_key: Path
    tls_names: tuple[str, ...]
    web: Path
    run: Path
    access_log: str
    log_level: str
    workers: int
    tls_port: int
    grpc_port: int
    rest_port: int

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str],
        *,
        contained: bool | None = None,
        cores: int | None = None,
    ) -> Self:
        """Read and check all settings.

        Args:
            environment: The variables.
            contained: Whether this runs in a container; default: looked up.
            cores: The machine's processor cores; default: looked up.

        Raises:
            SettingsError: A value is invalid.
        """
        read = _Reader(environment)
        if contained is None:
            contained = in_container(environment)
        if cores is None:
            cores = len(os.sched_getaffinity(0))
        bind = read.matching("SERVABLE_BIND", _ADDRESS, "an address")
        rate = read.rate("SERVABLE_RATE")
        certs = read.path("SERVABLE_CERTS")
        listen = read.text("SERVABLE_LISTEN") or ("0.0.0.0" if contained else bind)  # noqa: S104
        listen = listen.translate({ord("["): None, ord("]"): None})
        if not _ADDRESS.fullmatch(listen):
            raise invalid("SERVABLE_LISTEN", listen, "an address")
        return cls(
            bind=bind,
            listen=listen,
            contained=contained,
            upstream=read.each(
                "SERVABLE_UPSTREAM", _ADDRESS, "a host name, or several with commas", needed=True
            ),
            upstream_grpc_port=read.port("SERVABLE_UPSTREAM_GRPC_PORT"),
            upstream_rest_port=read.port("SERVABLE_UPSTREAM_REST_PORT"),
            api_keys_file=read.optional_path("SERVABLE_API_KEYS_FILE"),
            admin_keys_file=read.optional_path("SERVABLE_ADMIN_KEYS_FILE"),
            max_body=read.matching("SERVABLE_MAX_BODY", _SIZE, "e.g. 64m"),
            compressed_bodies=read.one_of("SERVABLE_COMPRESSED_BODIES", ("refuse", "pass")),
            rate=rate,
            burst=read.number("SERVABLE_BURST", "a number of requests", default=rate.requests),
            unknown_key_rate=read.rate("SERVABLE_UNKNOWN_KEY_RATE"),
            timeout=read.number("SERVABLE_TIMEOUT", "a number of seconds", least=1),
            cors_origins=read.origins("SERVABLE_CORS_ORIGINS"),
            metrics_syslog=read.target("SERVABLE_METRICS_SYSLOG"),
            mirror_port=read.port("SERVABLE_MIRROR_PORT"),
            observe=read.percent("SERVABLE_OBSERVE"),
            models_root=read.path("SERVABLE_MODELS_ROOT"),
            models=read.each("SERVABLE_MODELS", _NAME, "names of models, with commas"),
            certs=certs,
            certificate=read.optional_path("SERVABLE_CERTIFICATE") or certs / "tls.crt",
            certificate_key=read.optional_path("SERVABLE_CERTIFICATE_KEY") or certs / "tls.key",
            tls_names=read.tls_names("SERVABLE_TLS_NAMES"),
            web=read.optional_path("SERVABLE_WEB") or Path(str(files("servable_serving") / "web")),
            run=read.path("SERVABLE_RUN"),
            access_log=read.log("SERVABLE_ACCESS_LOG"),
            log_level=read.one_of("SERVABLE_LOG_LEVEL", _LOG_LEVELS),
            workers=read.number(
                "SERVABLE_WORKERS", "a number of processes", least=1,
                default=min(cores, _MOST_WORKERS),
            ),
            tls_port=read.port("SERVABLE_TLS_PORT"),
            grpc_port=read.port("SERVABLE_GRPC_PORT"),
            rest_port=read.port("SERVABLE_REST_PORT"),
        )  # fmt: skip

    @property
    def cors_varies(self) -> bool:
        """Whether responses depend on the request's origin (`Vary: Origin`)."""
        return bool(self.cors_origins) and self.cors_origins != ("*",)

    def check_exposure(self, *, with_keys: bool) -> None:
        """Refuse to serve other machines without API keys.

        Raises:
            SettingsError: There are none, and the address is not this machine's alone.
        """
        # In a container only `bind` shows where the ports are published.
        here_alone = is_loopback(self.bind) and (self.contained or is_loopback(self.listen))
        if not with_keys and not here_alone:
            address = self.bind if self.contained else self.listen
            raise SettingsError(
                "SERVABLE_BIND",
                f"without API keys the gateway serves this machine alone, and would be open at"
                f" {address}: name a file of name:key lines in SERVABLE_API_KEYS_FILE, or bind"
                f" 127.0.0.1",
            )


class _Reader:
    """Typed access to the variables."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, variable: str) -> str:
        return self._environment.get(variable) or DEFAULTS[variable]

    def matching(self, variable: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self.text(variable)
        if not pattern.fullmatch(value):
            raise invalid(variable, value, expected)
        return value

    def each(
        self, variable: str, pattern: re.Pattern[str], expected: str, *, needed: bool = False
    ) -> tuple[str, ...]:
        text = self.text(variable)
        values = _listed(text)
        if not all(pattern.fullmatch(value) for value in values) or (needed and not values):
            raise invalid(variable, text, expected)
        return values

    def one_of(self, variable: str, choices: tuple[str, ...]) -> str:
        value = self.text(variable)
        if value not in choices:
            raise invalid(variable, value, f"one of {', '.join(choices)}")
        return value

    def number(
        self, variable: str, expected: str, *, least: int = 0, default: int | None = None
    ) -> int:
        value = self.text(variable)
        if not value and default is not None:
            return default
        if not (value.isascii() and value.isdigit()) or int(value) < least:
            raise invalid(variable, value, expected)
        return int(value)

    def port(self, variable: str) -> int:
        number = self.number(variable, "a port, 1 to 65535", least=1)
        if number > _LAST_PORT:
            raise invalid(variable, self.text(variable), "a port, 1 to 65535")
        return number

    def path(self, variable: str) -> Path:
        # nginx would resolve a relative one against the folder of its configuration.
        return Path(self.text(variable)).absolute()

    def optional_path(self, variable: str) -> Path | None:
        return self.path(variable) if self.text(variable) else None

    def log(self, variable: str) -> str:
        value = self.text(variable)
        return value if value.startswith("syslog:") else str(self.path(variable))

    def rate(self, variable: str) -> Rate:
        value = self.text(variable)
        found = _RATE.fullmatch(value)
        if found is None:
            raise invalid(
                variable, value, "requests per second such as 100, 10r/m, or 0 for no limit"
            )
        return Rate(int(found[1]), found[2] or "s")

    def origins(self, variable: str) -> tuple[str, ...]:
        origins = _listed(self.text(variable))
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise invalid(variable, origin, "https://HOST, or *")
        return origins

    def percent(self, variable: str) -> float:
        value = self.text(variable)
        found = _PERCENT.fullmatch(value)
        if found is None or float(found[1]) > 100:
            raise invalid(variable, value, "a percentage, 0 to 100")
        return float(found[1])

    def target(self, variable: str) -> tuple[str, int] | None:
        value = self.text(variable)
        if not value:
            return None
        found = _TARGET.fullmatch(value)
        if found is None or not 0 < int(found[2]) <= _LAST_PORT:
            raise invalid(variable, value, "HOST:PORT")
        return found[1], int(found[2])

    def tls_names(self, variable: str) -> tuple[str, ...]:
        names = _listed(self.text(variable))
        for name in names:
            if not (_NAME.fullmatch(name) or is_ip_address(name)):
                raise invalid(variable, name, "host names and IP addresses, with commas")
        if not names:
            raise invalid(variable, self.text(variable), "host names and IP addresses")
        return names


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def invalid(variable: str, value: str, expected: str) -> SettingsError:
    """The error of a variable with an invalid value.

    Args:
        variable: Its name.
        value: Its value, or the part of it that is invalid.
        expected: A description or example of a valid one.
    """
    return SettingsError(variable, f"invalid {variable} {value!r} (expected {expected})")


def in_container(environment: Mapping[str, str]) -> bool:
    """Whether this process runs in a container."""
    return (
        Path("/.dockerenv").exists()
        or Path("/run/.containerenv").exists()
        or bool(environment.get("KUBERNETES_SERVICE_HOST"))
    )


def in_url(address: str) -> str:
    """An address as written before a port: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address
