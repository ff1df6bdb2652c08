"""nginx: its configuration, from templates, and its process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from servable_serving.gateway.errors import GatewayError
from servable_serving.gateway.settings import in_url
from servable_serving.gateway.traffic import splits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from servable_serving.gateway.keys import Keys
    from servable_serving.gateway.settings import Settings
    from servable_serving.repository.shadow import Shadow
    from servable_serving.repository.traffic import Route

_TEMPLATES = Path(__file__).parent / "templates"
# A file that exists while every model is available; nginx checks it for each /readyz.
READY = "ready"


class ConfigurationRejected(GatewayError):
    """nginx does not accept a configuration."""


def render(
    settings: Settings,
    *,
    keys: Keys,
    addresses: Sequence[str] = (),
    metrics_address: str | None = None,
    traffic: Mapping[str, Sequence[Route]] | None = None,
    shadows: Mapping[str, Shadow] | None = None,
    ended: Collection[str] = (),
    as_root: bool = False,
) -> str:
    """The configuration of nginx.

    Args:
        settings: The gateway's.
        keys: The API keys in force.
        addresses: The model servers'.
        metrics_address: Of `servable gateway-metrics`, where it has one.
        traffic: The routes of each model, from models.traffic.
        shadows: What is mirrored of each model, from models.shadow.
        ended: Models whose canary has run out of time.
        as_root: Whether nginx is started as root.
    """
    target = mirror = None
    if metrics_address is not None and settings.metrics_syslog is not None:
        target = f"{in_url(metrics_address)}:{settings.metrics_syslog[1]}"
        mirror = f"{in_url(metrics_address)}:{settings.mirror_port}"
    return _environment().get_template("nginx.conf.j2").render(
        settings=settings,
        keys=keys,
        addresses=[in_url(address) for address in addresses],
        listen=in_url(settings.listen),
        metrics_target=target,
        ready_file=settings.run / READY,
        traffic=traffic or {},
        splits=splits(traffic or {}, ended),
        mirror_target=mirror if shadows or settings.observe else None,
        shadows=sorted((shadows or {}).items()),
        as_root=as_root,
    )  # fmt: skip


def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - nginx's configuration is not HTML
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = quoted
    return environment


def quoted(value: object) -> str:
    """A value, of any characters, quoted as one word of nginx's configuration."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


class Nginx:
    """The process and the file that it reads.

    Args:
        folder: Where the configuration is kept.

    Raises:
        GatewayError: nginx is not installed.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("nginx")
        if program is None:
            raise GatewayError("nginx is not installed")
        self._program = program
        self._path = folder / "nginx.conf"
        self._process: subprocess.Popen[bytes] | None = None

    def install(self, configuration: str) -> None:
        """Replace the configuration once nginx has checked the new one.

        Raises:
            ConfigurationRejected: nginx does not accept it, or it cannot be written; the last one
                stays.
        """
        incoming = self._path.with_name("nginx.conf.new")
        try:
            incoming.unlink(missing_ok=True)
            # It contains the API keys.
            with os.fdopen(os.open(incoming, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(configuration)
        except OSError as error:
            raise ConfigurationRejected(f"cannot write {incoming}: {error.strerror}") from error
        done = subprocess.run(
            [self._program, "-t", "-q", "-c", str(incoming)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise ConfigurationRejected(reason_of(done.stderr))
        incoming.replace(self._path)

    def start(self) -> None:
        """Start it with the configuration that is installed."""
        # A separate process group: Ctrl-C is for the supervisor, which stops nginx gracefully.
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._path)], process_group=0
        )  # fmt: skip

    def reload(self) -> None:
        """Make it reload its configuration."""
        self._signal(signal.SIGHUP)

    def quit(self) -> None:
        """Make it finish the requests in flight, and exit."""
        self._signal(signal.SIGQUIT)

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def wait(self) -> int:
        """Wait for its end; its exit status, 128 and more where a signal ended it."""
        status = 0 if self._process is None else self._process.wait()
        return status if status >= 0 else 128 - status

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


def reason_of(stderr: str) -> str:
    """Why nginx rejected a configuration, from what it printed."""
    lines = stderr.strip().splitlines() or ["no reason given"]
    return next((line for line in lines if "[emerg]" in line), lines[-1])
