"""What the tests of the server share."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.conftest import make_once, save_models, serving
from tests.functional.serving.calls import config_of
from tests.functional.serving.releases import FLAGS, Stage, named
from tests.functional.serving.releases import tinies as make_tinies
from tests.functional.serving.stores import CREDENTIALS, new_bucket, s3_server, ssh_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the models of fixture_models; not to be written to."""
    return make_once(
        tmp_path_factory,
        "fixtures",
        lambda root: save_models("tests.functional.serving.fixture_models", root),
    )


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of a model that takes as long as it is asked to."""

    def make(root: Path) -> None:
        from tests.functional.serving.fixture_models import Slow, save

        save(Slow(), root / "1")

    return make_once(tmp_path_factory, "slow", make)


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


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server; what runs meanwhile finds it and its credentials in the environment."""
    with (
        s3_server(tmp_path_factory.mktemp("s3") / "log") as address,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": address}.items():
            patch.setenv(name, value)
        yield address


@pytest.fixture(scope="session")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An SFTP server, whose key is known."""
    with ssh_server(tmp_path_factory.mktemp("ssh") / "known_hosts") as root:
        yield root


@pytest.fixture
def s3_url(s3: str) -> str:
    """An empty remote repository in a bucket."""
    return f"s3://{new_bucket(s3)}/models"


@pytest.fixture(params=["memory", "file", "s3", "ssh"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty remote repository, in each kind of store."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    if request.param == "file":
        return f"file://{tmp_path}/remote"
    if request.param == "s3":
        return str(request.getfixturevalue("s3_url"))
    return f"{request.getfixturevalue('ssh')}{tmp_path}/remote"


@pytest.fixture
def channel(rich: RunningServer) -> Iterator[grpc.Channel]:
    """A gRPC channel to that server."""
    with grpc.insecure_channel(f"127.0.0.1:{rich.port}") as channel:
        yield channel


@pytest.fixture(scope="session")
def tinies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Candidates that load in a moment; the one at N says class N of every picture."""
    folder = make_once(tmp_path_factory, "tinies", lambda root: make_tinies(root, 5))
    return [folder / str(number) for number in range(5)]


@pytest.fixture(scope="session")
def released(tinies: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A server of a models.config, as it is shipped."""
    folder = tmp_path_factory.mktemp("released")
    root = folder / "models"
    named(tinies[0], root / "first" / "1", "first")
    (root / "models.config").write_text(
        'model_config_list { config { name: "first" base_path: "/models/first" '
        'model_platform: "tensorflow" model_version_policy { specific { versions: 1 } } '
        'version_labels { key: "stable" value: 1 } } }'
    )
    with serving(
        None,
        folder / "log",
        f"--model_config_file={root / 'models.config'}",
        f"--model_repository_path={root}",
        *FLAGS,
        model="first",
    ) as running:
        yield Stage(running, root, "first", tinies)


_numbers = itertools.count(1)


@pytest.fixture
def stage(released: Stage, tmp_path: Path) -> Stage:
    """A model of the test's own at that server, which has no version yet."""
    name = f"model{next(_numbers)}"
    root = tmp_path / "candidates"
    return replace(
        released,
        name=name,
        candidates=[
            named(candidate, root / str(n), name) for n, candidate in enumerate(released.candidates)
        ],
    )
