"""A repository, its server, the gateway before it, and the companion beside that."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.conftest import free_port
from tests.forked import servable
from tests.functional.gateway.gateway import companion, gateway, patient_server
from tests.functional.serving.calls import config_of, eventually

from servable_serving.repository.manifest import MANIFEST, checksums
from servable_serving.repository.models_config import ModelsConfig
from servable_serving.repository.remote import Remote
from servable_serving.repository.traffic import read_traffic, write_traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.conftest import RunningServer
    from tests.functional.gateway.gateway import Gateway

    Inputs = Mapping[str, Any]


@dataclass
class Stage:
    """What `stage` runs; version 1 of its model is stable."""

    model: str
    url: str | None
    root: Path
    server: RunningServer
    gateway: Gateway
    metrics: str
    mirror: str

    @property
    def folder(self) -> Path:
        return self.root / self.model

    @property
    def arguments(self) -> list[object]:
        """Of `servable shadow`."""
        return [
            "--model", self.model, "--repository", self.url or self.folder,
            "--server", self.server.grpc,
            "--mirror", self.mirror,
        ]  # fmt: skip

    def labels(self) -> dict[str, int]:
        return ModelsConfig(self.root).labels(self.model)

    def shares(self) -> dict[str, float]:
        return {route.label: route.percent for route in read_traffic(self.root)[self.model]}

    def reports(self, kind: str, version: int) -> list[Path]:
        return sorted((self.folder / ".reports").glob(f"{kind}-{version}-*.json"))

    def report(self, kind: str, version: int) -> tuple[dict[str, Any], str]:
        path = self.reports(kind, version)[-1]
        return json.loads(path.read_text()), path.with_suffix(".md").read_text()


def fill(root: Path, model: str, versions: Mapping[int, Path]) -> None:
    """A repository in a folder."""
    for version, source in versions.items():
        shutil.copytree(source, root / model / str(version))
    (root / "models.config").write_text(
        config_of(
            {model: root / model}, labels={"stable": 1}, policy="specific { versions: 1 }"
        ).replace(str(root), "/models")
    )
    write_traffic(root, {})


def publish(url: str, model: str, versions: Mapping[int, Path], folder: Path) -> None:
    """A repository behind a URL."""
    remote = Remote(url)
    for version, source in versions.items():
        candidate = folder / str(version)
        shutil.copytree(source, candidate)
        manifest = candidate / MANIFEST
        manifest.parent.mkdir(exist_ok=True)
        manifest.write_text(json.dumps({"name": model, "sha256": checksums(candidate)}))
        assert remote.push(candidate) == version
    remote.label(model, 1, "stable")


@contextmanager
def synced(url: str, root: Path, log: Path) -> Iterator[None]:
    """`servable sync` in a process of its own."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "servable_client",
                "sync", url, str(root), "--every", "200ms",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def stage(
    folder: Path,
    model: str,
    versions: Mapping[int, Path],
    *flags: object,
    observe: int = 0,
    url: str | None = None,
) -> Iterator[Stage]:
    """Run a gateway in front of version 1.

    Args:
        folder: Where it keeps everything.
        model: The model's name.
        versions: The folders that are copied to its repository.
        flags: More flags of `servable gateway-metrics`.
        observe: The share of requests that the gateway has observed, in percent.
        url: Of a repository that the server and the gateway follow; they read the same folder.
    """
    root = folder / "models"
    if url is None:
        fill(root, model, versions)
    else:
        publish(url, model, versions, folder / "candidates")
        assert servable("sync", url, root).returncode == 0
    mirror = free_port()
    with (
        nullcontext() if url is None else synced(url, root, folder / "sync.log"),
        patient_server(
            folder,
            f"--model_config_file={root / 'models.config'}",
            f"--model_repository_path={root}",
            "--model_config_file_poll_wait_seconds=1",
            "--allow_version_labels_for_unavailable_models",
            model=model,
        ) as server,
        companion(
            "--upstream=127.0.0.1", "--upstream-grpc-port", server.port,
            "--upstream-rest-port", server.rest_port, "--mirror-port", mirror,
            "--models-root", root, *flags,
        ) as (metrics, syslog),
        gateway(
            folder,
            grpc_port=server.port,
            rest_port=server.rest_port,
            SERVABLE_RATE=0,
            SERVABLE_METRICS_SYSLOG=syslog,
            SERVABLE_MIRROR_PORT=mirror,
            SERVABLE_OBSERVE=observe,
        ) as running,
    ):  # fmt: skip
        yield Stage(model, url, root, server, running, metrics, f"http://127.0.0.1:{mirror}")


@dataclass
class Asked:
    """What callers got: the version that answered each, and what failed."""

    versions: list[int | None] = field(default_factory=list)
    failed: list[object] = field(default_factory=list)


@contextmanager
def load(
    stage: Stage,
    inputs: Callable[[int], Inputs],
    *schemes: str,
    label: str | None = None,
) -> Iterator[Asked]:
    """Two callers over each of some protocols, with the inputs of a number that grows."""
    stop, asked = threading.Event(), Asked()

    def ask(scheme: str, number: int) -> None:
        with stage.gateway.client(scheme, model=stage.model, timeout=60) as client:
            while not stop.wait(0.02):
                number += 1
                try:
                    answer = client.predict(inputs(number), label=label)
                    asked.versions.append(answer.version)
                except Exception as error:  # noqa: BLE001
                    asked.failed.append(error)

    callers = [
        threading.Thread(target=ask, args=(scheme, first))
        for scheme in schemes
        for first in (0, 100)
    ]
    for caller in callers:
        caller.start()
    try:
        eventually(lambda: len(asked.versions) > 20)
        yield asked
    finally:
        stop.set()
        for caller in callers:
            caller.join()
