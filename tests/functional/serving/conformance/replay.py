"""Replays what was asked of TensorFlow Serving, and compares what it answered.

A transcript holds the flags and the configuration that the server was started with, and steps:
REST and gRPC calls with their answers, and changes to the model folders in between. An answer is
`same` (status, body and words), `wording` (an error's text differs) or `DIFFERS`.
"""

from __future__ import annotations

import base64
import json
import math
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import requests
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2
from tests.conftest import free_port
from tests.forked import ForkedServer
from tests.functional.serving.calls import MODEL, call

if TYPE_CHECKING:
    from google.protobuf.message import Message

_START_SECONDS = 120.0
# The recording waited for its server to act; another, on a busy machine, may need longer.
_LATE_SECONDS = 10.0


class Server:
    """The server under test, with a transcript's flags over a copy of its models."""

    def __init__(self, transcript: dict[str, Any], models: Path, log: Path) -> None:
        self.models, self.root = models, Path(tempfile.mkdtemp(prefix="conformance-"))
        self.grpc_port, self.rest_port = free_port(), free_port()
        for version in transcript["models"]:
            self.add(version)
        flags = dict(transcript["flags"], port=self.grpc_port, rest_api_port=self.rest_port)
        for name, text in transcript.get("files", {}).items():
            path = self.root / name
            path.write_text(self.fill(text))
            flags[path.stem] = path
        self.process = ForkedServer(
            [f"--{key}={self.fill(value)}" for key, value in flags.items()], log
        )
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.grpc_port}", options=[("grpc.max_receive_message_length", -1)]
        )

    def fill(self, value: Any) -> Any:
        """Write the folder where the transcript says {root}."""
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        return value.replace("{root}", str(self.root)) if isinstance(value, str) else value

    def forget(self, value: Any) -> Any:
        """The opposite of `fill`."""
        return json.loads(json.dumps(value).replace(str(self.root), "{root}"))

    def add(self, version: str, into: str | None = None) -> None:
        target = self.root / (into or version)
        incoming = target.parent / f"_{target.name}.tmp"
        shutil.copytree(self.models / version, incoming)
        incoming.rename(target)

    def listens(self, seconds: float) -> bool:
        """Whether it opens its ports within some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                requests.get(f"http://127.0.0.1:{self.rest_port}/", timeout=5)
                grpc.channel_ready_future(self.channel).result(1)
            except (requests.ConnectionError, grpc.FutureTimeoutError):
                time.sleep(0.1)
            else:
                return True
        return False

    def rest(self, question: dict[str, Any]) -> dict[str, Any]:
        reply = requests.request(
            question["method"],
            f"http://127.0.0.1:{self.rest_port}{question['path']}",
            data=question.get("body", "").encode(),
            headers=question.get("headers"),
            timeout=60,
        )
        try:
            body = json.loads(reply.text)
        except ValueError:
            body = reply.text
        seen = {
            "status": reply.status_code,
            "type": reply.headers.get("Content-Type"),
            "body": self.forget(body),
        }
        cors = {
            key: value
            for key, value in reply.headers.items()
            if key.lower().startswith("access-control-")
        }
        return {**seen, "cors": cors} if cors else seen

    def grpc(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            response = call(self.channel, question["method"], self.fill(question["request"]))
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": self.forget(error.details())}
        return {"code": "OK", "response": _plain(response)}

    def state(self, model: str, version: int) -> str | None:
        """The state of a version; None where there is none."""
        try:
            response = call(self.channel, f"{MODEL}GetModelStatus", {"model_spec": {"name": model}})
        except grpc.RpcError:
            return None
        states = {v.version: v.State.Name(v.state) for v in response.model_version_status}
        return states.get(version)

    def stop(self) -> None:
        self.channel.close()
        self.process.stop()
        shutil.rmtree(self.root, ignore_errors=True)


def _plain(message: Message) -> dict[str, Any]:
    """A message as JSON, tensors as dtype, shape and values whichever field carried them."""
    out = json_format.MessageToDict(message, preserving_proto_field_name=True)
    if isinstance(message, predict_pb2.PredictResponse):
        out["outputs"] = {
            name: _plain_tensor(tensor) for name, tensor in sorted(message.outputs.items())
        }
    if isinstance(message, get_model_metadata_pb2.GetModelMetadataResponse):
        signatures = get_model_metadata_pb2.SignatureDefMap()
        message.metadata["signature_def"].Unpack(signatures)
        out["metadata"] = json_format.MessageToDict(signatures, preserving_proto_field_name=True)
    return out


def _plain_tensor(tensor: Any) -> dict[str, Any]:
    array = tf.make_ndarray(tensor)
    values = array.ravel().tolist()
    if array.dtype == object:
        values = [base64.b64encode(value).decode() for value in values]
    dtype = tf.dtypes.as_dtype(tensor.dtype).name
    return {"dtype": dtype, "shape": list(array.shape), "values": values}


def close(a: Any, b: Any) -> bool:
    """Whether two are equal, numbers to 1e-4."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, float) or isinstance(b, float):
        if not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
            return False
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5)
    return type(a) is type(b) and a == b


