"""The server's options are tensorflow_model_server's flags, with its defaults."""

from __future__ import annotations

import dataclasses
import inspect
import os

import pytest
from typer.utils import get_params_from_function

from servable_serving.cli.serve import serve
from servable_serving.cli.server_flags import NO_EFFECT
from servable_serving.server.options import ServerOptions

FIELDS = {field.name: field for field in dataclasses.fields(ServerOptions)}
# Parameters of the command alone: the log is the process's.
COMMAND_ONLY = {"context", "log_json", "version"}
WITHOUT_EFFECT = {
    parameter.name
    for parameter in get_params_from_function(serve).values()
    if getattr(parameter.default, "rich_help_panel", None) == NO_EFFECT
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 8500),
        ("rest_api_port", 0),
        ("rest_api_timeout_in_ms", 30_000),
        ("file_system_poll_wait_seconds", 1),
        ("max_num_load_retries", 5),
        ("load_retry_interval_micros", 60_000_000),
        ("enable_model_warmup", True),
        ("enable_batching", False),
        ("model_config_file_poll_wait_seconds", 0),
        ("allow_version_labels_for_unavailable_models", False),
    ],
)
def test_the_defaults_are_upstreams(name: str, value: object) -> None:
    assert getattr(ServerOptions(), name) == value


@pytest.mark.parametrize("name", ["grpc_max_threads", "rest_api_num_threads"])
def test_four_threads_a_core(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert getattr(ServerOptions(), name) == 12


def test_it_listens_at_this_machine_alone() -> None:
    assert ServerOptions().host == "127.0.0.1"


def test_each_option_is_a_flag_of_the_command() -> None:
    assert set(inspect.signature(serve).parameters) == set(FIELDS) | COMMAND_ONLY | WITHOUT_EFFECT


@pytest.mark.parametrize(
    "name", sorted(n for n in FIELDS if FIELDS[n].default is not dataclasses.MISSING)
)
def test_a_flag_and_its_option_have_one_default(name: str) -> None:
    default = inspect.signature(serve).parameters[name].default
    expected = FIELDS[name].default
    assert (bool(default) if isinstance(expected, bool) else default) == expected
