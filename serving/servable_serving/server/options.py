"""The settings of a server: tensorflow_model_server's flags, their names and their defaults.

https://github.com/tensorflow/serving/blob/2.20.0/tensorflow_serving/model_servers/main.cc
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from servable_serving.server.limits import Limits, threads

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The options of a server.

    Args:
        model_name: The name of the only model; ignored with `model_config_file`.
        model_base_path: The folder with its version folders; likewise.
        model_config_file: A ModelServerConfig in text, of the models to serve.
        model_repository_path: Where base paths under /models are read instead; ours. So the file
            that containers see under /models serves outside of them as well.
        model_config_file_poll_wait_seconds: The interval at which it is read again; 0 for never.
        port: gRPC's port; 0 for none.
        grpc_socket_path: A UNIX socket for gRPC, in addition to the port.
        grpc_channel_arguments: Arguments of gRPC's core, name=value, separated by commas.
        grpc_max_threads: Maximum concurrent gRPC calls.
        rest_api_port: REST's port; 0 for none.
        rest_api_num_threads: Maximum concurrent REST requests.
        rest_api_timeout_in_ms: Timeout of a REST request; 0 or less for none.
        rest_api_enable_cors_support: Whether to enable CORS.
        rest_api_allowed_hosts: Names of this server, separated by commas, whose web pages may send
            requests to it if it listens at a loopback address; ours.
        enable_batching: Whether to batch every model with these parameters. Without it the
            models that Servable exported, whose rows are independent, share a run where
            several requests wait for it.
        batching_parameters_file: BatchingParameters in text.
        allow_version_labels_for_unavailable_models: Whether a label that is not in use may name
            a version that is not there yet.
        num_load_threads: Maximum number of concurrent loads; 0 for one.
        num_unload_threads: Maximum number of concurrent unloads; 0 for one.
        max_num_load_retries: Maximum load retries; -1 for none.
        load_retry_interval_micros: The interval between load retries; negative for none.
        file_system_poll_wait_seconds: The interval at which versions are looked for; 0 for once,
            and less for never, which waits forever.
        saved_model_tags: The tags of the graph to load, separated by commas.
        enable_model_warmup: Whether to replay the warm-up records of a version.
        num_request_iterations_for_warmup: How often each is replayed; 0 or less for once.
        enable_signature_method_name_check: Whether a signature's `method_name` must fit the API
            that a request uses.
        enable_per_model_batching_parameters: Whether, with `enable_batching`, only those versions
            are batched that have a batching_params.pbtxt in their folder, as that says.
        platform_config_file: A PlatformConfigMap in text, in place of the options of sessions,
            batching, tags and warm-up.
        tensorflow_session_config_file: A ConfigProto in text; the options below override it.
        tensorflow_session_parallelism: Threads within an op and for ops in parallel; not together
            with both of the following.
        thread_pool_factory_config_file: No factory is available, as in tensorflow_model_server; the
            server does not start with it.
        per_process_gpu_memory_fraction: The fraction of a GPU's memory that is allocated.
        mixed_precision: "bfloat16" to run float32 graphs in bfloat16 where oneDNN can.
        tensorflow_intra_op_parallelism: Threads within an op; 0 lets TensorFlow choose.
        tensorflow_inter_op_parallelism: Threads for ops in parallel; 0 lets the server choose.
        use_alts_credentials: Not supported; the server does not start with it.
        ssl_config_file: An SSLConfig in text, for gRPC.
        monitoring_config_file: A MonitoringConfig in text.
        enable_grpc_healthcheck_service: Whether to answer grpc.health.v1.
        enable_serialization_as_tensor_content: Whether Predict over gRPC answers with
            `tensor_content` in place of the typed field of each dtype.
        host: The address to bind; ours.
        shutdown_grace_seconds: How long a stop waits for requests in flight; ours.
        log_requests: The fraction of requests that are logged, 0 to 1; ours.
        log_requests_to: A folder for TFRecords of requests with their answers; ours.
        log_requests_share: The fraction of requests that are kept there, 0 to 1; ours.
        log_requests_max_bytes: The size of all files there; the oldest are deleted; ours.
        web: Whether to serve the web page at "/" of the REST port; not in TensorFlow Serving.
        max_queue: Requests that may wait, for each protocol; further ones are refused; ours.
        max_connections: Open connections, for each protocol; ours.
        max_request_bytes: Size of a request; ours.
        max_bytes_in_flight: Memory for large requests, all together; ours.
        max_json_values: Values in a JSON body; ours.
        max_response_bytes: Size of a response; ours.
    """

    model_name: str = "default"
    model_base_path: Path | None = None
    model_config_file: Path | None = None
    model_repository_path: Path | None = None
    model_config_file_poll_wait_seconds: int = 0
    port: int = 8500
    grpc_socket_path: str = ""
    grpc_channel_arguments: str = ""
    grpc_max_threads: int = field(default_factory=threads)
    rest_api_port: int = 0
    rest_api_num_threads: int = field(default_factory=threads)
    rest_api_timeout_in_ms: int = 30_000
    rest_api_enable_cors_support: bool = False
    rest_api_allowed_hosts: str = ""
    enable_batching: bool = False
    batching_parameters_file: Path | None = None
    allow_version_labels_for_unavailable_models: bool = False
    num_load_threads: int = 0
    num_unload_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    file_system_poll_wait_seconds: int = 1
    saved_model_tags: str = "serve"
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    enable_signature_method_name_check: bool = False
    enable_per_model_batching_parameters: bool = False
    platform_config_file: Path | None = None
    tensorflow_session_config_file: Path | None = None
    tensorflow_session_parallelism: int = 0
    thread_pool_factory_config_file: Path | None = None
    per_process_gpu_memory_fraction: float = 0.0
    mixed_precision: str = ""
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    use_alts_credentials: bool = False
    ssl_config_file: Path | None = None
    monitoring_config_file: Path | None = None
    enable_grpc_healthcheck_service: bool = False
    enable_serialization_as_tensor_content: bool = False
    host: str = "127.0.0.1"
    shutdown_grace_seconds: float = 10.0
    log_requests: float = 0.0
    log_requests_to: Path | None = None
    log_requests_share: float = 0.01
    log_requests_max_bytes: int = 1 << 30
    web: bool = False
    max_queue: int = field(default_factory=lambda: Limits().max_queue)
    max_connections: int = Limits.max_connections
    max_request_bytes: int = Limits.max_request_bytes
    max_bytes_in_flight: int = Limits.max_bytes_in_flight
    max_json_values: int = Limits.max_json_values
    max_response_bytes: int = Limits.max_response_bytes
