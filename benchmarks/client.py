"""Client cost per call: Servable against raw bytes and against other clients.

    python benchmarks/client.py [--rounds 5] [--processes 4] [--calls 150] [--pictures 10000]

One embedded server of the shipped model; each client in its own processes. The clients alternate
within a round, so that other load affects them equally. Processes of one client differ by some
percent for their whole life, because of memory layout, so there are several of each. CPU time is
that of the client process, all threads included. The other clients are installed by pip into
temporary environments; the table says why one did not run. Writes benchmarks/results/client.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "client.md"
NAME = "fashion_mnist"
BATCH = 32

RAW, SERVABLE, REST = "raw bytes on a grpc channel", "servable, gRPC", "servable, REST"
UPSTREAM, MIN_TFS, OVMS = "tensorflow-serving-api", "min-tfs-client", "ovmsclient"
ASYNC, ASYNC_REST = "servable, AsyncClient, gRPC", "servable, AsyncClient, REST"
# Every protobuf release since 2022 rejects its generated messages.
WITH = {MIN_TFS: ["protobuf<3.21"]}
CONTENDERS = [RAW, SERVABLE, ASYNC, REST, ASYNC_REST, UPSTREAM, MIN_TFS, OVMS]


# -- the clients, each in a process of its own -------------------------------------------------


def random_images(count: int) -> Any:
    """Random images: the cost of a call does not depend on their content."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, [count, 28, 28]).astype(np.uint8)


def calls_of(contender: str, port: int, rest_port: int) -> dict[str, Callable[[], object]]:
    """A contender's call for one image, and for a batch; each reads the probabilities."""
    one, batch = random_images(1)[0], random_images(BATCH)
    if contender in (SERVABLE, REST):
        from servable_client import Client

        server = f"grpc://127.0.0.1:{port}"
        if contender == REST:
            server = f"http://127.0.0.1:{rest_port}"
        client = Client(server, model=NAME, timeout=20)
        return {
            "one": lambda: client.classify(one).probabilities,
            "batch": lambda: client.predict({"image": batch})["probabilities"],
        }
    if contender == RAW:
        import grpc

        from servable_client.codec.grpc import encode
        from servable_client.net.endpoints import parse_servers
        from servable_client.types.operations import PredictOperation, Target

        (endpoint,) = parse_servers(f"grpc://127.0.0.1:{port}")
        channel = grpc.insecure_channel(endpoint.address)
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        bodies = [
            encode(
                endpoint,
                PredictOperation(
                    target=Target(model=NAME), signature="serving_default", inputs={"image": array}
                ),
                (),
            ).body
            for array in (one[None], batch)
        ]
        return {
            "one": lambda: call(bodies[0], timeout=20),
            "batch": lambda: call(bodies[1], timeout=20),
        }
    if contender == UPSTREAM:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        stub = prediction_service_pb2_grpc.PredictionServiceStub(
            grpc.insecure_channel(f"127.0.0.1:{port}")
        )

        def send(array: Any) -> object:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = NAME
            request.model_spec.signature_name = "serving_default"
            request.inputs["image"].CopyFrom(tf.make_tensor_proto(array))
            response = stub.Predict(request, timeout=20)
            return tf.make_ndarray(response.outputs["probabilities"])

        return {"one": lambda: send(one[None]), "batch": lambda: send(batch)}
    if contender == MIN_TFS:
        from min_tfs_client.requests import TensorServingClient

        other = TensorServingClient(host="127.0.0.1", port=port, credentials=None)

        def send_min(array: Any) -> object:
            # The response is not read: its reader does not support tensor_content.
            return other.predict_request(model_name=NAME, input_dict={"image": array}, timeout=20)

        return {"one": lambda: send_min(one[None]), "batch": lambda: send_min(batch)}
    from ovmsclient import make_grpc_client

    ovms = make_grpc_client(f"127.0.0.1:{port}")

    def send_ovms(array: Any) -> object:
        # Version 1 explicitly: TensorFlow Serving has no version 0, the default here.
        return ovms.predict({"image": array}, NAME, model_version=1, timeout=20)

    return {"one": lambda: send_ovms(one[None]), "batch": lambda: send_ovms(batch)}


