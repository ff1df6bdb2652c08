"""The embedded server: TensorFlow Serving's two protocols over one set of models."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import grpc

from servable_client import ServableError
from servable_serving.core.addresses import is_loopback
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.files import warn_if_readable_by_all
from servable_serving.core.sockets import bind, check, check_socket, in_use
from servable_serving.repository.models_config import made_of
from servable_serving.server.config import (
    ModelSettings,
    channel_arguments,
    check_local,
    local_path,
    metrics_path,
    model_settings,
    read,
    read_model_config,
)
from servable_serving.server.grpc.server import GrpcServer
from servable_serving.server.lifecycle.loader import load_version
from servable_serving.server.lifecycle.registry import Models
from servable_serving.server.lifecycle.scheduler import ThreadScheduler
from servable_serving.server.lifecycle.warmup import record_writer
from servable_serving.server.limits import Budget, Limits
from servable_serving.server.memory import MemoryTrimmer
from servable_serving.server.proto import config_pb2
from servable_serving.server.rest.server import RestServer
from servable_serving.server.runtime.batching import Batcher, Batching
from servable_serving.server.runtime.loaded_model import LoadOptions
from servable_serving.server.runtime.session_bundle import session_bundle
from servable_serving.server.samples import Samples
from servable_serving.server.telemetry import Metrics, RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from servable_serving.server.options import ServerOptions

_log = logging.getLogger("servable.serving")
_MEMORY_SECONDS = 2.0
_REMIND_SECONDS = 5.0


class ServerError(ServableError):
    """The server cannot start."""


class Server:
    """Serves models from their version folders.

        options = ServerOptions(
            model_name="fashion_mnist", model_base_path=Path("models/fashion_mnist"), port=8500
        )
        with Server(options) as server:
            server.wait()

    `servable serve` also sets the garbage collector's thresholds, which a program that embeds a
    server decides for itself: see `_tune_garbage_collection` in cli/serve.py.

    Args:
        options: What to serve, and how.

    Raises:
        ServerError: The options are not valid, or a file that they name cannot be read.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        _check(options)
        # Resolve now: the working directory may change later.
        self._repository_path = options.model_repository_path and Path(
            os.path.abspath(options.model_repository_path)  # noqa: PTH100
        )
        try:
            self._settings = self._read_settings()
            bundle = session_bundle(options)
            arguments = channel_arguments(options.grpc_channel_arguments)
            metrics_at = metrics_path(options.monitoring_config_file)
            self._credentials = self._read_credentials()
        except ModelError as error:
            raise ServerError(error.message, code=error.code) from None
        if any(not model.name for model in self._settings):
            _log.warning("a model has an empty name, by which no request can name it")
        metrics = Metrics()
        load_options = LoadOptions(
            bundle=bundle,
            # Unless batching is configured, requests that wait while the runtime is busy are
            # batched, and none is delayed for it.
            batcher=Batcher(
                bundle.batching or Batching(max_batch_size=64, strict=False, threads=_run_slots())
            ),
            batch_all=bundle.batching is not None,
            check_method_names=options.enable_signature_method_name_check,
            metrics=metrics,
            timeout=max(options.rest_api_timeout_in_ms, 0) / 1e3 or None,
        )
        self._models = Models(
            partial(load_version, load_options),
            load_threads=options.num_load_threads,
            max_load_retries=_retries(options.max_num_load_retries),
            load_retry_seconds=max(options.load_retry_interval_micros, 0) / 1e6,
            scheduler=ThreadScheduler(options.num_unload_threads),
            labels_ahead=options.allow_version_labels_for_unavailable_models,
        )
        self._samples = self._open_samples()
        requests = RequestLog(
            self._models.knows, metrics, log_rate=options.log_requests, samples=self._samples
        )
        if self._samples is not None:
            metrics.count_samples(self._samples.counts)
        budget = Budget(options.max_bytes_in_flight)
        limits = Limits(**{one.name: getattr(options, one.name) for one in fields(Limits)})
        self._grpc = GrpcServer(
            self._models,
            requests,
            threads=options.grpc_max_threads,
            limits=limits,
            budget=budget,
            health_check=options.enable_grpc_healthcheck_service,
            tensor_content=options.enable_serialization_as_tensor_content,
            repository_path=self._repository_path,
            channel_arguments=arguments,
        )
        self._rest = RestServer(
            self._models,
            requests,
            threads=options.rest_api_num_threads,
            limits=limits,
            budget=budget,
            timeout=options.rest_api_timeout_in_ms / 1e3,
            cors=options.rest_api_enable_cors_support,
            metrics=(metrics_at, metrics) if metrics_at else None,
            web=options.web,
            # A server that others reach has a firewall, a gateway or keys in front of it.
            names=_names(options)
            if is_loopback(options.host) and not options.rest_api_enable_cors_support
            else None,
        )
        self._stopping = threading.Event()
        self._watches: list[threading.Thread] = []

    def start(self) -> None:
        """Load the first versions, then open the ports; waits for versions to appear.

        Raises:
            ServerError: A port is in use, or a model's first version failed to load.
        """
        options = self._options
        try:
            # Before the models: a port in use fails at once, and not after a minute of loading.
            if options.port:
                check(options.host, options.port, "--port")
            sock = None
            if options.rest_api_port:
                sock = bind(options.host, options.rest_api_port, "--rest_api_port")
            try:
                if not self._load():
                    if sock is not None:
                        sock.close()
                    return
                self._listen_grpc()
            except BaseException:
                if sock is not None:
                    sock.close()
                raise
            self._grpc.start()
            if sock is not None:
                self._rest.start(sock)
        except ServableError as error:
            self.stop()
            raise ServerError(error.message, code=error.code, hint=error.hint) from None
        except BaseException:
            self.stop()
            raise
        if options.model_config_file and options.model_config_file_poll_wait_seconds > 0:
            self._begin(self._watch_config, "config")
        self._begin(self._watch_memory, "memory")

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stopping.is_set()

    def wait(self) -> None:
        """Serve until `stop` or `ask_to_stop` is called."""
        self._stopping.wait()

    def ask_to_stop(self) -> None:
        """Request a stop: `start` or `wait` returns. Safe to call in a signal handler."""
        self._stopping.set()

    def stop(self) -> None:
        """Refuse new requests, finish those in flight, unload the models."""
        self._stopping.set()
        grace = self._options.shutdown_grace_seconds
        end = time.monotonic() + grace
        self._grpc.not_ready()
        ended = self._grpc.stop(grace)
        self._rest.stop(grace)
        ended.wait()
        for watch in self._watches:
            watch.join()
        self._models.close(max(end - time.monotonic(), 0))
        if self._samples is not None:
            self._samples.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _open_samples(self) -> Samples | None:
        options = self._options
        if options.log_requests_to is None:
            return None
        try:
            return Samples(
                options.log_requests_to.absolute(),
                share=options.log_requests_share,
                keep_bytes=options.log_requests_max_bytes,
                open_writer=record_writer,
            )
        except OSError as error:
            raise ServerError(
                f"cannot write to {options.log_requests_to}: {error.strerror}",
                hint="name another folder with --log_requests_to",
            ) from None

    def _load(self) -> bool:
        """Load the first version of each model; False if a stop was requested meanwhile."""
        options = self._options
        polls = options.file_system_poll_wait_seconds >= 0
        names = self._models.configure(self._settings, look=polls)
        if options.file_system_poll_wait_seconds > 0:
            self._models.start_polling(options.file_system_poll_wait_seconds)
        reminder = _Reminder(self._models)

        def alive() -> bool:
            reminder.remind()
            return not self.stopping

        self._models.wait_for(names, alive=alive)
        # TensorFlow Serving opens with the first version of each; this waits for all of them, so
        # that stable and canary are available together.
        self._models.wait_for_first(alive=lambda: not self.stopping)
        return not self.stopping

    def _listen_grpc(self) -> None:
        options = self._options
        if options.port:
            host = f"[{options.host}]" if ":" in options.host else options.host
            try:
                self._grpc.listen(f"{host}:{options.port}", self._credentials)
            except OSError as error:
                check(options.host, options.port, "--port")
                if self._credentials is not None:
                    raise ServerError(
                        f"{options.ssl_config_file} does not hold a valid certificate and its key",
                        hint="server_cert and server_key hold PEM, not the names of files",
                    ) from None
                raise in_use(options.host, options.port, "--port", error) from None
        if options.grpc_socket_path:
            check_socket(options.grpc_socket_path)
            try:
                self._grpc.listen(f"unix:{options.grpc_socket_path}", self._credentials)
            except OSError:
                raise ServerError(
                    f"cannot listen at the socket {options.grpc_socket_path}",
                    hint="choose another path with --grpc_socket_path",
                ) from None

    def _read_settings(self) -> tuple[ModelSettings, ...]:
        options = self._options
        if options.model_config_file is None:
            assert options.model_base_path is not None
            check_local(options.model_base_path)
            base_path = local_path(str(options.model_base_path))
            path = Path(os.path.abspath(base_path))  # noqa: PTH100
            return (ModelSettings(name=options.model_name, base_path=path),)
        config = read_model_config(made_of(options.model_config_file))
        if config.WhichOneof("config") != "model_config_list":
            raise invalid(f"{options.model_config_file} has no model_config_list")
        return model_settings(config, repository_path=self._repository_path)

    def _read_credentials(self) -> grpc.ServerCredentials | None:
        path = self._options.ssl_config_file
        if path is None:
            return None
        config = read(path, config_pb2.SSLConfig)
        warn_if_readable_by_all(path, _log)
        if not (config.server_key and config.server_cert):
            raise invalid(f"{path} does not set both server_key and server_cert")
        if config.client_verify and not config.custom_ca:
            raise invalid(f"{path} sets client_verify without custom_ca")
        return grpc.ssl_server_credentials(
            [(config.server_key.encode(), config.server_cert.encode())],
            root_certificates=config.custom_ca.encode() or None,
            require_client_auth=config.client_verify,
        )

    def _begin(self, watch: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=watch, name=name, daemon=True)
        self._watches.append(thread)
        thread.start()

    def _watch_memory(self) -> None:
        trimmer = MemoryTrimmer()
        while not self._stopping.wait(_MEMORY_SECONDS):
            trimmer.step()

    def _watch_config(self) -> None:
        """Apply the configuration file again at every interval, changed or not.

        As TensorFlow Serving does: so the file wins over a reload by gRPC, and a label that waits
        for its version is set once the version is available.
        """
        options = self._options
        assert options.model_config_file is not None
        before = ""  # logged last; not repeated at every interval
        path = made_of(options.model_config_file)
        while not self._stopping.wait(options.model_config_file_poll_wait_seconds):
            trouble = ""
            try:
                # Read and applied under one lock: else a reload by gRPC in between, of a newer
                # file, would be undone by the older content.
                with self._models.reloading:
                    # Once there is the file, its template does not count any more.
                    if path != options.model_config_file:
                        path = made_of(options.model_config_file)
                    config = read_model_config(path)
                    # An empty file is more likely half written than intended.
                    if config.WhichOneof("config") == "model_config_list":
                        self._models.configure(
                            model_settings(config, repository_path=self._repository_path)
                        )
            except ModelError as error:
                trouble = error.message
            except Exception:  # noqa: BLE001
                _log.exception("%s could not be applied", options.model_config_file)
            if trouble and trouble != before:
                _log.error(
                    "%s is not applied: %s", options.model_config_file, trouble,
                    extra={"event": "reload_failed", "reason": trouble},
                )  # fmt: skip
            before = trouble


