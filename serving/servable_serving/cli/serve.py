"""`servable serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from servable_serving.cli.server_flags import (
    Switch,
    given_without_effect,
    no_effect,
    path,
    switch,
    unknown_arguments,
)


def _version(asked: Switch) -> None:
    if asked:
        from importlib.metadata import version

        from servable_serving.core.lazy_tensorflow import library_version

        typer.echo(f"Servable: {version('servable')}\nTensorFlow Library: {library_version()}")
        raise typer.Exit


def serve(
    context: typer.Context,
    model_name: Annotated[str, typer.Option("--model_name", help="Model name.")] = "default",
    model_base_path: Annotated[
        Path | None, path("--model_base_path", help="Folder with the version folders.")
    ] = None,
    model_config_file: Annotated[
        Path | None,
        path("--model_config_file", help="ModelServerConfig of several models."),
    ] = None,
    model_repository_path: Annotated[
        Path | None,
        path("--model_repository_path", help="Local folder for base paths under /models."),
    ] = None,
    model_config_file_poll_wait_seconds: Annotated[
        int,
        typer.Option(
            "--model_config_file_poll_wait_seconds",
            help="Config poll interval in seconds; 0 disables polling.",
        ),
    ] = 0,
    file_system_poll_wait_seconds: Annotated[
        int,
        typer.Option(
            "--file_system_poll_wait_seconds",
            help="Version poll interval in seconds; 0: once, -1: never.",
        ),
    ] = 1,
    max_num_load_retries: Annotated[
        int, typer.Option("--max_num_load_retries", help="Maximum load retries; -1: none.")
    ] = 5,
    load_retry_interval_micros: Annotated[
        int,
        typer.Option(
            "--load_retry_interval_micros", help="Interval between load retries, in microseconds."
        ),
    ] = 60_000_000,
    num_load_threads: Annotated[
        int, typer.Option("--num_load_threads", min=0, help="Threads that load versions; 0: one.")
    ] = 0,
    num_unload_threads: Annotated[
        int,
        typer.Option("--num_unload_threads", min=0, help="Threads that unload versions; 0: one."),
    ] = 0,
    saved_model_tags: Annotated[
        str,
        typer.Option("--saved_model_tags", help="Tags of the graph to load, separated by commas."),
    ] = "serve",
    enable_model_warmup: Annotated[
        Switch, switch("--enable_model_warmup", help="Replay warm-up records.")
    ] = Switch.TRUE,
    num_request_iterations_for_warmup: Annotated[
        int,
        typer.Option(
            "--num_request_iterations_for_warmup",
            help="How often each warm-up record is replayed; 0: once.",
        ),
    ] = 0,
    enable_signature_method_name_check: Annotated[
        Switch,
        switch(
            "--enable_signature_method_name_check",
            help="Check that a signature's method_name fits the API.",
        ),
    ] = Switch.FALSE,
    allow_version_labels_for_unavailable_models: Annotated[
        Switch,
        switch(
            "--allow_version_labels_for_unavailable_models",
            help="Allow labels for versions that are not loaded yet.",
        ),
    ] = Switch.FALSE,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="gRPC port; 0: none.")
    ] = 8500,
    grpc_socket_path: Annotated[
        str, typer.Option("--grpc_socket_path", help="UNIX socket for gRPC.")
    ] = "",
    grpc_max_threads: Annotated[
        int | None,
        typer.Option(
            "--grpc_max_threads", min=1, help="Max concurrent gRPC calls (default: 4 per core)."
        ),
    ] = None,
    grpc_channel_arguments: Annotated[
        str,
        typer.Option(
            "--grpc_channel_arguments",
            help="Arguments of gRPC's core, name=value, separated by commas.",
        ),
    ] = "",
    rest_api_port: Annotated[
        int, typer.Option("--rest_api_port", min=0, max=65535, help="REST port; 0: none.")
    ] = 0,
    rest_api_num_threads: Annotated[
        int | None,
        typer.Option(
            "--rest_api_num_threads",
            min=1,
            help="Max concurrent REST requests (default: 4 per core).",
        ),
    ] = None,
    rest_api_timeout_in_ms: Annotated[
        int, typer.Option("--rest_api_timeout_in_ms", help="REST request timeout in milliseconds.")
    ] = 30_000,
    rest_api_enable_cors_support: Annotated[
        Switch, switch("--rest_api_enable_cors_support", help="Enable CORS.")
    ] = Switch.FALSE,
    rest_api_allowed_hosts: Annotated[
        str,
        typer.Option(
            "--rest_api_allowed_hosts",
            help="Host names, separated by commas, whose web pages may send requests to a server "
            "that listens at a loopback address (default: localhost and addresses).",
        ),
    ] = "",
    use_alts_credentials: Annotated[
        Switch,
        switch("--use_alts_credentials", help="Not supported: the server does not start with it."),
    ] = Switch.FALSE,
    ssl_config_file: Annotated[
        Path | None, path("--ssl_config_file", help="SSLConfig for gRPC.")
    ] = None,
    enable_grpc_healthcheck_service: Annotated[
        Switch, switch("--enable_grpc_healthcheck_service", help="Enable grpc.health.v1.")
    ] = Switch.FALSE,
    enable_serialization_as_tensor_content: Annotated[
        Switch,
        switch(
            "--enable_serialization_as_tensor_content",
            help="Answer Predict over gRPC with tensor_content.",
        ),
    ] = Switch.FALSE,
    enable_batching: Annotated[
        Switch, switch("--enable_batching", help="Enable batching.")
    ] = Switch.FALSE,
    batching_parameters_file: Annotated[
        Path | None,
        path("--batching_parameters_file", help="BatchingParameters for --enable_batching."),
    ] = None,
    enable_per_model_batching_parameters: Annotated[
        Switch,
        switch(
            "--enable_per_model_batching_parameters",
            help="Batch the versions with a batching_params.pbtxt, as it says.",
        ),
    ] = Switch.FALSE,
    platform_config_file: Annotated[
        Path | None,
        path(
            "--platform_config_file",
            help="PlatformConfigMap, in place of the flags of sessions, batching and warm-up.",
        ),
    ] = None,
    tensorflow_session_config_file: Annotated[
        Path | None,
        path("--tensorflow_session_config_file", help="ConfigProto of TensorFlow's sessions."),
    ] = None,
    tensorflow_session_parallelism: Annotated[
        int,
        typer.Option(
            "--tensorflow_session_parallelism", help="Intra-op and inter-op parallelism threads."
        ),
    ] = 0,
    tensorflow_intra_op_parallelism: Annotated[
        int,
        typer.Option("--tensorflow_intra_op_parallelism", help="Intra-op parallelism threads."),
    ] = 0,
    tensorflow_inter_op_parallelism: Annotated[
        int,
        typer.Option("--tensorflow_inter_op_parallelism", help="Inter-op parallelism threads."),
    ] = 0,
    thread_pool_factory_config_file: Annotated[
        Path | None,
        path("--thread_pool_factory_config_file", help="No factory is available, as upstream."),
    ] = None,
    per_process_gpu_memory_fraction: Annotated[
        float,
        typer.Option(
            "--per_process_gpu_memory_fraction",
            help="Fraction of a GPU's memory to allocate; 0: TensorFlow chooses.",
        ),
    ] = 0.0,
    mixed_precision: Annotated[
        str,
        typer.Option(
            "--mixed_precision", help="bfloat16 runs float32 graphs in bfloat16 where oneDNN can."
        ),
    ] = "",
    monitoring_config_file: Annotated[
        Path | None,
        path("--monitoring_config_file", help="MonitoringConfig for Prometheus."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Bind address.")] = "127.0.0.1",
    shutdown_grace_seconds: Annotated[
        float,
        typer.Option(
            "--shutdown_grace_seconds", min=0, help="Graceful shutdown timeout in seconds."
        ),
    ] = 10.0,
    web: Annotated[Switch, switch("--web", help="Serve the web page at /.")] = Switch.FALSE,
    max_queue: Annotated[
        int | None,
        typer.Option(
            "--max_queue",
            min=0,
            help="Max requests that wait for a thread, per protocol; further ones get "
            "RESOURCE_EXHAUSTED or 429 (default: 16 per core).",
        ),
    ] = None,
    max_connections: Annotated[
        int, typer.Option("--max_connections", min=1, help="Max open connections, per protocol.")
    ] = 1000,
    max_request_bytes: Annotated[
        int, typer.Option("--max_request_bytes", min=1024, help="Max size of a request in bytes.")
    ] = 256 << 20,
    max_bytes_in_flight: Annotated[
        int,
        typer.Option(
            "--max_bytes_in_flight",
            min=1 << 20,
            help="Max memory for large requests, unpacked and parsed, in bytes.",
        ),
    ] = 1 << 30,
    max_json_values: Annotated[
        int, typer.Option("--max_json_values", min=1, help="Max values in a JSON body.")
    ] = 4 << 20,
    max_response_bytes: Annotated[
        int,
        typer.Option(
            "--max_response_bytes",
            min=1024,
            help="Max size of a response's tensors, or of their JSON, in bytes.",
        ),
    ] = 1 << 30,
    log_requests: Annotated[
        float,
        typer.Option("--log_requests", min=0, max=1, help="Fraction of requests to log."),
    ] = 0.0,
    log_requests_to: Annotated[
        Path | None,
        path(
            "--log_requests_to",
            help="Folder for requests with their answers, as TFRecords of PredictionLog.",
        ),
    ] = None,
    log_requests_share: Annotated[
        float,
        typer.Option(
            "--log_requests_share",
            min=0,
            max=1,
            help="Fraction of requests kept in --log_requests_to.",
        ),
    ] = 0.01,
    log_requests_max_bytes: Annotated[
        int,
        typer.Option(
            "--log_requests_max_bytes",
            min=0,
            help="Max size of the files in --log_requests_to, in bytes; the oldest are deleted.",
        ),
    ] = 1 << 30,
    log_json: Annotated[
        Switch, switch("--log_json", help="Log JSON objects, one per line.")
    ] = Switch.FALSE,
    version: Annotated[
        Switch,
        typer.Option("--version", callback=_version, is_eager=True, help="Show version and exit."),
    ] = Switch.FALSE,
    flush_filesystem_caches: Annotated[
        Switch,
        no_effect(
            "--flush_filesystem_caches",
            "Local file systems have no cache of TensorFlow's to flush.",
            is_switch=True,
        ),
    ] = Switch.TRUE,
    remove_unused_fields_from_bundle_metagraph: Annotated[
        Switch,
        no_effect(
            "--remove_unused_fields_from_bundle_metagraph",
            "The MetaGraphDef is not kept.",
            is_switch=True,
        ),
    ] = Switch.TRUE,
    prefer_tflite_model: Annotated[
        Switch,
        no_effect("--prefer_tflite_model", "TensorFlow Lite is not supported.", is_switch=True),
    ] = Switch.FALSE,
    num_tflite_pools: Annotated[
        int, no_effect("--num_tflite_pools", "TensorFlow Lite is not supported.")
    ] = 0,
    num_tflite_interpreters_per_pool: Annotated[
        int, no_effect("--num_tflite_interpreters_per_pool", "TensorFlow Lite is not supported.")
    ] = 0,
    xla_cpu_compilation_enabled: Annotated[
        Switch,
        no_effect(
            "--xla_cpu_compilation_enabled",
            "XLA stays as TensorFlow for Python has it.",
            is_switch=True,
        ),
    ] = Switch.FALSE,
    xla_gpu_compilation_enabled: Annotated[
        Switch,
        no_effect(
            "--xla_gpu_compilation_enabled",
            "XLA stays as TensorFlow for Python has it.",
            is_switch=True,
        ),
    ] = Switch.FALSE,
    enable_profiler: Annotated[
        Switch,
        no_effect("--enable_profiler", "The profiler service is not supported.", is_switch=True),
    ] = Switch.TRUE,
    skip_initialize_tpu: Annotated[
        Switch, no_effect("--skip_initialize_tpu", "TPUs are not supported.", is_switch=True)
    ] = Switch.FALSE,
) -> None:
    """Serve models with tensorflow_model_server's flags."""
    flags = dict(locals())
    import dataclasses
    import logging
    import signal

    from servable_serving.core.lazy_tensorflow import import_tensorflow_runtime
    from servable_serving.core.logs import log_to_stderr
    from servable_serving.server.options import ServerOptions

    if model_base_path is None and model_config_file is None:
        raise typer.BadParameter(
            "is required without --model_config_file", param_hint="--model_base_path"
        )
    log_to_stderr(as_json=bool(log_json))
    _log_ignored(context)
    names = {field.name for field in dataclasses.fields(ServerOptions)}
    given: dict[str, Any] = {
        name: bool(value) if isinstance(value, Switch) else value
        for name, value in flags.items()
        if name in names and value is not None
    }
    options = ServerOptions(**given)
    import_tensorflow_runtime()
    from servable_serving.server.server import Server

    _tune_garbage_collection()
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
    _exit_past_stuck_threads()


def _log_ignored(context: typer.Context) -> None:
    """Name the arguments that change nothing, once each kind."""
    import logging

    log = logging.getLogger("servable.serving")
    if given := given_without_effect(context):
        log.warning("without effect in this server: %s", ", ".join(given))
    if unknown := unknown_arguments(context):
        log.warning("unknown arguments, ignored: %s", ", ".join(unknown))


def _tune_garbage_collection() -> None:
    """Configure the garbage collector; not in the server, since it affects the whole process."""
    import gc

    # TensorFlow's modules stay for good: scanned in every full collection, as after each unload,
    # they would delay requests by a fifth of a second.
    gc.collect()
    gc.freeze()
    # A large JSON body consists of many lists. By default each 700 allocations start a collection,
    # which doubles the time and blocks all other requests.
    gc.set_threshold(50_000, 20, 20)


def _exit_past_stuck_threads() -> None:
    """End the process if a load or a request has outlasted the grace period.

    It may take minutes and cannot be interrupted; Python would wait for it at exit.
    """
    import logging
    import os
    import threading

    if any(thread.name.startswith(("load", "grpc", "rest")) for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(0)