def repeater_of(contender: str, port: int, rest_port: int) -> Callable[[str, int], object]:
    """Makes a number of calls of a contender, one after another: with "one" image or a "batch"."""
    if contender not in (ASYNC, ASYNC_REST):
        calls = calls_of(contender, port, rest_port)

        def repeat(name: str, times: int) -> None:
            call = calls[name]
            for _ in range(times):
                call()

        return repeat
    import asyncio

    from servable_client import AsyncClient

    one, batch = random_images(1)[0], random_images(BATCH)
    server = f"grpc://127.0.0.1:{port}" if contender == ASYNC else f"http://127.0.0.1:{rest_port}"
    client = AsyncClient(server, model=NAME, timeout=20)

    async def await_all(name: str, times: int) -> None:
        for _ in range(times):
            if name == "one":
                (await client.classify(one)).probabilities  # noqa: B018
            else:
                (await client.predict({"image": batch}))["probabilities"]

    loop = asyncio.new_event_loop()
    return lambda name, times: loop.run_until_complete(await_all(name, times))


def worker(contender: str, port: int, rest_port: int) -> None:
    """Read commands from standard input: `one 200` makes 200 calls with one image."""
    repeat = repeater_of(contender, port, rest_port)
    for name in ("one", "batch"):
        repeat(name, 20)
    print("ready", flush=True)
    for line in sys.stdin:
        name, count = line.split()
        times = int(count)
        cpu, wall = time.process_time(), time.perf_counter()
        repeat(name, times)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps([cpu / times * 1e3, wall / times * 1e3]), flush=True)


