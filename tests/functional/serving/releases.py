"""Candidates that load in a moment, and the releases of them at a real server."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tests.functional.serving.candidates import sign
from tests.functional.serving.fixture_models import LABELS

from servable_client import Client
from servable_serving.core.names import WARMUP
from servable_serving.exporter.export import export
from servable_serving.release.deployment import Deployment
from servable_serving.release.folder_target import FolderTarget
from servable_serving.release.push import Plan, push
from servable_serving.release.server_group import ServerGroup
from servable_serving.release.steps import Steps
from servable_serving.repository.local import Repository
from servable_serving.repository.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer

BALLAST = "assets/ballast"
# What is slow, and has tests of its own.
UNGATED = dict.fromkeys(("operations", "trial", "accuracy", "latency", "size"), "a test of labels")
FLAGS = (
    "--model_config_file_poll_wait_seconds=1", "--allow_version_labels_for_unavailable_models",
    "--max_num_load_retries=0",
)  # fmt: skip


def tinies(root: Path, count: int) -> list[Path]:
    """Candidates that keep the contract; the one at N says class N of every picture."""
    import keras

    model = keras.Sequential(
        [
            keras.Input([28, 28], dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax", kernel_initializer="zeros"),
        ]
    )
    kernel, _ = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, _bias(0)])
    export(
        model,
        root / "0",
        name="tiny",
        labels=LABELS,
        examples=np.zeros([1, 28, 28], np.uint8),
        about=_about(0),
    )
    # One record of nine: most of what a load takes is the warm-up, and it is not the matter here.
    records = tf.data.TFRecordDataset(str(root / "0" / WARMUP)).take(1)
    one = [record.numpy() for record in records]
    with tf.io.TFRecordWriter(str(root / "0" / WARMUP)) as writer:
        writer.write(one[0])
    sign(root / "0")
    return [root / "0", *(_other(root / "0", root / str(n), n) for n in range(1, count))]


def _bias(favourite: int) -> Any:
    return np.where(np.arange(10) == favourite, 4.0, np.arange(10) / 100).astype("float32")


def _about(favourite: int) -> dict[str, Any]:
    return {
        "hyperparameters": {"favourite": favourite},
        "metrics": {"test": {"accuracy": (10 + favourite) / 100}},
    }


def _other(first: Path, folder: Path, favourite: int) -> Path:
    """The first candidate with another bias: an export takes seconds, and this does not."""
    shutil.copytree(first, folder)
    graph = folder / "saved_model.pb"
    old, new = _bias(0).tobytes(), _bias(favourite).tobytes()
    if old in graph.read_bytes():
        graph.write_bytes(graph.read_bytes().replace(old, new))
    else:
        _save_weights(folder / "variables" / "variables", old, _bias(favourite))
    probabilities = np.exp(_bias(favourite)) / np.exp(_bias(favourite)).sum()
    manifest = json.loads((folder / MANIFEST).read_text())
    for golden in manifest["golden"]:
        golden["probabilities"] = [round(float(p), 6) for p in probabilities]
        golden["class_id"], golden["label"] = favourite, LABELS[favourite]
    sign(folder, golden=manifest["golden"], **_about(favourite))
    return folder


def _save_weights(prefix: Path, old: bytes, bias: Any) -> None:
    reader = tf.train.load_checkpoint(str(prefix))
    tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    changed = [
        name for name, value in tensors.items()
        if isinstance(value, np.ndarray) and value.tobytes() == old
    ]  # fmt: skip
    assert changed
    tensors |= dict.fromkeys(changed, bias)
    tf.raw_ops.SaveV2(
        prefix=f"{prefix}-part",
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[f"{prefix}-part"], destination_prefix=str(prefix)
    )


def named(candidate: Path, folder: Path, name: str) -> Path:
    """A copy of a candidate under another name."""
    shutil.copytree(candidate, folder)
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": name}))
    return folder


def with_ballast(candidate: Path, megabytes: int) -> Path:
    """Make a candidate take its time to be copied."""
    (candidate / BALLAST).parent.mkdir(exist_ok=True)
    (candidate / BALLAST).write_bytes(bytes(megabytes << 20))
    sign(candidate)
    return candidate


@dataclass
class Stage:
    """A model of its own at a server that others share."""

    server: RunningServer
    root: Path
    name: str
    candidates: list[Path]

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def repository(self) -> Repository:
        return Repository(self.path)

    def labels(self) -> dict[str, int]:
        return Deployment(model=self.name, repository=self.repository).labels()

    @contextmanager
    def deployment(self, timeout: float = 300.0) -> Iterator[Deployment]:
        with ServerGroup(self.server.grpc, model=self.name) as servers:
            yield Deployment(
                model=self.name, repository=self.repository, servers=servers, timeout=timeout
            )

    def push(self, candidate: Path | int, *, steps: Steps | None = None, **plan: Any) -> int:
        if isinstance(candidate, int):
            candidate = self.candidates[candidate]
        with self.deployment() as deployment:
            target = FolderTarget(deployment)
            version = push(candidate, target, steps or Steps(None), Plan(skip=UNGATED, **plan))
        assert version is not None
        return version

    def client(self, scheme: str = "grpc", **options: Any) -> Client:
        options = {"timeout": 60.0, **options}  # a guard against a hang: a machine may be busy
        return Client(self.server.address(scheme), model=self.name, **options)

    def resolved(self, label: str) -> int:
        with self.client() as client:
            return client.resolve(label=label)

    def states(self) -> dict[int, str]:
        with self.client() as client:
            return {status.version: status.state for status in client.status()}

    def flags(self) -> list[str]:
        """What names this model to a command that looks."""
        return ["--repository", str(self.path), "--server", self.server.grpc]

    def moving(self) -> list[str]:
        """And to one that waits for what it does: as a hang guard alone."""
        return [*self.flags(), "--timeout", "300"]


def skipping() -> list[str]:
    """`UNGATED`, as a command takes it."""
    return [*(word for gate in UNGATED for word in ("--skip", gate)), "--why", "a test of labels"]
