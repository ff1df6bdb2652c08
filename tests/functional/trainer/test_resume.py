"""Interrupted trainings: by a signal, a full disk or a lost file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import ROOT

from servable_trainer.training.run import RunError, load_run
from servable_trainer.training.train import train

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

# Everything whose state outlives an epoch: the optimizer's, the average's, the layers' seeds.
POINT = {
    "width": 8,
    "stages": 2,
    "dropout": 0.3,
    "optimizer": "muon",
    "ema": 0.99,
    "mixup": 0.2,
    "erasing": 0.3,
    "cutout": 0.2,
    "batch_size": 64,
}
EPOCHS = 4

# A process of its own, that ends as a machine does: without a word, in the middle of an epoch.
INTERRUPTED = """
import os, sys
from dataclasses import replace
from pathlib import Path
import keras
from servable_trainer import find
from servable_trainer.training.checkpoint import KeepEpochs
from servable_trainer.training.train import train

keep = KeepEpochs.on_epoch_end
def keep_two(self, epoch, logs=None):
    keep(self, epoch, logs)
    self.epochs_done = epoch + 1
def die(self, batch, logs=None):
    if getattr(self, "epochs_done", 0) == 2 and batch == 3:
        os.kill(os.getpid(), 9)
KeepEpochs.on_epoch_end, KeepEpochs.on_train_batch_end = keep_two, die
dataset = find()[1]
dataset = replace(dataset, train=dataset.train.first(600), test=dataset.test.first(100))
train(dataset, directory=Path(sys.argv[1]), hyperparameters=%r, epochs=%d, seed=3)
"""


@pytest.fixture(scope="module")
def tiny_dataset(dataset: Dataset) -> Dataset:
    return replace(dataset, train=dataset.train.first(600), test=dataset.test.first(100))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    """Where the run of a training was to be that was killed in its third epoch."""
    assert dataset.labels  # the data are on this machine by now
    directory = tmp_path_factory.mktemp("interrupted") / "run"
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED % (POINT, EPOCHS), directory],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not directory.exists()
    return directory


def test_a_resumed_training_ends_like_an_uninterrupted_one(
    interrupted: Path, tiny_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(directory: Path, *, seed: int = 3) -> None:
        train(tiny_dataset, directory=directory, hyperparameters=POINT, epochs=EPOCHS, seed=seed)

    # Other settings are refused, and the checkpoint stays.
    with pytest.raises(RunError, match="started with another seed"):
        fit(interrupted, seed=4)
    other = replace(tiny_dataset, checksums={"other": "data"})
    with pytest.raises(RunError, match="started with another dataset and epochs"):
        train(other, directory=interrupted, hyperparameters=POINT, epochs=9, seed=3)

    fit(interrupted)
    assert "resuming after epoch 2" in capsys.readouterr().err
    fit(tmp_path / "whole")
    resumed, one = load_run(interrupted)
    whole, other = load_run(tmp_path / "whole")
    assert resumed.epochs == whole.epochs
    assert len(resumed.epochs) == EPOCHS
    for weights, same in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, same)
    assert not list(interrupted.parent.glob(".*")), "the checkpoint is deleted at the end"


def test_weights_that_are_damaged_are_named(tiny_dataset: Dataset, tmp_path: Path) -> None:
    def fit(*, restart: bool = False) -> None:
        train(
            tiny_dataset,
            directory=tmp_path / "run",
            hyperparameters={"width": 8, "stages": 1},
            epochs=1,
            restart=restart,
        )

    kept = tmp_path / ".run.training"
    fit()
    (tmp_path / "run").rename(tmp_path / "done")
    settings = json.loads((tmp_path / "done" / "run.json").read_text())
    assert settings["epochs"]
    kept.mkdir()
    (kept / "settings.json").write_text("{")
    with pytest.raises(RunError, match="settings cannot be read") as caught:
        fit()
    assert "--restart" in str(caught.value.hint)
    fit(restart=True)
    assert load_run(tmp_path / "run")[0].epochs == load_run(tmp_path / "done")[0].epochs


def test_one_process_at_a_time(tiny_dataset: Dataset, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / ".run.training").mkdir()
    with (tmp_path / ".run.training" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is training"):
            train(tiny_dataset, directory=tmp_path / "run", epochs=1)


def test_a_disk_that_fills_loses_no_epoch(tiny_dataset: Dataset, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        point = {"width": 8, "stages": 1, "blocks": 1}
        filler = disk / "filler"
        filler.write_bytes(bytes(20_000 << 10))
        with pytest.raises(RunError, match="cannot write") as caught:
            train(tiny_dataset, directory=disk / "run", hyperparameters=point, epochs=2)
        assert "resumes" in str(caught.value.hint)
        assert not (disk / "run").exists()
        filler.unlink()
        train(tiny_dataset, directory=disk / "run", hyperparameters=point, epochs=1, restart=True)
        assert len(load_run(disk / "run")[0].epochs) == 1
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("ema", [0.0, 0.99])
def test_patience_ends_it_and_keeps_the_best(
    tiny_dataset: Dataset, tmp_path: Path, ema: float
) -> None:
    # A rate this high learns nothing more after the first epochs.
    point = {
        "width": 8,
        "stages": 1,
        "learning_rate": 0.02,
        "ema": ema,
        "batch_norm": False,
        "optimizer": "sgd",
    }
    run = train(
        tiny_dataset, directory=tmp_path / "run", hyperparameters=point, epochs=30, patience=2
    )
    losses = [epoch["val_loss"] for epoch in run.epochs]
    best = losses.index(min(losses))
    assert len(losses) < 30
    assert len(losses) == best + 1 + 2 + 1 or np.isnan(losses).any()
    fit, keep = tiny_dataset.split(seed=0)
    assert len(fit)
    _, model = load_run(tmp_path / "run")
    right = model.predict(keep.images, verbose=0).argmax(axis=1) == keep.targets
    assert right.mean() == pytest.approx(run.epochs[best]["val_accuracy"], abs=1e-6)