def stream(port: int, count: int, rounds: int) -> None:
    """Images per second, one by one and by `classify_many`, in turns."""
    from servable_client import Client

    images = random_images(count)
    few = images[: max(count // 10, 1)]
    singles, many = [], []
    with Client(f"grpc://127.0.0.1:{port}", model=NAME, timeout=60) as client:
        client.classify(images[0])
        for _ in range(rounds):
            began = time.perf_counter()
            for image in few:
                client.classify(image)
            singles.append(len(few) / (time.perf_counter() - began))
            began = time.perf_counter()
            assert sum(1 for _ in client.classify_many(images)) == count
            many.append(count / (time.perf_counter() - began))
    print(json.dumps([singles, many]))


def importing(code: str) -> None:
    """The CPU seconds of an import, and the peak memory of the process in MiB."""
    cpu = time.process_time()
    exec(code, {})  # noqa: S102
    cpu = time.process_time() - cpu
    # Not ru_maxrss, which a child inherits from its parent.
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    print(json.dumps([cpu, int(peak) / 1024]))


# -- the run ------------------------------------------------------------------------------------


def free_port() -> int:
    """A port that is not in use."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def environment(folder: Path, package: str) -> tuple[Path | None, str]:
    """An interpreter with `package`, or the error of pip."""
    python = folder / package / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / package], check=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *WITH.get(package, ()), package],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return python, ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return None, errors[-1] if errors else "pip failed"


def run(arguments: list[str], python: Path | str = sys.executable) -> Any:
    """The JSON that a subprocess of this program prints."""
    done = subprocess.run(
        [python, __file__, *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def spread(values: list[float], digits: int = 2) -> str:
    """Median, minimum and maximum."""
    return (
        f"{statistics.median(values):.{digits}f} "
        f"({min(values):.{digits}f} to {max(values):.{digits}f})"
    )


def machine() -> str:
    """The machine, without its host name."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in text.splitlines() if "model name" in line),
                 platform.processor())  # fmt: skip
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    widest = next((f for f in ("amx_tile", "avx512f", "avx2") if f in flags), "no AVX2")
    return f"{os.cpu_count()} cores of {model} ({widest}), Python {platform.python_version()}"


def main() -> None:
    """Run all benchmarks and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--calls", type=int, default=150)
    parser.add_argument("--pictures", type=int, default=10_000)
    options = parser.parse_args()
    port, rest_port = free_port(), free_port()
    failures: dict[str, str] = {}
    figures: dict[str, dict[str, list[list[float]]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(
            subprocess.Popen(
                [
                    sys.executable, "-m", "servable_client", "serve", f"--model_name={NAME}",
                    f"--model_base_path={ROOT / 'models' / NAME}", f"--port={port}",
                    f"--rest_api_port={rest_port}",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        stack.callback(server.terminate)
        from servable_client import Client

        with Client(f"grpc://127.0.0.1:{port}", model=NAME) as client:
            client.wait_until_available(timeout=120)
        pythons: dict[str, Path | str] = dict.fromkeys(CONTENDERS, sys.executable)
        for contender in (MIN_TFS, OVMS):
            print(f"installing {contender}", file=sys.stderr)
            python, failures[contender] = environment(folder, contender)
            if python is None:
                del pythons[contender]
            else:
                pythons[contender] = python
        workers: list[tuple[str, Any]] = []
        for _, (contender, python) in itertools.product(range(options.processes), pythons.items()):
            errors = (folder / f"{contender}.log").open("w+")
            process = subprocess.Popen(
                [python, __file__, "--worker", contender, str(port), str(rest_port)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
            assert process.stdout is not None
            if process.stdout.readline().strip() == "ready":
                failures.pop(contender, None)
                workers.append((contender, process))
                figures[contender] = {"one": [], "batch": []}
            else:
                errors.seek(0)
                lines = errors.read().strip().splitlines()
                failures[contender] = lines[-1] if lines else "it ended without output"
        for turn in range(options.rounds):
            for name, calls in (("one", options.calls), ("batch", max(options.calls // 4, 1))):
                for contender, process in workers:
                    process.stdin.write(f"{name} {calls}\n")
                    process.stdin.flush()
                    figures[contender][name].append(json.loads(process.stdout.readline()))
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
        rounds = min(options.rounds, 5)
        singles, many = run(["--stream", str(port), str(options.pictures), str(rounds)])
    imports = {
        code: [run(["--import", code]) for _ in range(5)]
        for code in (
            "import servable_client",
            f"from servable_client import Client; Client(model={NAME!r})",
            "from tensorflow_serving.apis import predict_pb2",
        )
    }
    text = report(options, figures, failures, singles, many, imports)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text)
    print(text)


def report(
    options: argparse.Namespace,
    figures: dict[str, dict[str, list[list[float]]]],
    failures: dict[str, str],
    singles: list[float],
    many: list[float],
    imports: dict[str, list[list[float]]],
) -> str:
    """The results as Markdown."""

    def cpu(contender: str, name: str) -> list[float]:
        return [value[0] for value in figures[contender][name]]

    def wall(contender: str, name: str) -> list[float]:
        return [value[1] for value in figures[contender][name]]

    def ratio(a: str, b: str, name: str) -> float:
        # Per round, and of processes that were started together: other load affects both.
        pairs = zip(cpu(a, name), cpu(b, name), strict=True)
        return statistics.median(x / y for x, y in pairs)

    command = (
        f"python benchmarks/client.py --rounds {options.rounds} --processes {options.processes} "
        f"--calls {options.calls} --pictures {options.pictures}"
    )
    lines = [
        "# Client cost per call",
        "",
        f"`{command}`, on {machine()}, the embedded server on the same cores.",
        "Medians over rounds and processes (minimum to maximum); clients alternate within a round.",
        "CPU-ms per call are those of the client process; wall ms are mostly the model's.",
        "",
        f"| client | CPU-ms, 1 image | wall ms | CPU-ms, batch of {BATCH} | wall ms |",
        "| --- | --- | --- | --- | --- |",
    ]
    for contender in CONTENDERS:
        if contender in figures:
            cells = [
                contender,
                spread(cpu(contender, "one"), 3),
                f"{statistics.median(wall(contender, 'one')):.2f}",
                spread(cpu(contender, "batch"), 3),
                f"{statistics.median(wall(contender, 'batch')):.2f}",
            ]
        else:
            cells = [contender, f"does not run: {failures[contender]}", "", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Ratios are medians of the ratios per round. Raw bytes are encoded once and never decoded:",
        "the cost of grpcio itself, a lower bound for its clients.",
        "",
        f"| CPU | at most | 1 image | batch of {BATCH} |",
        "| --- | --- | --- | --- |",
    ]
    for limit, a, b in (
        ("0.6 x", SERVABLE, UPSTREAM),
        ("", RAW, UPSTREAM),
        ("1.3 x", ASYNC, SERVABLE),
        ("1.3 x", ASYNC_REST, REST),
    ):
        one, batch = ratio(a, b, "one"), ratio(a, b, "batch")
        lines.append(f"| {a} against {b} | {limit} | {one:.2f} x | {batch:.2f} x |")
    faster = statistics.median(m / s for m, s in zip(many, singles, strict=True))
    lines += [
        "",
        f"`classify_many` of {options.pictures} images: {spread(many, 0)} per second;",
        f"one by one: {spread(singles, 0)} per second; {faster:.1f} x (requirement: 5 x).",
        "",
        "| import | CPU-s | MiB, including the interpreter |",
        "| --- | --- | --- |",
    ]
    for code, values in imports.items():
        seconds, memory = [v[0] for v in values], [v[1] for v in values]
        lines.append(f"| `{code}` | {spread(seconds, 3)} | {statistics.median(memory):.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1:2] == ["--stream"]:
        stream(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1:2] == ["--import"]:
        importing(sys.argv[2])
    else:
        main()
