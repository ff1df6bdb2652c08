"""Gate `trial`: load the candidate in a subprocess and send adversarial requests.

In a subprocess, since a graph may end the process that runs it: a convolution that is given a
tensor of another rank does so in a failed check of oneDNN's kernels.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import grpc
import httpcore
import numpy as np

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto, to_proto
from servable_serving.core.names import BYTES_SIGNATURE, CLASSIFY_METHOD, IMAGE_BYTES, IMAGE_FEATURE
from servable_serving.gates.requests import well_formed_requests
from servable_serving.gates.trial.adversarial_requests import (
    CLASSIFY,
    PREDICT,
    AdversarialRequest,
    adversarial_requests,
    image_file,
)
from servable_serving.gates.trial.server_process import TrialServer, one_line
from servable_serving.gates.verdict import Refused, Verdict
from servable_serving.model.contract import shape_fits
from servable_serving.model.golden import GoldenRequest, golden_requests
from servable_serving.repository.manifest import IMAGE_CLASSIFIER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from servable_serving.gates.inspected_version import InspectedVersion

# Generous timeout to detect hangs on loaded machines.
_REQUEST_SECONDS = 60
# Answers of another processor, or with other kernels, differ in the last digits.
_GOLDEN_TOLERANCE = 1e-3
_HTTP_OK = 200
# Codes of calls whose server may have died, and the seconds to wait for its end. A server never
# answers UNAVAILABLE itself, so that code is worth a longer wait.
_DYING = {"UNAVAILABLE": 10.0, "INTERNAL": 0.3, "UNKNOWN": 0.3, "CANCELLED": 0.3}


def try_out(candidate: InspectedVersion, server: Path | None = None, *, memory: float) -> Verdict:
    """Serve a candidate for a while.

    Args:
        candidate: The candidate.
        server: A tensorflow_model_server; `servable serve` unless given.
        memory: MiB that a request may add to the memory of the server.

    Raises:
        Refused: It does not load, its warm-up fails, it answers the golden requests differently
            than its manifest, a signature answers nothing that fits it, or an adversarial request
            ends the server, takes more memory, or gets an answer that it must not get.
        ServableError: The server cannot be started.
    """
    manifest, contract = candidate.files.verify(), candidate.contract
    name, classifies = manifest["name"], candidate.files.is_classifier
    golden = _golden_of(manifest) if classifies and BYTES_SIGNATURE in contract else []
    known = [] if classifies else golden_requests(manifest)
    # Another's `classify` may read other features than the contract's.
    of_images = manifest.get("kind") == IMAGE_CLASSIFIER
    counts = {"answered": 0, "refused": 0}
    began = time.monotonic()
    with TrialServer.of(candidate.folder, name, server) as running:
        loaded = time.monotonic() - began
        running.limit_memory(memory)
        with _TrialClient(running, name) as client:
            client.check_golden(golden)
            client.check_requests(known)
            for request in adversarial_requests(name, contract):
                counts[client.send(request)] += 1
            for key in contract:
                if key not in {one.signature for one in known}:
                    client.check_answer(contract, key, of_images=of_images)
            client.check_golden(golden)
            client.check_requests(known)
        peak = running.peak_mebibytes()
    total = sum(counts.values())
    count = len(golden) + len(known)
    asked = f"{count} golden requests answered" if count else "no golden requests"
    return Verdict(
        said=f"loaded and warmed up in {loaded:.1f} s, {asked}, survived {total} adversarial "
        f"requests, of which it refused {counts['refused']}",
        figures={
            "load_seconds": round(loaded, 3), "golden": count, "hostile": total, **counts,
            "peak_mebibytes": peak, "server": str(server) if server else "servable serve",
        },
    )  # fmt: skip


class _Golden(NamedTuple):
    """A request whose answer is known."""

    png: bytes
    probabilities: Any
    class_id: int
    label: str


def _golden_of(manifest: Mapping[str, Any]) -> list[_Golden]:
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


def _of_files(files: list[bytes]) -> GoldenRequest:
    """A request with image files, without expected answers."""
    images = np.array(files, object)
    return GoldenRequest(signature=BYTES_SIGNATURE, inputs={IMAGE_BYTES: images}, outputs={})


def _check_outputs(key: str, declared: Mapping[str, Any], reply: bytes) -> None:
    """Hold an answer against the outputs that a signature declares."""
    outputs = wire.PredictResponse.FromString(reply).outputs
    for name, info in declared.items():
        if name not in outputs:
            raise Refused(f"the signature {key} declares the output {name}, and does not give it")
        dtype = wire.DataType.Name(outputs[name].dtype)
        shape = [dim.size for dim in outputs[name].tensor_shape.dim]
        if dtype != info["dtype"] or not shape_fits(shape, info["shape"]):
            raise Refused(
                f"the signature {key} declares {name} as {info['dtype']} {info['shape']}, and "
                f"gives {dtype} {shape}"
            )


class Server(Protocol):
    """What the gate needs of a `TrialServer` to which it sends requests."""

    grpc_port: int
    rest_port: int

    @property
    def exit_status(self) -> int | None:
        """Its exit status; None while it runs."""

    def died(self, *, within: float) -> bool:
        """Whether it has ended, or does so within some seconds."""

    def how_it_ended(self) -> str:
        """The signal or status that it ended with."""

    def exceeded(self) -> float | None:
        """MiB that requests have added to its memory, if that is too much."""


class _TrialClient:
    """Sends requests to a trial server; to be used as a context manager."""

    def __init__(self, server: Server, name: str) -> None:
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

    def send(self, request: AdversarialRequest) -> str:
        """Send an adversarial request.

        Returns:
            "answered" or "refused".

        Raises:
            Refused: It ended the server, got an answer that it must not get, or none in time.
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
        if (added := self._server.exceeded()) is not None:
            raise Refused(
                f"one request takes {added:,.0f} MiB of memory: {request.said}",
                hint="bound in the graph what an input may make it compute, or allow more with "
                "--trial-memory",
                figures={**figures, "added_mebibytes": round(added, 1)},
            )
        if code == "UNAVAILABLE":
            raise Refused(
                f"the trial server closed the connection of {request.said}", figures=figures
            )
        if code == "DEADLINE_EXCEEDED":
            raise Refused(
                f"the trial server did not answer in {_REQUEST_SECONDS} s: {request.said}",
                hint="check sizes in the graph before anything is computed from an input",
                figures=figures,
            )
        if code == "OK" and request.must_refuse:
            raise Refused(
                f"the candidate answers what it must refuse: {request.said}",
                hint="check what a file declares before decoding it, as `servable export` does; it "
                "exports a version of its own again: servable export VERSION",
                figures=figures,
            )
        return "answered" if code == "OK" else "refused"

    def check_golden(self, golden: list[_Golden]) -> None:
        """Send the golden requests, in one batch over each protocol.

        Raises:
            Refused: An answer is not the manifest's.
        """
        if not golden:
            return
        request = _of_files([one.png for one in golden])
        for protocol, answers in (
            ("gRPC", self._ask_by_grpc(request)), ("REST", self._predict_by_rest(request))
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
                    hint="the weights differ from those that were exported: export it again",
                    figures={"golden": index, "apart": apart if same else None},
                )

    def check_requests(self, golden: list[GoldenRequest]) -> None:
        """Send golden requests of a model that is not an image classifier, over each protocol.

        Raises:
            Refused: An answer is not the manifest's.
        """
        for index, one in enumerate(golden):
            for protocol, ask in (("gRPC", self._predict), ("REST", self._predict_by_rest)):
                how = one.difference(ask(one), _GOLDEN_TOLERANCE)
                if how is not None:
                    raise Refused(
                        f"golden request {index + 1} of {len(golden)}, to {one.signature}, is "
                        f"answered over {protocol} differently than its manifest says: {how}",
                        hint="the weights differ from those that were exported: export it again",
                        figures={"golden": index},
                    )

    def check_answer(
        self, contract: Mapping[str, Any], key: str, *, of_images: bool = False
    ) -> None:
        """Get one well-formed answer from a signature.

        One that takes tf.Examples is asked only of a model that `servable export` wrote, since
        which features it reads is not declared.

        Raises:
            Refused: It answers none of the requests that are made from what it declares.
        """
        if contract[key]["method"] == CLASSIFY_METHOD and of_images:
            self._check_classify(contract, key)
            return
        reason, asked = "", False
        requests = well_formed_requests(contract, key)
        if key == BYTES_SIGNATURE and list(contract[key]["inputs"]) == [IMAGE_BYTES]:
            requests = iter([_of_files([image_file(contract)])])
        for request in requests:
            asked = True
            code, reply = self._grpc(PREDICT, self._message(request).SerializeToString())
            if code == "OK":
                _check_outputs(key, contract[key]["outputs"], reply)
                return
            if code in _DYING and self._server.died(within=_DYING[code]):
                raise Refused(f"{self._server.how_it_ended()} by a request that fits {key}")
            reason = one_line(reply.decode(errors="replace"))
        if asked:
            raise Refused(
                f"the signature {key} answers nothing made from what it declares: {reason}",
                hint="export it again with --examples FILE.npz, which holds what it does answer",
                figures={"signature": key},
            )

    def _check_classify(self, contract: Mapping[str, Any], key: str) -> None:
        request = wire.ClassificationRequest()
        request.model_spec.name, request.model_spec.signature_name = self._name, key
        example = request.input.example_list.examples.add()
        example.features.feature[IMAGE_FEATURE].bytes_list.value.append(image_file(contract))
        code, reply = self._grpc(CLASSIFY, request.SerializeToString())
        if code != "OK":
            raise Refused(
                f"the signature {key} refuses an image: {one_line(reply.decode(errors='replace'))}",
                figures={"signature": key},
            )

    def _message(self, one: GoldenRequest) -> wire.PredictRequest:
        request = wire.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._name, one.signature
        for name, array in one.inputs.items():
            request.inputs[name].CopyFrom(to_proto(array))
        return request

    def _predict(self, one: GoldenRequest) -> dict[str, Any]:
        code, reply = self._grpc(PREDICT, self._message(one).SerializeToString())
        if code != "OK":
            raise self._golden_failed("gRPC", code, reply)
        outputs = wire.PredictResponse.FromString(reply).outputs
        return {key: from_proto(proto) for key, proto in outputs.items()}

    def _predict_by_rest(self, one: GoldenRequest) -> dict[str, Any]:
        body = {"signature_name": one.signature, "inputs": one.rest_inputs()}
        code, reply = self._rest(f"/v1/models/{self._name}:predict", json.dumps(body).encode())
        if code != "OK":
            raise self._golden_failed("REST", code, reply)
        outputs = json.loads(reply)["outputs"]
        # A single output stands alone, without its name.
        return dict.fromkeys(one.outputs, outputs) if len(one.outputs) == 1 else outputs

    def _ask_by_grpc(self, request: GoldenRequest) -> dict[str, Any]:
        answer = self._predict(request)
        return {**answer, "label": [label.decode() for label in answer["label"]]}

    def _golden_failed(self, protocol: str, code: str, reply: bytes) -> Refused:
        if code in _DYING and self._server.died(within=_DYING[code]):
            return Refused(f"{self._server.how_it_ended()} by the golden requests")
        reason = one_line(reply.decode(errors="replace"))
        return Refused(f"the golden requests are refused over {protocol}: {reason}")

    def _grpc(self, path: str, body: bytes) -> tuple[str, bytes]:
        """The status code by name, and the reply or the error's details."""
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
