"""Runs the gateway: starts nginx, reconciles once a second, ends gracefully."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING, Protocol

from servable_serving.core.files import warn_if_readable_by_all
from servable_serving.gateway.certificate import ensure_certificate
from servable_serving.gateway.errors import GatewayError
from servable_serving.gateway.keys import KeyStore
from servable_serving.gateway.nginx import READY, Nginx
from servable_serving.gateway.readiness import ReadinessCheck, RestStatus, SyslogSender
from servable_serving.gateway.reconcile import Reconciler
from servable_serving.gateway.upstream import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_serving.gateway.settings import Settings

logger = logging.getLogger("servable.gateway")

_EVERY = 1.0


class Process(Protocol):
    """The lifecycle of nginx."""

    def start(self) -> None:
        """Start it."""

    def quit(self) -> None:
        """Make it finish the requests in flight, and exit."""

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""

    def wait(self) -> int:
        """Wait for its end; its exit status."""


class Worker(Protocol):
    """A background task that must not end."""

    def start(self) -> None:
        """Start it."""

    def is_alive(self) -> bool:
        """Whether it runs."""


class Stop(Protocol):
    """The stop request; a `threading.Event`."""

    def set(self) -> None:
        """Request the stop."""

    def is_set(self) -> bool:
        """Whether a stop was requested."""

    def wait(self, timeout: float) -> bool:
        """Wait for the request, with a timeout in seconds; whether it was made."""


class Supervisor:
    """Runs nginx and the tasks that keep it up to date.

    Args:
        nginx: The process.
        watcher: The readiness check.
        step: Called once a second.
        stopping: The stop request.
    """

    def __init__(
        self,
        nginx: Process,
        watcher: Worker,
        step: Callable[[], object],
        *,
        stopping: Stop | None = None,
    ) -> None:
        self._nginx, self._watcher, self._step = nginx, watcher, step
        self._stopping: Stop = stopping or threading.Event()

    def stop(self) -> None:
        """End gracefully; may be called from a signal's handler, and before nginx has started."""
        asked_before = self._stopping.is_set()
        self._stopping.set()
        self._nginx.quit()
        if not asked_before:
            logger.info("stopping: waiting for requests in flight")

    def run(self, started: Callable[[], object] = lambda: None) -> int:
        """Run until stopped, or until nginx or a background task ends unexpectedly.

        Args:
            started: Called once nginx and the watcher run.

        Returns:
            The command's exit status: nginx's, or 1 where it ended unasked.
        """
        self._nginx.start()
        try:
            if self._stopping.is_set():  # before nginx could be signalled
                self._nginx.quit()
            self._watcher.start()
            started()
            while not self._stopping.wait(_EVERY):
                if self._nginx.poll() is not None:
                    logger.error("nginx has ended unexpectedly; its own messages are above")
                    break
                if not self._watcher.is_alive():
                    logger.error("the readiness check has ended unexpectedly")
                    break
                self._step()
        finally:
            self._nginx.quit()
            status = self._nginx.wait()
        return status if self._stopping.is_set() else 1


def run_gateway(settings: Settings) -> int:
    """Run the gateway until a signal ends it.

    Returns:
        The exit status: 0 after a graceful end.

    Raises:
        GatewayError: It cannot start.
    """
    try:
        (settings.run / "temp").mkdir(parents=True, exist_ok=True)
        (settings.run / READY).unlink(missing_ok=True)
    except OSError as error:
        raise GatewayError(f"cannot write to {settings.run}: {error.strerror}") from error
    nginx = Nginx(settings.run)
    keys = KeyStore(settings.api_keys_file, settings.admin_keys_file)
    keys.reload()
    settings.check_exposure(with_keys=bool(keys.current.api))
    if ensure_certificate(settings):
        names = ",".join(settings.tls_names)
        logger.info("made a self-signed certificate for %s: %s", names, settings.certificate)
    for path in (settings.api_keys_file, settings.admin_keys_file, settings.certificate_key):
        if path is not None:
            warn_if_readable_by_all(path, logger)
    reconciler = Reconciler(settings, keys, nginx, resolve=resolve)
    reconciler.start()
    check = ReadinessCheck(
        settings,
        reconciler,
        ask=RestStatus(settings.upstream_rest_port),
        send=SyslogSender(settings.metrics_syslog[1] if settings.metrics_syslog else 0),
    )
    supervisor = Supervisor(nginx, _watcher(check), reconciler.step)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup does
            signal.signal(number, lambda *_: supervisor.stop())

    def started() -> None:
        logger.info(
            "TLS at %s:%d, gRPC at %s:%d, REST at %s:%d; %s",
            settings.listen, settings.tls_port,
            settings.listen, settings.grpc_port,
            settings.listen, settings.rest_port,
            "with API keys" if keys.current.api else "without API keys, for this machine alone",
        )  # fmt: skip

    return supervisor.run(started)


def _watcher(check: ReadinessCheck) -> threading.Thread:
    pause = threading.Event()

    def watch() -> None:
        try:
            while True:
                check.step()
                pause.wait(_EVERY)
        except Exception:
            logger.exception("the readiness check failed")

    return threading.Thread(target=watch, name="readiness", daemon=True)
