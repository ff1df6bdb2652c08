"""Whether the memory of the embedded server grows with each version loaded and unloaded.

    .venv/bin/python benchmarks/reload_memory.py --output benchmarks/results/reload_memory.md

Two copies of the shipped model alternate, each by a reload of the configuration: every reload loads
one, answers a request with it and unloads the other. The figures are the resident memory of the
process after the unload.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np
from tensorflow_serving.apis import model_management_pb2

from servable_client import Client
from serving import MODEL, cpu_seconds, server


def resident_mib(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loads", type=int, default=200)
    parser.add_argument("--output", type=Path, help="a Markdown file for the table")
    options = parser.parse_args()
    image = np.zeros([28, 28], np.uint8)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "fashion_mnist"
        for version in ("1", "2"):
            shutil.copytree(MODEL / "1", base / version)
        with (
            server(f"--model_base_path={base}") as (process, port, _),
            grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
            Client(f"grpc://127.0.0.1:{port}", model="fashion_mnist") as client,
        ):
            reload = channel.unary_unary(
                "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
                request_serializer=model_management_pb2.ReloadConfigRequest.SerializeToString,
            )
            cpu = 0.0
            for load in range(1, options.loads + 1):
                version = 1 + load % 2
                request = model_management_pb2.ReloadConfigRequest()
                config = request.config.model_config_list.config.add(
                    name="fashion_mnist", base_path=str(base), model_platform="tensorflow"
                )
                config.model_version_policy.specific.versions.append(version)
                reload(request)
                # Both at once: the new version answers, and the old one's memory is released.
                while True:
                    states = {v.version: v.state for v in client.status()}
                    gone = states.get(3 - version, "END")
                    if states.get(version) == "AVAILABLE" and gone == "END":
                        break
                    time.sleep(0.005)
                assert client.classify(image).version == version
                if load in {1, 5, 10, 20, 50, 100, 150, options.loads}:
                    rows.append((load, resident_mib(process.pid)))
                    print(f"{load:4d} loads: {rows[-1][1]:.0f} MiB", flush=True)
                if load == 20:
                    cpu = cpu_seconds(process)
            each = (cpu_seconds(process) - cpu) / max(options.loads - 20, 1)
    at = dict(rows)
    summary = (
        f"From 20 to {options.loads} loads: {at[options.loads] - at[20]:+.1f} MiB; "
        f"{each:.2f} CPU-s per load, warm-up included."
    )
    print(summary)
    if options.output:
        lines = "\n".join(f"| {load} | {mib:.0f} |" for load, mib in rows)
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(
            f"# Memory after reloads, {time.strftime('%Y-%m-%d')}\n\n"
            f"`benchmarks/reload_memory.py --loads {options.loads}`\n\n"
            f"| loads | resident MiB |\n| ---: | ---: |\n{lines}\n\n{summary}\n"
        )


if __name__ == "__main__":
    main()
