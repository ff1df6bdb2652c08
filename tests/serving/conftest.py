"""What the tests of the server share."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.conftest import ROOT, serving
from tests.serving.calls import config_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the models of fixture_models; not to be written to."""
    root = tmp_path_factory.mktemp("fixtures")
    # In a process of its own: TensorFlow numbers the functions of a process in one row, and the
    # numbers stand in the graph and in the words of its errors.
    code = "import pathlib, sys; from tests.serving.fixture_models import save_all"
    subprocess.run(
        [sys.executable, "-c", f"{code}; save_all(pathlib.Path(sys.argv[1]))", str(root)],
        check=True,
        cwd=ROOT,
    )
    return root


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of a model that takes as long as it is asked to."""
    from tests.serving.fixture_models import Slow, save

    root = tmp_path_factory.mktemp("slow")
    save(Slow(), root / "1")
    return root


@pytest.fixture(scope="session")
def rich(
    fixtures: Path, slow_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server of several models with all that is not on by default; for each test to share."""
    folder = tmp_path_factory.mktemp("rich")
    names = ("linear", "types", "garments")
    config = folder / "models.config"
    config.write_text(config_of({**{n: fixtures / n for n in names}, "slow": slow_model}))
    monitoring = folder / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with serving(
        None,
        folder / "log",
        f"--model_config_file={config}",
        f"--monitoring_config_file={monitoring}",
        "--enable_grpc_healthcheck_service",
        "--rest_api_timeout_in_ms=2000",
        "--log_json",
        "--log_requests=1",
        model="linear",
    ) as running:
        yield running


@pytest.fixture
def channel(rich: RunningServer) -> Iterator[grpc.Channel]:
    """A gRPC channel to that server."""
    with grpc.insecure_channel(f"127.0.0.1:{rich.port}") as channel:
        yield channel
