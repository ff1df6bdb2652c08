"""Replays what was asked of TensorFlow Serving, and compares what it answered.

A transcript holds the flags and the configuration that the server was started with, and steps:
REST and gRPC calls with their answers, and changes to the model folders in between. An answer is
`same` (status, fields, numbers and words), `wording` (an error's text differs), `stricter on
purpose` (listed in stricter.json, with the reason) or `DIFFERS`.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import requests
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2
from tests.conftest import free_port
from tests.forked import ForkedServer
from tests.functional.serving.calls import MODEL, call
from tests.functional.serving.conformance.comparison import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

_START_SECONDS = 120.0
# The recording waited for its server to act; another, on a busy machine, may need longer.
_LATE_SECONDS = 10.0
STRICTER = "stricter on purpose"


class Server:
    """The server under test, with a transcript's flags over a copy of its models."""

    def __init__(self, transcript: dict[str, Any], models: Sequence[Path], log: Path) -> None:
        self.models, self.root = models, Path(tempfile.mkdtemp(prefix="conformance-"))
        self.grpc_port, self.rest_port = free_port(), free_port()
        self.slept = False  # whether the last step was a pause
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
        source = next(root / version for root in self.models if (root / version).is_dir())
        shutil.copytree(source, incoming)
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
        return {"code": "OK", "response": self.forget(_plain(response))}

    def grpc_bytes(self, question: dict[str, Any]) -> dict[str, Any]:
        """A call whose request and response are bytes."""
        ask = self.channel.unary_unary(
            question["method"], request_serializer=bytes, response_deserializer=bytes
        )
        try:
            answer = ask(base64.b64decode(question["raw"]), timeout=60)
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": self.forget(error.details())}
        return {"code": "OK", "raw": base64.b64encode(answer).decode()}

    def alive(self) -> dict[str, Any]:
        return {"alive": self.process.poll() is None, "exit": self.process.poll()}

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
    """A message as JSON, with the fields that were sent."""
    out = json_format.MessageToDict(message, preserving_proto_field_name=True)
    if isinstance(message, get_model_metadata_pb2.GetModelMetadataResponse):
        signatures = get_model_metadata_pb2.SignatureDefMap()
        message.metadata["signature_def"].Unpack(signatures)
        out["metadata"] = json_format.MessageToDict(signatures, preserving_proto_field_name=True)
    return out


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


def _ask(server: Server, step: dict[str, Any]) -> dict[str, Any] | None:
    """The answer to a step; None if it asks nothing."""
    try:
        if "rest" in step:
            return server.rest(step["rest"])
        if "grpc" in step:
            return server.grpc(step["grpc"])
        if "grpcx" in step:
            return server.grpc_bytes(step["grpcx"])
        return server.alive() if "alive" in step else None
    except requests.RequestException as error:
        return {"broken": f"{type(error).__name__}: {error}"}


class Results:
    """How many answers were same, wording and so on, and a note for each that was not same.

    Args:
        stricter: The reasons by the ids of steps that differ on purpose.
    """

    def __init__(self, stricter: dict[str, str]) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []
        self._stricter = stricter

    def add(self, name: str, result: str, expected: object = None, seen: object = None) -> None:
        if reason := self._stricter.get(name):
            # An entry that is no longer needed is a mistake, too.
            result = "DIFFERS" if result == "same" else STRICTER
            name = f"{name} ({reason})"
        self.counts[result] += 1
        if result != "same":
            self.notes.append(
                f"{result}: {name}\n  expected {json.dumps(expected)[:600]}"
                f"\n  seen     {json.dumps(seen)[:600]}"
            )


def replay(
    path: Path, models: Sequence[Path], log: Path, stricter: dict[str, str] | None = None
) -> Results:
    """Start a server for a transcript and ask what it holds.

    Args:
        path: The transcript.
        models: The folders with the models that it names.
        log: The file for what the server prints.
        stricter: The reasons by the ids of steps that differ on purpose.
    """
    transcript = json.loads(path.read_text())
    results = Results(stricter or {})
    server = Server(transcript, models, log)
    try:
        expected = transcript.get("starts", True)
        up = server.listens(_START_SECONDS if expected else transcript["start_seconds"])
        results.add("start", "same" if up == expected else "DIFFERS", expected, up)
        for step in transcript["steps"] if up and expected else []:
            _step(server, step, results)
    finally:
        server.stop()
    return results


def _step(server: Server, step: dict[str, Any], results: Results) -> None:
    seen = _ask(server, step)
    if seen is None:
        name = json.dumps({key: value for key, value in step.items() if key != "expect"})
        trouble = _change(server, step)
        if trouble or "expect" in step:
            results.add(name, "DIFFERS", step.get("expect"), trouble)
        server.slept = "sleep" in step
        return
    late = time.monotonic() + _LATE_SECONDS
    while (result := verdict(step["expect"], seen)) == "DIFFERS" and server.slept:
        if time.monotonic() > late:
            break
        time.sleep(0.1)
        seen = _ask(server, step) or {}
    server.slept = False
    results.add(step["id"], result, step["expect"], seen)
