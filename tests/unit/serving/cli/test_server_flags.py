"""Flags of `servable serve`, as tensorflow_model_server's parser takes them."""

from __future__ import annotations

import inspect
import logging
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from servable_serving.cli import serve as command
from servable_serving.cli.server_flags import NO_EFFECT, ServerFlags, Switch

if TYPE_CHECKING:
    from typer.testing import Result

# Every flag of tensorflow_serving/model_servers/main.cc at 2.20.0.
UPSTREAM = [
    "port",
    "grpc_socket_path",
    "rest_api_port",
    "rest_api_num_threads",
    "rest_api_timeout_in_ms",
    "rest_api_enable_cors_support",
    "enable_batching",
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_per_model_batching_parameters",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "model_name",
    "model_base_path",
    "num_load_threads",
    "num_unload_threads",
    "max_num_load_retries",
    "load_retry_interval_micros",
    "file_system_poll_wait_seconds",
    "flush_filesystem_caches",
    "tensorflow_session_parallelism",
    "tensorflow_session_config_file",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
    "use_alts_credentials",
    "ssl_config_file",
    "platform_config_file",
    "per_process_gpu_memory_fraction",
    "saved_model_tags",
    "grpc_channel_arguments",
    "grpc_max_threads",
    "enable_model_warmup",
    "num_request_iterations_for_warmup",
    "version",
    "monitoring_config_file",
    "remove_unused_fields_from_bundle_metagraph",
    "prefer_tflite_model",
    "num_tflite_pools",
    "num_tflite_interpreters_per_pool",
    "enable_signature_method_name_check",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
    "enable_profiler",
    "thread_pool_factory_config_file",
    "mixed_precision",
    "skip_initialize_tpu",
    "enable_grpc_healthcheck_service",
    "enable_serialization_as_tensor_content",
]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The values that the command got; it starts no server."""
    values: dict[str, Any] = {}

    @wraps(command.serve)
    def serve(**flags: Any) -> None:
        values.update(flags)
        command._log_ignored(flags["context"])

    app = typer.Typer(rich_markup_mode=None)
    app.command(cls=ServerFlags)(serve)
    monkeypatch.setitem(values, "app", app)
    return values


def run(taken: dict[str, Any], *flags: str) -> Result:
    return CliRunner().invoke(taken["app"], flags)


def test_every_flag_of_upstream_is_known() -> None:
    assert set(UPSTREAM) <= set(inspect.signature(command.serve).parameters)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--enable_batching", Switch.TRUE),
        ("--enable_batching=true", Switch.TRUE),
        ("--enable_batching=True", Switch.TRUE),
        ("--enable_batching=TRUE", Switch.TRUE),
        ("--enable_batching=1", Switch.TRUE),
        ("--enable_batching=false", Switch.FALSE),
        ("--enable_batching=False", Switch.FALSE),
        ("--enable_batching=0", Switch.FALSE),
    ],
)
def test_forms_of_a_switch(taken: dict[str, Any], flag: str, value: Switch) -> None:
    assert run(taken, flag).exit_code == 0
    assert taken["enable_batching"] is value


@pytest.mark.parametrize("value", ["yes", "on", "t", "2", "01", "", " true"])
def test_other_values_of_a_switch_are_usage_errors(taken: dict[str, Any], value: str) -> None:
    assert run(taken, f"--enable_batching={value}").exit_code == 2
    assert run(taken, f"--enable_profiler={value}").exit_code == 2


def test_the_last_of_several_values_counts(taken: dict[str, Any]) -> None:
    assert (
        run(taken, "--port=1", "--enable_batching", "--port=2", "--enable_batching=0").exit_code
        == 0
    )
    assert (taken["port"], taken["enable_batching"]) == (2, Switch.FALSE)


def test_an_empty_file_is_none(taken: dict[str, Any]) -> None:
    assert run(taken, "--ssl_config_file=", "--batching_parameters_file=").exit_code == 0
    assert taken["ssl_config_file"] is None
    assert taken["batching_parameters_file"] is None


@pytest.mark.parametrize(
    "flag", ["--max_num_load_retries=abc", "--port=1x", "--num_tflite_pools=x"]
)
def test_a_number_that_is_none_is_a_usage_error(taken: dict[str, Any], flag: str) -> None:
    assert run(taken, flag).exit_code == 2


def test_what_changes_nothing_is_named_once(
    taken: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="servable.serving"):
        assert run(taken, "--num_tflite_pools=3", "--port=1", "--enable_profiler").exit_code == 0
    (message,) = caplog.messages
    assert "--num_tflite_pools" in message
    assert "--enable_profiler" in message
    assert "--port" not in message


def test_unknown_arguments_are_named_and_ignored(
    taken: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="servable.serving"):
        assert run(taken, "--nosuch=1", "--rest_api_prot=2", "stray", "--port=3").exit_code == 0
    assert taken["port"] == 3
    (message,) = caplog.messages
    assert "--nosuch=1" in message
    assert "--rest_api_port" in message  # the flag of a similar name
    assert "stray" in message


def test_help_lists_both_kinds(taken: dict[str, Any]) -> None:
    text = run(taken, "--help").stdout
    with_effect, _, without = text.partition(NO_EFFECT)
    assert "--saved_model_tags" in with_effect
    assert "--num_tflite_pools" in without
    assert all(f"--{flag}" in text for flag in UPSTREAM)
