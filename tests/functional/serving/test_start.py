"""Flags, ports, signals: how the server starts and ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
import requests
import yaml
from tests.conftest import NAME, ROOT, SHIPPED, free_port, only_sentence, serving
from tests.forked import servable
from tests.functional.serving.calls import eventually

from servable_client import Client
from servable_serving.repository.local import Repository

if TYPE_CHECKING:
    from pathlib import Path


def start(*flags: object) -> subprocess.CompletedProcess[str]:
    return servable("serve", f"--model_name={NAME}", *flags)


def test_a_first_version_that_is_broken_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    done = start(
        f"--model_base_path={tmp_path}",
        f"--port={free_port()}",
        f"--rest_api_port={free_port()}",
        "--max_num_load_retries=0",
    )
    assert "did not become available" in only_sentence(done)
    assert "saved_model.pb" in done.stderr


def test_flags_that_are_not_valid(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    port = free_port()
    both = (f"--port={port}", f"--rest_api_port={port}")
    assert "cannot both listen" in only_sentence(
        start(f"--model_base_path={SHIPPED.parent}", *both)
    )
    nowhere = start(f"--model_base_path={SHIPPED.parent}", "--port=0")
    assert "no address" in only_sentence(nowhere)
    assert "is a file" in only_sentence(start(f"--model_base_path={path}", f"--port={port}"))
    assert start(f"--model_base_path={SHIPPED.parent}", "--port=70000").returncode == 2
    conflict = start(f"--model_base_path={SHIPPED.parent}", "--batching_parameters_file=nosuch")
    assert "without --enable_batching" in only_sentence(conflict)
    factory = start(
        f"--model_base_path={SHIPPED.parent}", f"--thread_pool_factory_config_file={path}"
    )
    assert "no thread pool factory" in only_sentence(factory)
    alts = start(f"--model_base_path={SHIPPED.parent}", "--use_alts_credentials")
    assert "ALTS is not supported" in only_sentence(alts)


def test_a_file_that_makes_no_sense_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("num_batch_threads { value: 0 }")
    base = f"--model_base_path={SHIPPED.parent}"
    for flags, words in (
        (["--enable_batching", f"--batching_parameters_file={path}"], "must be positive"),
        ([f"--ssl_config_file={path}"], "cannot parse"),
        ([f"--model_config_file={path}"], "cannot parse"),
    ):
        assert words in only_sentence(start(base, *flags))


def test_it_tells_its_version() -> None:
    done = servable("serve", "--version")
    assert done.returncode == 0
    servable_line, tensorflow_line = done.stdout.splitlines()
    assert servable_line == f"Servable: {version('servable')}"
    assert tensorflow_line == f"TensorFlow Library: {version('tensorflow')}"


@pytest.mark.parametrize("scheme", ["s3", "gs", "hdfs"])
def test_a_base_path_elsewhere_is_refused_at_once(scheme: str, tmp_path: Path) -> None:
    path = f"{scheme}://bucket/models/{NAME}"
    config = tmp_path / "config"
    model = f'name: "{NAME}" base_path: "{path}" model_platform: "tensorflow"'
    config.write_text(f"model_config_list {{ config {{ {model} }} }}")
    for flag in (f"--model_base_path={path}", f"--model_config_file={config}"):
        sentence = only_sentence(start(flag))
        assert path in sentence
        assert "servable sync" in sentence


def test_a_base_path_may_be_a_file_url(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    done = start(
        f"--model_base_path=file://{tmp_path}", f"--port={free_port()}", "--max_num_load_retries=-1"
    )
    assert "did not become available" in only_sentence(done)
    assert f"Specified file path: {tmp_path}/1" in done.stderr


@pytest.mark.parametrize("flag", ["--port", "--rest_api_port"])
def test_a_port_in_use_is_one_sentence(flag: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = {"--port": free_port(), "--rest_api_port": free_port(), flag: port}
        done = start(
            f"--model_base_path={SHIPPED.parent}",
            *(f"{key}={value}" for key, value in flags.items()),
        )
    assert f"127.0.0.1:{port}" in only_sentence(done)
    assert flag in done.stderr


def test_no_port_opens_before_a_model_is_there(tmp_path: Path) -> None:
    base = tmp_path / NAME
    with serving(base, tmp_path / "log", wait=False) as server:
        eventually(lambda: "cannot list" in server.log.read_text())
        base.mkdir()
        # Repeated, since nobody watches a log from its first line.
        eventually(lambda: server.log.read_text().count("no version folder under") >= 3)
        with pytest.raises(requests.ConnectionError):
            requests.get(server.http, timeout=1)
        Repository(base).push(SHIPPED)
        with Client(server.grpc, model=NAME) as client:
            assert client.wait_until_available(timeout=60) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: signal.Signals, tmp_path: Path) -> None:
    with serving(SHIPPED.parent, tmp_path / "log") as server:
        server.process.send_signal(number)
        assert server.process.wait(120) == 0
        assert "Traceback" not in server.log.read_text()


def test_the_compose_files_health_check_knows_the_model(tmp_path: Path) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    kind, *command = compose["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD"
    with serving(SHIPPED.parent, tmp_path / "log") as server:
        # The port is fixed within the container alone; settings have their defaults.
        command = [
            re.sub(r"\$\{\w+:-(.*?)\}", r"\1", part).replace("/8501", f"/{server.rest_port}")
            for part in command
        ]
        assert subprocess.run(command, check=False).returncode == 0
        other = [part.replace(NAME, "nosuch") for part in command]
        assert subprocess.run(other, check=False).returncode != 0
    away = subprocess.run(command, check=False, capture_output=True)
    assert away.returncode != 0


def test_without_tensorflow_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'tensorflow'\", name='tensorflow')"
    )
    done = subprocess.run(
        [sys.executable, "-m", "servable_client", "serve", f"--model_base_path={SHIPPED.parent}"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "tensorflow" in only_sentence(done)
    assert "pip install '.[serving]'" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('server_key: "k" server_cert: "c"', "valid certificate"),
        ('server_key: "k" server_cert: "c" client_verify: true', "client_verify"),
    ],
)
def test_a_tls_file_that_is_not_valid(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "ssl.txt"
    file.write_text(text)
    done = servable(
        "serve", f"--model_name={NAME}", f"--model_base_path={SHIPPED.parent}",
        f"--port={free_port()}", f"--ssl_config_file={file}",
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