class _Reminder:
    """Repeats why a starting server waits, in a log that may be read from its end."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._next = time.monotonic() + _REMIND_SECONDS

    def remind(self) -> None:
        """Log it if that was not done for a while."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REMIND_SECONDS
        for name, trouble in self._models.troubles().items():
            _log.warning(
                "%s: the server waits with closed ports: %s", name, trouble,
                extra={"event": "waiting", "model": name, "reason": trouble},
            )  # fmt: skip


def _run_slots() -> int:
    """How many runs take place at a time: one core is left to what is around them.

    Requests that wait meanwhile share the next run, which costs less than their own.
    """
    return max((os.cpu_count() or 1) - 1, 1)


def _retries(flag: int) -> int:
    """The number of retries as TensorFlow Serving takes the flag: as 32 bits without a sign."""
    return (flag + 1) % 2**32 - 1


def _names(options: ServerOptions) -> frozenset[str]:
    names = options.rest_api_allowed_hosts.split(",")
    return frozenset(name.strip().lower() for name in names if name.strip())


def _check(options: ServerOptions) -> None:
    if not options.host or not (options.port or options.rest_api_port or options.grpc_socket_path):
        raise ServerError("no address to listen at", hint="give --host and a port")
    if options.port == options.rest_api_port != 0:
        raise ServerError(
            f"gRPC and REST cannot both listen at port {options.port}",
            hint="choose another port with --rest_api_port",
        )
    if options.web and not options.rest_api_port:
        raise ServerError(
            "the web page needs REST, which is disabled", hint="give --rest_api_port, such as 8501"
        )
    if options.model_config_file is None:
        path = options.model_base_path
        if path is None:
            raise ServerError(
                "no model to serve", hint="give --model_base_path or --model_config_file"
            )
        if path.exists() and not path.is_dir():
            raise ServerError(
                f"{path} is a file, not a folder",
                hint="--model_base_path names the folder with the version folders",
            )
    root = options.model_repository_path
    if root is not None and not root.is_dir():
        raise ServerError(
            f"{root} is not a folder",
            hint="--model_repository_path names the folder in which the models' folders are",
        )
    if options.thread_pool_factory_config_file is not None:
        raise ServerError(
            "no thread pool factory is available",
            hint="omit --thread_pool_factory_config_file, with which tensorflow_model_server does "
            "not start either",
        )
    if options.use_alts_credentials:
        raise ServerError("ALTS is not supported", hint="--ssl_config_file configures TLS for gRPC")
