"""What of the server imports without TensorFlow, which takes seconds."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import SHIPPED

LIGHT = (
    "server.api.classify_regress", "server.api.predict", "server.config", "server.grpc.server",
    "server.grpc.service", "server.json.examples", "server.json.outputs", "server.json.parse",
    "server.json.tensors", "server.lifecycle.manager", "server.lifecycle.registry",
    "server.lifecycle.version", "server.options", "server.rest.server", "server.runtime.batching",
    "server.telemetry",
)  # fmt: skip


def test_all_but_the_runtime_imports_without_tensorflow() -> None:
    imports = "".join(f"import servable_serving.{name}\n" for name in LIGHT)
    check = "import sys\nassert 'tensorflow' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", imports + check], check=True, timeout=120)


def test_a_model_runs_without_tensorflow_s_public_api_which_comes_at_its_first_use() -> None:
    code = f"""
import sys
from pathlib import Path
import numpy as np
from servable_serving.core.lazy_tensorflow import import_tensorflow_runtime
import_tensorflow_runtime()
from servable_serving.model.saved_model import SavedModel
model = SavedModel(Path({str(SHIPPED)!r}))
answer = model.run("serving_default", {{"image": np.zeros([1, 28, 28], np.uint8)}})
assert not {{"keras", "tensorflow._api", "tensorflow.python.eager.def_function"}} & set(sys.modules)
import tensorflow as tf
again = tf.saved_model.load({str(SHIPPED)!r}).signatures["serving_default"]
same = again(image=tf.zeros([1, 28, 28], tf.uint8))
np.testing.assert_allclose(answer["probabilities"], same["probabilities"], atol=1e-6)
assert tf.executing_eagerly() and tf.__version__ and tf.keras.layers.Dense(1)
assert not hasattr(tf, "no_such_name")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
