"""`servable serve`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand


class Switch(StrEnum):
    """A flag that is true or false, which `--flag` alone makes true."""

    TRUE = "true"
    FALSE = "false"

    def __bool__(self) -> bool:
        return self is Switch.TRUE


class ServerFlags(TyperCommand):
    """tensorflow_model_server's way with flags: `--flag` for `--flag=true`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        switches = {
            option
            for parameter in self.params
            if isinstance(parameter.default, Switch)
            for option in parameter.opts
        }
        return super().parse_args(ctx, [f"{a}=true" if a in switches else a for a in args])


def _version(asked: Switch) -> None:
    if asked:
        from importlib.metadata import version

        from servable_serving.core.lazy_tensorflow import import_tensorflow

        # Its distribution has several names: tensorflow, tensorflow-cpu and others.
        library = import_tensorflow().__version__
        typer.echo(f"Servable: {version('servable')}\nTensorFlow Library: {library}")
        raise typer.Exit


def serve(
    model_name: Annotated[str, typer.Option("--model_name", help="The model's name.")] = "default",
    model_base_path: Annotated[
        Path | None, typer.Option("--model_base_path", help="The folder with the version folders.")
    ] = None,
    model_config_file: Annotated[
        Path | None,
        typer.Option("--model_config_file", help="A ModelServerConfig of several models."),
    ] = None,
    model_repository_path: Annotated[
        Path | None,
        typer.Option("--model_repository_path", help="Where base paths under /models are read."),
    ] = None,
    model_config_file_poll_wait_seconds: Annotated[
        int,
        typer.Option(
            "--model_config_file_poll_wait_seconds", min=0, help="How often to apply it; 0: once."
        ),
    ] = 0,
    file_system_poll_wait_seconds: Annotated[
        int,
        typer.Option(
            "--file_system_poll_wait_seconds", help="How often to look for versions; 0: once."
        ),
    ] = 1,
    max_num_load_retries: Annotated[
        int, typer.Option("--max_num_load_retries", min=0, help="After a load that failed.")
    ] = 5,
    load_retry_interval_micros: Annotated[
        int, typer.Option("--load_retry_interval_micros", help="Between these.")
    ] = 60_000_000,
    num_load_threads: Annotated[
        int, typer.Option("--num_load_threads", min=0, help="Versions loaded at once.")
    ] = 0,
    enable_model_warmup: Annotated[
        Switch, typer.Option("--enable_model_warmup", help="Replay warm-up records.")
    ] = Switch.TRUE,
    allow_version_labels_for_unavailable_models: Annotated[
        Switch,
        typer.Option(
            "--allow_version_labels_for_unavailable_models", help="Labels ahead of their versions."
        ),
    ] = Switch.FALSE,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="gRPC's port; 0: none.")
    ] = 8500,
    grpc_socket_path: Annotated[
        str, typer.Option("--grpc_socket_path", help="A UNIX socket for gRPC.")
    ] = "",
    grpc_max_threads: Annotated[
        int | None,
        typer.Option("--grpc_max_threads", min=1, help="gRPC calls at once; 4 a core."),
    ] = None,
    rest_api_port: Annotated[
        int, typer.Option("--rest_api_port", min=0, max=65535, help="REST's port; 0: none.")
    ] = 0,
    rest_api_num_threads: Annotated[
        int | None,
        typer.Option("--rest_api_num_threads", min=1, help="REST requests at once; 4 a core."),
    ] = None,
    rest_api_timeout_in_ms: Annotated[
        int, typer.Option("--rest_api_timeout_in_ms", help="How long a REST request may take.")
    ] = 30_000,
    rest_api_enable_cors_support: Annotated[
        Switch, typer.Option("--rest_api_enable_cors_support", help="Let other origins' pages ask.")
    ] = Switch.FALSE,
    ssl_config_file: Annotated[
        Path | None, typer.Option("--ssl_config_file", help="An SSLConfig, for gRPC.")
    ] = None,
    enable_grpc_healthcheck_service: Annotated[
        Switch, typer.Option("--enable_grpc_healthcheck_service", help="Answer grpc.health.v1.")
    ] = Switch.FALSE,
    enable_batching: Annotated[
        Switch, typer.Option("--enable_batching", help="Put requests together.")
    ] = Switch.FALSE,
    batching_parameters_file: Annotated[
        Path | None, typer.Option("--batching_parameters_file", help="BatchingParameters.")
    ] = None,
    tensorflow_intra_op_parallelism: Annotated[
        int, typer.Option("--tensorflow_intra_op_parallelism", min=0, help="Threads in an op.")
    ] = 0,
    tensorflow_inter_op_parallelism: Annotated[
        int, typer.Option("--tensorflow_inter_op_parallelism", min=0, help="Ops side by side.")
    ] = 0,
    monitoring_config_file: Annotated[
        Path | None, typer.Option("--monitoring_config_file", help="A MonitoringConfig.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    shutdown_grace_seconds: Annotated[
        float,
        typer.Option("--shutdown_grace_seconds", min=0, help="For requests in flight at the end."),
    ] = 10.0,
    web: Annotated[
        Switch, typer.Option("--web", help="Serve the web page at / beside REST.")
    ] = Switch.FALSE,
    log_requests: Annotated[
        float,
        typer.Option("--log_requests", min=0, max=1, help="The share of requests to log."),
    ] = 0.0,
    log_json: Annotated[
        Switch, typer.Option("--log_json", help="Log JSON objects, one a line.")
    ] = Switch.FALSE,
    version: Annotated[
        Switch,
        typer.Option("--version", callback=_version, is_eager=True, help="Tell it and leave."),
    ] = Switch.FALSE,
) -> None:
    """Serve models with tensorflow_model_server's flags."""
    flags = dict(locals())
    import dataclasses
    import gc
    import logging
    import os
    import signal
    import threading

    from servable_serving.core.lazy_tensorflow import import_tensorflow
    from servable_serving.core.logs import log_to_stderr
    from servable_serving.server.options import ServerOptions

    if not model_name:
        raise typer.BadParameter("is empty", param_hint="--model_name")
    if model_base_path is None and model_config_file is None:
        raise typer.BadParameter(
            "is required where there is no --model_config_file", param_hint="--model_base_path"
        )
    log_to_stderr(as_json=bool(log_json))
    names = {field.name for field in dataclasses.fields(ServerOptions)}
    given: dict[str, Any] = {
        name: bool(value) if isinstance(value, Switch) else value
        for name, value in flags.items()
        if name in names and value is not None
    }
    options = ServerOptions(**given)
    import_tensorflow()
    from servable_serving.server.server import Server

    # TensorFlow's modules stay for good: looked through at every collection, as after each
    # unloading, they would keep requests waiting for a fifth of a second.
    gc.collect()
    gc.freeze()
    # A large JSON body is many lists, whose making alone would set a collection off after every
    # 700: twice the time, in which no other request is worked on.
    gc.set_threshold(50_000, 20, 20)
    server = Server(options)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.ask_to_stop())
    with server:
        if not server.stopping:
            logging.getLogger("servable.serving").info(
                "serving at %s, gRPC %d, REST %d", host, port, rest_api_port,
                extra={"event": "serving", "host": host, "port": port, "rest_port": rest_api_port},
            )  # fmt: skip
        server.wait()
        logging.getLogger("servable.serving").info("stopping", extra={"event": "stopping"})
    if any(thread.name.startswith(("load", "grpc", "rest")) for thread in threading.enumerate()):
        # A load or a request past the grace may take minutes, cannot be broken off, and nobody
        # waits for it any more; Python would.
        logging.shutdown()
        os._exit(0)
