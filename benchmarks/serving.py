"""Server cost per request of the embedded server, compared with the model alone.

    .venv/bin/python benchmarks/serving.py --rounds 5 --output benchmarks/results/serving.md

Each round classifies the same images one by one: with a loop over the SavedModel's tf.function in
a separate process, then with the server over gRPC and REST, with one caller and with sixteen. The
figures are CPU time of the loop's process and of the server, from the kernel's counters, so load
of other processes matters little. Medians over the rounds, with minimum and maximum.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np

from servable_client import Client
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import to_proto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "models" / "fashion_mnist"
IMAGES = 256

LOOP = """
import sys, time, numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
run = model.signatures["serving_default"]
images = np.load(sys.argv[2])
def ask(image):
    return {name: tensor.numpy() for name, tensor in run(image=tf.constant(image)).items()}
for image in images[:50]:
    ask(image[None])
began, cpu = time.perf_counter(), time.process_time()
count = 0
while time.perf_counter() - began < float(sys.argv[3]):
    ask(images[count % len(images)][None])
    count += 1
print(count, time.perf_counter() - began, time.process_time() - cpu)
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """The CPU-time of a process so far, its threads' included."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(*flags: str) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    port, rest_port = free_port(), free_port()
    command = [
        sys.executable, "-m", "servable_client", "serve", "--model_name=fashion_mnist",
        f"--model_base_path={MODEL}", f"--port={port}", f"--rest_api_port={rest_port}", *flags,
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with Client(f"grpc://127.0.0.1:{port}", model="fashion_mnist") as client:
            client.wait_until_available(timeout=120)
        yield process, port, rest_port
    finally:
        process.terminate()
        process.wait()


def grpc_caller(port: int, images: NDArray[Any]) -> Callable[[int], None]:
    # A channel each, as separate clients have.
    channel = grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
    )
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    bodies = []
    for image in images:
        request = wire.PredictRequest(inputs={"image": to_proto(image[None])})
        request.model_spec.name = "fashion_mnist"
        bodies.append(request.SerializeToString())
    return lambda index: call(bodies[index])


def rest_caller(port: int, images: NDArray[Any]) -> Callable[[int], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    bodies = [json.dumps({"instances": [image.tolist()]}).encode() for image in images]

    def call(index: int) -> None:
        connection.request("POST", "/v1/models/fashion_mnist:predict", bodies[index])
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200

    return call


def load(
    process: subprocess.Popen[bytes], callers: list[Callable[[int], None]], seconds: float
) -> tuple[float, float]:
    """Requests a second, and the server's CPU-ms for each."""
    stop = threading.Event()
    counts = [0] * len(callers)

    def ask(number: int) -> None:
        while not stop.is_set():
            callers[number]((counts[number] + 17 * number) % IMAGES)
            counts[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(callers))]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 4)
    before, cpu, began = sum(counts), cpu_seconds(process), time.perf_counter()
    time.sleep(seconds)
    done, used, took = (
        sum(counts) - before,
        cpu_seconds(process) - cpu,
        time.perf_counter() - began,
    )
    stop.set()
    for thread in threads:
        thread.join()
    return done / took, 1000 * used / done


def measure(rounds: int, seconds: float, flags: list[str]) -> dict[str, list[tuple[float, float]]]:
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, 28, 28), dtype=np.uint8)
    path = ROOT / "build" / "benchmark.npy"
    path.parent.mkdir(exist_ok=True)
    np.save(path, images)
    results: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        out = subprocess.run(
            [sys.executable, "-c", LOOP, str(MODEL / "1"), str(path), str(seconds)],
            capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
        count, took, cpu = int(out[-3]), float(out[-2]), float(out[-1])
        results.setdefault("tf.function in a loop", []).append((count / took, 1000 * cpu / count))
        with server(*flags) as (process, port, rest_port):
            for name, make, at in (
                ("gRPC", grpc_caller, port),
                ("REST", rest_caller, rest_port),
            ):
                for callers in (1, 16):
                    got = load(process, [make(at, images) for _ in range(callers)], seconds)
                    results.setdefault(
                        f"{name}, {callers} caller{'s' if callers > 1 else ''}", []
                    ).append(got)
        print(".", end="", flush=True)
    print()
    return results


def table(results: dict[str, list[tuple[float, float]]]) -> str:
    base = statistics.median(cpu for _, cpu in results["tf.function in a loop"])
    lines = [
        "| what | per second | CPU-ms per image | x the loop |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, rounds in results.items():
        rate = statistics.median(rate for rate, _ in rounds)
        cpus = [cpu for _, cpu in rounds]
        median = statistics.median(cpus)
        lines.append(
            f"| {name} | {rate:.0f} | {median:.2f} ({min(cpus):.2f} to {max(cpus):.2f}) "
            f"| {median / base:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds per measurement")
    parser.add_argument("--output", type=Path, help="a Markdown file for the table")
    parser.add_argument("flags", nargs="*", help="flags for the server, after --")
    options = parser.parse_args()
    text = table(measure(options.rounds, options.seconds, options.flags))
    print(text)
    if options.output:
        machine = (
            f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        )
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(
            f"# The embedded server, {time.strftime('%Y-%m-%d')}\n\n"
            f"`benchmarks/serving.py --rounds {options.rounds} {' '.join(options.flags)}` on "
            f"{machine}; medians (minimum to maximum).\n\n{text}\n"
        )


if __name__ == "__main__":
    main()
