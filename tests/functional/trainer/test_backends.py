"""The same recipe under JAX, for machines whose accelerator TensorFlow does not know."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from tests.conftest import ROOT

from servable_serving.model.saved_model import SavedModel
from servable_trainer.training.export_run import export_run
from servable_trainer.training.run import load_run

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

TRAIN = """
import sys
class Missing:  # as on a machine with JAX alone
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from dataclasses import replace
from pathlib import Path
import numpy as np
from servable_trainer import find, train
from servable_trainer.training.run import load_run

dataset = find()[1]
dataset = replace(dataset, train=dataset.train.first(600), test=dataset.test.first(200))
point = {"width": 8, "stages": 1, "dense_units": 0, "flip": True, "shift": 2}
import keras
assert len(keras.distribution.list_devices()) == 2
train(dataset, directory=Path(sys.argv[1]), recipe="baseline", hyperparameters=point, epochs=2)
assert keras.distribution.distribution().device_mesh.devices.size == 2
_, model = load_run(Path(sys.argv[1]))
np.save(sys.argv[2], model.predict(dataset.test.images, verbose=0))
"""


def test_it_trains_under_jax_and_exports_under_tensorflow(dataset: Dataset, tmp_path: Path) -> None:
    small = replace(dataset, train=dataset.train.first(600), test=dataset.test.first(200))
    run, answers = tmp_path / "run", tmp_path / "answers.npy"
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, run, answers],
        cwd=ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            # Each device holds a thread while it waits for the other in a collective, and XLA has
            # one thread per core: with two cores, another collective finds none, and both wait.
            "NPROC": "16",
            # Most of the time is that of compilation.
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    epochs = load_run(run)[0].epochs
    assert epochs[1]["loss"] < epochs[0]["loss"]

    export_run(run, tmp_path / "candidate", small, name="from_jax")
    model = SavedModel(tmp_path / "candidate")
    try:
        found = model.run("serving_default", {"image": small.test.images})["probabilities"]
    finally:
        model.close()
    np.testing.assert_allclose(found, np.load(answers), atol=1e-4)
