"""Fixtures of all layers: the real data, the shipped model, servers in their own processes."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before TensorFlow, which keeps it from being imported later.
import pycurl  # noqa: F401
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from tests.forked import ForkedServer, FreshServer
from tests.reliability.table import FaultTable
from tests.still_running import StillRunning
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from servable_client import Client
from servable_serving.core.processes import model_probe, wait_until_ready
from servable_serving.core.sockets import free_ports
from servable_trainer.data import fashion_mnist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from servable_trainer.data.dataset import Dataset

# No test fails by the time that it takes.
settings.register_profile("servable", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("servable")

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "models" / "fashion_mnist" / "1"
NAME = "fashion_mnist"


# Tests that share one costly thing: the stack's images and networks, the page's server and browser.
_TOGETHER = ("tests/system/stack/", "tests/system/web/")

# The layers, slowest first, so that no long test begins when the others have ended; among the
# functional tests those that train.
_LAYERS = ("system", "functional/trainer", "reliability", "functional", "unit")


class _Files(LoadScopeScheduling):
    """Runs the tests of a file in one worker, since they share what they start."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in _TOGETHER if file.startswith(folder)), file)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Report what runs, where the tests run in workers, and what the faults did."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and config.getoption("numprocesses", None):
        config.pluginmanager.register(StillRunning(reporter))
    config.pluginmanager.register(FaultTable())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of tests/reliability, whose own conftest.py is read too late with workers."""
    parser.addoption(
        "--reliability-rounds", type=int, default=1, help="Times that each fault is injected."
    )
    # Other programs decide how long a server takes to start again.
    parser.addoption(
        "--reliability-alone",
        action="store_true",
        help="Nothing else runs on this machine: the service must be back in time.",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Files:
    """Distribute the tests to the workers, in the order of collection."""
    config.option.loadscopereorder = False
    return _Files(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by layer, and check that each is in one."""

    def layer(item: pytest.Item) -> int:
        folder = item.nodeid.removeprefix("tests/")
        return next(n for n, name in enumerate(_LAYERS) if folder.startswith(f"{name}/"))

    items.sort(key=layer)


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of garbage collection, a fifth of the time."""
    gc.collect()
    gc.freeze()


def free_port() -> int:
    """A port that is free at the moment."""
    return free_ports(1)[0]


def make_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """A folder that the first worker makes and all workers share; not to be written to.

    Args:
        tmp_path_factory: The worker's.
        name: Name of the folder.
        make: Makes the folder; called with its path, which does not exist.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "shared" / name
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        done = folder.with_suffix(".done")
        if not done.exists():
            make(folder)
            done.touch()
    return folder


def save_models(module: str, root: Path) -> None:
    """Run a module's `save_all(root)` in a process of its own.

    TensorFlow numbers the functions of a process consecutively, and the numbers appear in the graph
    and in its error messages.
    """
    code = (
        f"import pathlib, sys; from {module} import save_all; save_all(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=True, cwd=ROOT)


def only_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The error message of a command that failed: one sentence, perhaps a hint, no stack trace."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("servable: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@dataclass
class RunningServer:
    """`servable serve` in a process of its own."""

    process: ForkedServer | FreshServer
    port: int
    rest_port: int
    base_path: Path
    log: Path
    start_again: Callable[[], ForkedServer | FreshServer]

    @property
    def grpc(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    def address(self, scheme: str) -> str:
        return self.grpc if scheme == "grpc" else self.http

    def restart(self) -> None:
        """Start it again at the same ports, after it has ended."""
        self.process.wait()
        self.process = self.start_again()


@contextmanager
def serving(
    base_path: Path | None,
    log: Path,
    *flags: str,
    model: str = NAME,
    wait: bool = True,
    start: Callable[[Sequence[str], Path], ForkedServer | FreshServer] = ForkedServer,
) -> Iterator[RunningServer]:
    """Run `servable serve` for the length of the block.

    Args:
        base_path: The folder with the version folders; None where a flag names a config file.
        log: File that its output is written to.
        flags: Further flags; they override those given here.
        model: Name of the model.
        wait: Whether to wait until the model is available.
        start: Starts the process.
    """
    port, rest_port = free_ports(2)
    words = [
        f"--model_name={model}",
        *([f"--model_base_path={base_path}"] if base_path else []),
        f"--port={port}", f"--rest_api_port={rest_port}",
        "--file_system_poll_wait_seconds=1", *flags,
    ]  # fmt: skip
    running = RunningServer(
        start(words, log), port, rest_port, base_path or Path(), log, lambda: start(words, log)
    )
    try:
        if wait:
            with model_probe(running.http, model) as probe:
                wait_until_ready(
                    probe, running=lambda: running.process.poll() is None, timeout=300
                )  # only against a hang
        yield running
    finally:
        running.process.stop()


@pytest.fixture(autouse=True)
def _levels_of_loggers() -> Iterator[None]:
    """A command that runs in the test's process sets levels, which the next test must not see."""
    loggers = [logging.getLogger(name) for name in ("", "servable", "servable.gateway")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """Fashion-MNIST, from wherever it is found on this machine."""
    return fashion_mnist.find()[1]


@pytest.fixture(scope="session")
def small_dataset(dataset: Dataset) -> Dataset:
    """The first 3,000 images to train with and 1,000 to test with."""
    return replace(dataset, train=dataset.train.first(3000), test=dataset.test.first(1000))


@pytest.fixture(scope="session")
def run(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training run of a small network, evaluated; not to be written to."""

    def make(directory: Path) -> None:
        from servable_trainer.evaluation.evaluate import evaluate
        from servable_trainer.training.train import train

        train(small_dataset, directory=directory, hyperparameters={"width": 16}, epochs=2, seed=7)
        evaluate(directory, small_dataset)

    return make_once(tmp_path_factory, "run", make)


@pytest.fixture(scope="session")
def candidate(run: Path, small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short training run, exported; not to be written to."""

    def make(target: Path) -> None:
        from servable_trainer.training.export_run import export_run

        export_run(run, target, small_dataset, name=NAME)

    return make_once(tmp_path_factory, "candidate", make)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of the shipped model, version 1."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(SHIPPED, folder / NAME / "1")
    with serving(folder / NAME, folder / "log") as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Client]:
    """A client of the shared server, over gRPC and REST."""
    with Client(server.address(request.param), model=NAME) as client:
        yield client
