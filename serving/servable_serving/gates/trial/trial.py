"""The gate of the trial: a server of its own process loads the candidate and is treated badly.

In a process of its own, since a graph may end the process that runs it: a convolution that is
given a tensor of another rank does so in a failed check of oneDNN's kernels.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc
import httpcore
import numpy as np

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto, to_proto
from servable_serving.core.names import BYTES_SIGNATURE
from servable_serving.gates.trial.adversarial_requests import PREDICT, Hostile, hostile_requests
from servable_serving.gates.trial.server_process import TrialServer, one_line
from servable_serving.gates.verdict import Refused, Verdict
from servable_serving.model.contract import contract_of
from servable_serving.repository.manifest import check_candidate

if TYPE_CHECKING:
    from pathlib import Path

# A guard against a hang, and no promise: a machine may be busy.
_REQUEST_SECONDS = 60
# Answers of another processor, or with other kernels, differ in the last digits.
_GOLDEN_TOLERANCE = 1e-3
_HTTP_OK = 200
# Codes that a call may end with whose server dies, and the seconds that it may take with it. What
# the server itself answers is not UNAVAILABLE, so that is worth waiting for.
_DYING = {"UNAVAILABLE": 10.0, "INTERNAL": 0.3, "UNKNOWN": 0.3, "CANCELLED": 0.3}


def try_out(candidate: Path, server: Path | None = None) -> Verdict:
    """Serve a candidate for a while.

    Args:
        candidate: A folder as `export` writes it.
        server: A tensorflow_model_server; `servable serve` unless given.

    Raises:
        Refused: It does not load, its warm-up fails, it does not answer the golden requests as its
            manifest says, or a hostile request ends the server or gets an answer that it must not.
        ServableError: The server cannot be started.
    """
    manifest = check_candidate(candidate)
    name, contract = manifest["name"], contract_of(candidate)
    golden = _golden_of(manifest) if BYTES_SIGNATURE in contract else []
    counts = {"answered": 0, "refused": 0}
    began = time.monotonic()
    with TrialServer.of(candidate, name, server) as running:
        loaded = time.monotonic() - began
        with _Trial(running, name) as trial:
            trial.check_golden(golden)
            for request in hostile_requests(name, contract):
                counts[trial.suffer(request)] += 1
            trial.check_golden(golden)
        peak = running.peak_megabytes()
    total = sum(counts.values())
    asked = f"{len(golden)} golden requests answered" if golden else "no golden requests"
    return Verdict(
        said=f"loaded and warmed up in {loaded:.1f} s, {asked}, and it outlived {total} hostile "
        f"ones, of which it refused {counts['refused']}",
        figures={
            "load_seconds": round(loaded, 3), "golden": len(golden), "hostile": total, **counts,
            "peak_megabytes": peak, "server": str(server) if server else "servable serve",
        },
    )  # fmt: skip


class _Golden(NamedTuple):
    """A request whose answer is known."""

    png: bytes
    probabilities: Any
    class_id: int
    label: str


def _golden_of(manifest: dict[str, Any]) -> list[_Golden]:
    try:
        return [
            _Golden(
                base64.b64decode(one["png"], validate=True),
                np.asarray(one["probabilities"], np.float64),
                int(one["class_id"]),
                str(one["label"]),
            )
            for one in manifest.get("golden") or []
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(
            f"the golden requests in the manifest cannot be read: {error!r}",
            hint="export the candidate again",
        ) from error


class _Trial:
    """The ways to ask a trial server; to be used as a context manager."""

    def __init__(self, server: TrialServer, name: str) -> None:
        self._server, self._name = server, name
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{server.grpc_port}",
            [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)],
        )
        self._pool = httpcore.ConnectionPool()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._pool.close()

    def suffer(self, request: Hostile) -> str:
        """Send a hostile request.

        Returns:
            "answered" or "refused".

        Raises:
            Refused: It ended the server, got an answer that it must not get, or none for long.
        """
        if request.rest:
            code, _ = self._rest(request.path, request.body)
        else:
            code, _ = self._grpc(request.path, request.body)
        figures = {"request": request.said, "exit_status": self._server.exit_status}
        if code in _DYING and self._server.died(within=_DYING[code]):
            raise Refused(
                f"{self._server.how_it_ended()} by one request: {request.said}",
                hint="let `tf.ensure_shape` of the declared shape be the first thing that the "
                "graph does with each input; `servable export` does so",
                figures={**figures, "exit_status": self._server.exit_status},
            )
        if code == "UNAVAILABLE":
            raise Refused(f"the trial server hung up on {request.said}", figures=figures)
        if code == "DEADLINE_EXCEEDED":
            raise Refused(
                f"the trial server did not answer in {_REQUEST_SECONDS} s: {request.said}",
                hint="check sizes in the graph before anything is made of an input",
                figures=figures,
            )
        if code == "OK" and request.must_refuse:
            raise Refused(
                f"the candidate answers what it must refuse: {request.said}",
                hint="a picture may have 4096 x 4096 pixels and 10 MiB: check what a file declares "
                "before it is decoded, as `servable export` does",
                figures=figures,
            )
        return "answered" if code == "OK" else "refused"

    def check_golden(self, golden: list[_Golden]) -> None:
        """Ask the golden requests, in one batch over each protocol.

        Raises:
            Refused: An answer is not the manifest's.
        """
        if not golden:
            return
        files = [one.png for one in golden]
        for protocol, answers in (
            ("gRPC", self._ask_by_grpc(files)), ("REST", self._ask_by_rest(files))
        ):  # fmt: skip
            for index, one in enumerate(golden):
                found = np.asarray(answers["probabilities"][index], np.float64)
                label, class_id = answers["label"][index], int(answers["class_id"][index])
                same = found.shape == one.probabilities.shape
                apart = float(np.abs(found - one.probabilities).max()) if same else float("inf")
                if (class_id, label) == (one.class_id, one.label) and apart <= _GOLDEN_TOLERANCE:
                    continue
                raise Refused(
                    f"golden request {index + 1} of {len(golden)} is answered over {protocol} with "
                    f"{label} ({found.max():.4f}), and the manifest says {one.label} "
                    f"({one.probabilities.max():.4f}); their probabilities are {apart:.2g} apart",
                    hint="the weights are not those that were exported: export it again",
                    figures={"golden": index, "apart": apart if same else None},
                )

    def _ask_by_grpc(self, files: list[bytes]) -> dict[str, Any]:
        request = wire.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._name, BYTES_SIGNATURE
        request.inputs["image_bytes"].CopyFrom(to_proto(files))
        code, reply = self._grpc(PREDICT, request.SerializeToString())
        if code != "OK":
            raise self._golden_failed("gRPC", reply.decode(errors="replace"))
        outputs = wire.PredictResponse.FromString(reply).outputs
        answer = {key: from_proto(proto) for key, proto in outputs.items()}
        return {**answer, "label": [label.decode() for label in answer["label"]]}

    def _ask_by_rest(self, files: list[bytes]) -> dict[str, Any]:
        body = {
            "signature_name": BYTES_SIGNATURE,
            "inputs": [{"b64": base64.b64encode(file).decode()} for file in files],
        }
        code, reply = self._rest(f"/v1/models/{self._name}:predict", json.dumps(body).encode())
        if code != "OK":
            raise self._golden_failed("REST", reply.decode(errors="replace"))
        outputs: dict[str, Any] = json.loads(reply)["outputs"]
        return outputs

    def _golden_failed(self, protocol: str, reason: str) -> Refused:
        dying = reason.partition(" ")[0]
        if dying in _DYING and self._server.died(within=_DYING[dying]):
            return Refused(f"{self._server.how_it_ended()} by the golden requests")
        return Refused(f"the golden requests are refused over {protocol}: {one_line(reason)}")

    def _grpc(self, path: str, body: bytes) -> tuple[str, bytes]:
        """The status code by name, and the reply or what is said of it."""
        try:
            return "OK", self._channel.unary_unary(path, None, None)(body, timeout=_REQUEST_SECONDS)
        except grpc.RpcError as error:
            code = error.code().name
            return code, f"{code} {error.details()}".encode()

    def _rest(self, path: str, body: bytes) -> tuple[str, bytes]:
        try:
            reply = self._pool.request(
                "POST",
                f"http://127.0.0.1:{self._server.rest_port}{path}",
                content=body,
                extensions={"timeout": {"read": _REQUEST_SECONDS}},
            )
        except httpcore.TimeoutException:
            return "DEADLINE_EXCEEDED", b"DEADLINE_EXCEEDED"
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            return "UNAVAILABLE", f"UNAVAILABLE {error}".encode()
        return "OK" if reply.status == _HTTP_OK else "INVALID_ARGUMENT", reply.content