def _in_order(seen: dict[str, Any]) -> dict[str, Any]:
    """With a model's versions in order, which TensorFlow Serving gives in any."""
    seen = dict(seen)
    for key in ("body", "response"):
        body = seen.get(key)
        if isinstance(body, dict) and isinstance(body.get("model_version_status"), list):
            versions = sorted(body["model_version_status"], key=lambda v: int(v.get("version", 0)))
            seen[key] = {**body, "model_version_status": versions}
    return seen


def _without_words(seen: dict[str, Any]) -> dict[str, Any]:
    """What is left of an answer when the text of its errors is put aside."""
    seen = json.loads(json.dumps(seen))
    seen.pop("details", None)
    body = seen.get("body")
    if isinstance(body, str):
        seen["body"] = "..."
    elif isinstance(body, dict) and set(body) == {"error"}:
        seen["body"] = {"error": "..."}
    for key in ("body", "response"):
        if isinstance(seen.get(key), dict):
            for version in seen[key].get("model_version_status", []):
                version.get("status", {}).pop("error_message", None)
    return seen


def verdict(expected: dict[str, Any], seen: dict[str, Any]) -> str:
    """How an answer compares to the one expected."""
    expected, seen = _in_order(expected), _in_order(seen)
    if close(expected, seen):
        return "same"
    return "wording" if close(_without_words(expected), _without_words(seen)) else "DIFFERS"


def _change(server: Server, step: dict[str, Any]) -> str | None:
    """Do what a step that asks nothing says; the trouble with it, if there is any."""
    if "add" in step:
        server.add(step["add"], step.get("as"))
    elif "remove" in step:
        shutil.rmtree(server.root / step["remove"])
    elif "write" in step:
        name, text = step["write"]
        incoming = server.root / f"{name}.new"
        incoming.write_text(server.fill(text))
        incoming.replace(server.root / name)
    elif "rename" in step:
        (server.root / step["rename"][0]).rename(server.root / step["rename"][1])
    elif "sleep" in step:
        time.sleep(step["sleep"])
    elif "wait" in step:
        model, version, states = step["wait"]
        end = time.monotonic() + step.get("seconds", _START_SECONDS)
        while (state := server.state(model, version)) not in states.split("|"):
            if time.monotonic() > end:
                return f"version {version} of {model} is {state} and not {states}"
            time.sleep(0.1)
    else:
        return f"the step {step} is not known"
    return None


def _ask(server: Server, step: dict[str, Any]) -> dict[str, Any]:
    try:
        return server.rest(step["rest"]) if "rest" in step else server.grpc(step["grpc"])
    except requests.RequestException as error:
        return {"broken": f"{type(error).__name__}: {error}"}


def replay(path: Path, models: Path, log: Path) -> tuple[Counter[str], list[str]]:
    """Start a server for a transcript and ask what it holds.

    Returns:
        How many answers were same, wording and DIFFERS, and a line for each that was not same.
    """
    transcript = json.loads(path.read_text())
    counts: Counter[str] = Counter()
    notes: list[str] = []

    def differs(note: str, kind: str = "DIFFERS") -> None:
        counts[kind] += 1
        notes.append(f"{kind}: {note}")

    server = Server(transcript, models, log)
    try:
        expected = transcript.get("starts", True)
        up = server.listens(_START_SECONDS if expected else transcript["start_seconds"])
        if up != expected:
            differs(f"the server {'listens' if up else 'does not listen'}")
            return counts, notes
        counts["same"] += 1
        slept = False
        for step in transcript["steps"] if up else []:
            if "rest" not in step and "grpc" not in step:
                slept = "sleep" in step
                if trouble := _change(server, step):
                    differs(trouble)
                continue
            seen, late = _ask(server, step), time.monotonic() + _LATE_SECONDS
            while (result := verdict(step["expect"], seen)) == "DIFFERS" and slept:
                if time.monotonic() > late:
                    break
                time.sleep(0.1)
                seen = _ask(server, step)
            slept = False
            if result == "same":
                counts["same"] += 1
            else:
                differs(
                    f"{step['id']}\n  expected {json.dumps(step['expect'])[:600]}"
                    f"\n  seen     {json.dumps(seen)[:600]}",
                    result,
                )
    finally:
        server.stop()
    return counts, notes
