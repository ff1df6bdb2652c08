"""What the tests of the gateway share: small models, a server of them, a gateway before it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import NAME, SHIPPED, make_once, save_models
from tests.functional.gateway.gateway import ADMIN_KEY, KEY, OTHER_KEY, gateway, patient_server
from tests.functional.serving.calls import config_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer
    from tests.functional.gateway.gateway import Gateway


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("nginx") is None:
        for item in items:
            if "tests/functional/gateway" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="nginx is not installed"))


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the models of models_of_tests; not to be written to."""
    return make_once(
        tmp_path_factory,
        "small",
        lambda root: save_models("tests.functional.gateway.models_of_tests", root),
    )


@pytest.fixture(scope="session")
def backend(
    small_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server of all of them, linear's version 1 as stable, 2 as canary."""
    folder = tmp_path_factory.mktemp("backend")
    config = folder / "models.config"
    config.write_text(
        config_of(
            {
                "linear": small_models / "linear",
                "nap": small_models / "nap",
                NAME: SHIPPED.parent,
            },
            labels={"stable": 1, "canary": 2},
        )
    )
    monitoring = folder / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with patient_server(
        folder,
        f"--model_config_file={config}",
        f"--monitoring_config_file={monitoring}",
        "--allow_version_labels_for_unavailable_models",
        model="linear",
    ) as running:
        yield running


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Files with keys, as settings of the gateway."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "keys").write_text(f"# who may ask\nalice:{KEY}\nbob:{OTHER_KEY}\n")
    (folder / "admins").write_text(f"release:{ADMIN_KEY}\n")
    return {
        "SERVABLE_API_KEYS_FILE": folder / "keys",
        "SERVABLE_ADMIN_KEYS_FILE": folder / "admins",
    }


@pytest.fixture(scope="session")
def guarded(
    backend: RunningServer, keys: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway with keys, for the tests to share; traffic is stable's alone."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "models").mkdir()
    (folder / "models" / "models.traffic").write_text("linear stable 1 100\nlinear canary 2 0\n")
    (folder / "web").mkdir()
    (folder / "web" / "index.html").write_text("<!doctype html><title>Servable</title>")
    with gateway(
        folder,
        grpc_port=backend.port,
        rest_port=backend.rest_port,
        SERVABLE_MAX_BODY="4m",
        SERVABLE_CORS_ORIGINS="https://app.example,http://localhost:5173",
        # Many tests send keys that nobody has.
        SERVABLE_UNKNOWN_KEY_RATE="0",
        **keys,
    ) as running:
        yield running


@pytest.fixture
def opened(backend: RunningServer, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway without keys, of the test's own."""
    with gateway(tmp_path, grpc_port=backend.port, rest_port=backend.rest_port) as running:
        yield running
