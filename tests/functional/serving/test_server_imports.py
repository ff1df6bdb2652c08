"""What of the server imports without TensorFlow, which takes seconds."""

from __future__ import annotations

import subprocess
import sys

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
