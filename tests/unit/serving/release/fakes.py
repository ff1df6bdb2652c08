"""Servers without a process: they read models.config when they are asked."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client import ConnectionFailed, ModelNotFound, VersionStatus
from servable_serving.core.names import BYTES_SIGNATURE
from servable_serving.release.deployment import Deployment
from servable_serving.release.server_group import NoAnswer, ReleaseError
from servable_serving.repository.local import Repository
from servable_serving.repository.models_config import ModelsConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from servable_serving.release.server_group import ReleaseClient

MODEL = "garments"


@dataclass
class FakeServers:
    """Servers of a models.config, which apply it at once.

    Attributes:
        root: The folder with models.config.
        watches: Whether they read it.
        down: Whether none answers.
        broken: Versions that fail to load.
        stuck: Labels that they do not apply.
        reloads: How often a reload was requested.
    """

    root: Path
    watches: bool | None = True
    down: bool = False
    broken: set[int] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    reloads: int = 0
    address: str = "grpc://fake"
    clients: Sequence[ReleaseClient] = ()

    @property
    def _listed(self) -> set[int]:
        return ModelsConfig(self.root).listed(MODEL, self.root / MODEL)

    def check(self) -> None:
        if self.down:
            raise NoAnswer("no server answers")

    def states(self) -> list[dict[int, VersionStatus]]:
        self.check()
        return [
            {
                v: VersionStatus(version=v, state="END" if v in self.broken else "AVAILABLE")
                for v in self._listed
            }
        ]

    def available(self) -> set[int]:
        return self._listed - self.broken

    def watches_config(self, labels: Mapping[str, int]) -> bool | None:
        return self.watches if labels else None

    def request_reload(self, text: str) -> None:
        assert text == ModelsConfig(self.root).text()
        self.reloads += 1

    def wait_for(
        self, version: int, *, timeout: float, before: list[dict[int, VersionStatus]]
    ) -> None:
        del timeout, before
        assert version in self._listed
        if version in self.broken:
            raise ReleaseError(f"version {version} failed to load")

    def wait_for_label(
        self, label: str, version: int, *, timeout: float, reload: Callable[[], None]
    ) -> None:
        del timeout
        reload()
        if label in self.stuck:
            raise ReleaseError(f"{label} did not come to version {version}")
        assert ModelsConfig(self.root).labels(MODEL)[label] == version


@dataclass
class FakeClient:
    """One server, as `ServerGroup` and the smoke test ask it.

    Attributes:
        states: The model's versions.
        labels: What its labels stand for.
        probabilities: Its answer to each image.
        down: Whether it does not answer.
        answers_as: The version that it says has answered; the one asked for unless given.
        signatures: Its signatures.
        configs: The configurations that it was given.
    """

    states: dict[int, VersionStatus] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    probabilities: Sequence[float] = (0.2, 0.8)
    down: bool = False
    answers_as: int | None = None
    signatures: Sequence[str] = (BYTES_SIGNATURE,)
    configs: list[str] = field(default_factory=list)
    closed: bool = False
    endpoint: str = "grpc://fake:1"

    def _answer(self) -> None:
        if self.down:
            raise ConnectionFailed("it is down")

    def status(self) -> list[VersionStatus]:
        self._answer()
        if not self.states:
            raise ModelNotFound("no such model")
        return list(self.states.values())

    def resolve(self, *, label: str) -> int:
        self._answer()
        if label not in self.labels:
            raise ModelNotFound("no such label")
        return self.labels[label]

    def reload_config(self, config: str, *, timeout: float) -> None:
        del timeout
        self._answer()
        self.configs.append(config)

    def metadata(self, *, version: int) -> Mapping[str, Any]:
        del version
        self._answer()
        return dict.fromkeys(self.signatures)

    def predict(
        self, inputs: Mapping[str, Any], *, signature: str, version: int, timeout: float
    ) -> Any:
        del timeout
        if signature != BYTES_SIGNATURE:
            return AnyPrediction(self.answers_as or version, {"price": [sum(self.probabilities)]})
        count = len(inputs["image_bytes"])
        return FakePrediction(self.answers_as or version, np.array([self.probabilities] * count))

    def classify(self, image: bytes, /, *, version: int, timeout: float) -> Any:
        del image, timeout
        best = int(np.argmax(self.probabilities))
        return FakeClassification(self.answers_as or version, best, f"class {best}")

    def close(self) -> None:
        self.closed = True


class AnyPrediction(dict[str, Any]):
    """Outputs of any model by name."""

    def __init__(self, version: int, outputs: dict[str, Any]) -> None:
        super().__init__(outputs)
        self.version = version


@dataclass
class FakePrediction:
    version: int
    probabilities: Any

    def __getitem__(self, name: str) -> Any:
        return {"probabilities": self.probabilities}[name]


@dataclass
class FakeClassification:
    version: int
    class_id: int
    label: str


def golden(*probabilities: float) -> dict[str, Any]:
    """A golden request, as a manifest has it."""
    png = base64.b64encode(b"png").decode()
    return {"png": png, "probabilities": list(probabilities), "class_id": 1, "label": "shirt"}


def deployment_in(root: Path, servers: FakeServers | None = None) -> Deployment:
    """A deployment of the model in a folder."""
    return Deployment(model=MODEL, repository=Repository(root / MODEL), servers=servers, timeout=1)
