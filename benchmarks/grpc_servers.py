"""Compare the two servers of grpcio, threads and asyncio, with the same model.

    .venv/bin/python benchmarks/grpc_servers.py --rounds 3

Both answer a bare Predict of the shipped model (parse, run, serialize), unbatched: one in a pool of
threads, asyncio on uvloop through an executor, as the embedded server does: only there a call whose
message does not come costs no thread. CPU time is that of the
server process, from the kernel's counters.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np
import uvloop

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto, to_proto
from serving import IMAGES, MODEL, free_port, grpc_caller, load

THREADS = 8
SERVICE = "tensorflow.serving.PredictionService"


def answer() -> Any:
    from servable_serving import SavedModel

    model = SavedModel(Path(MODEL) / "1")

    def predict(data: bytes) -> bytes:
        request = wire.PredictRequest.FromString(data)
        inputs = {name: from_proto(tensor) for name, tensor in request.inputs.items()}
        outputs = model.run("serving_default", inputs)
        response = wire.PredictResponse(
            outputs={name: to_proto(array) for name, array in outputs.items()}
        )
        return response.SerializeToString()

    return predict


def serve_with_threads(port: int) -> None:
    predict = answer()
    handler = grpc.unary_unary_rpc_method_handler(lambda data, _: predict(data))
    server = grpc.server(
        ThreadPoolExecutor(THREADS),
        handlers=[grpc.method_handlers_generic_handler(SERVICE, {"Predict": handler})],
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def serve_with_asyncio(port: int) -> None:
    predict = answer()
    executor = ThreadPoolExecutor(THREADS)

    async def handle(data: bytes, _: Any) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(executor, predict, data)

    async def main() -> None:
        handler = grpc.unary_unary_rpc_method_handler(handle)
        server = grpc.aio.server(
            handlers=[grpc.method_handlers_generic_handler(SERVICE, {"Predict": handler})]
        )
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()

    uvloop.run(main())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        kind, port = options.serve
        {"threads": serve_with_threads, "asyncio": serve_with_asyncio}[kind](int(port))
        return
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, 28, 28), dtype=np.uint8)
    results: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        for kind in ("threads", "asyncio"):
            port = free_port()
            process = subprocess.Popen(
                [sys.executable, __file__, "--serve", kind, str(port)], stderr=subprocess.DEVNULL
            )
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(60)
            for callers in (1, 16):
                got = load(
                    process, [grpc_caller(port, images) for _ in range(callers)], options.seconds
                )
                results.setdefault((kind, callers), []).append(got)
            process.terminate()
            process.wait()
    print("| server | callers | per second | CPU-ms per request |\n| --- | ---: | ---: | ---: |")
    for (kind, callers), rounds in results.items():
        cpus = [cpu for _, cpu in rounds]
        rate = statistics.median(rate for rate, _ in rounds)
        print(
            f"| {kind} | {callers} | {rate:.0f} | {statistics.median(cpus):.2f} "
            f"({min(cpus):.2f} to {max(cpus):.2f}) |"
        )


if __name__ == "__main__":
    main()
