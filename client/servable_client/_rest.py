"""The transport that speaks REST: https://www.tensorflow.org/tfx/serving/api_rest."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import requests
from urllib3.exceptions import HTTPError

from servable_client._answers import Prediction, Signature, TensorSpec, VersionStatus
from servable_client._errors import ServerFailed, code_of_http_status, error_for
from servable_client._tensors import data_type_of, numpy_dtype
from servable_client._wire import wire_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from servable_client._transport import Target


class RestTransport:
    """A session with one server."""

    def __init__(self, address: str, *, secure: bool) -> None:
        self.endpoint = f"{'https' if secure else 'http'}://{address}"
        self._session = requests.Session()
        self._signatures: dict[Target, dict[str, Signature]] = {}

    def predict(
        self, target: Target, signature: str, inputs: Mapping[str, NDArray[Any]], timeout: float
    ) -> Prediction:
        """Run a signature, in the column format."""
        known = self._known_signature(target, signature, timeout)
        for name, spec in known.inputs.items() if known else ():
            if name in inputs:
                self._check_dtype(name, inputs[name], spec, target)
        body = {
            "signature_name": signature,
            "inputs": {name: _to_json(array) for name, array in inputs.items()},
        }
        answer = self._ask("POST", _path(target) + ":predict", target, timeout, body, signature)
        with self._expecting(target):
            outputs = answer["outputs"]
            if known is None:
                raise KeyError(signature)
            try:
                arrays = _read_outputs(outputs, known.outputs)
            except (KeyError, TypeError, ValueError, AttributeError):
                # A new version may have other outputs than the one whose metadata were read.
                self._signatures.pop(target, None)
                known = self._known_signature(target, signature, timeout) or known
                arrays = _read_outputs(outputs, known.outputs)
        return Prediction(outputs=arrays, version=target.version)

    def status(self, target: Target, timeout: float) -> list[VersionStatus]:
        """The versions that the server knows, highest first."""
        answer = self._ask("GET", _path(target), target, timeout)
        with self._expecting(target):
            versions = [
                VersionStatus(
                    version=int(status["version"]),
                    state=str(status["state"]),
                    error_code=str(status["status"]["error_code"]),
                    error_message=str(status["status"]["error_message"]),
                )
                for status in answer["model_version_status"]
            ]
        return sorted(versions, key=lambda status: -status.version)

    def metadata(self, target: Target, timeout: float) -> dict[str, Signature]:
        """The signatures of a model, by name."""
        answer = self._ask("GET", _path(target) + "/metadata", target, timeout)
        with self._expecting(target):
            signatures = answer["metadata"]["signature_def"]["signature_def"]
            return {name: _signature(value) for name, value in signatures.items()}

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def _known_signature(self, target: Target, name: str, timeout: float) -> Signature | None:
        """A signature, None where there is none: JSON tells no dtypes, so it is read, once."""
        if name not in self._signatures.get(target, {}):
            self._signatures[target] = self.metadata(target, timeout)
        return self._signatures[target].get(name)

    def _check_dtype(
        self, name: str, array: NDArray[Any], spec: TensorSpec, target: Target
    ) -> None:
        """Refuse what gRPC would: over REST the server makes 0 of a uint8 of 256, in silence."""
        expected = getattr(wire, spec.dtype)
        if data_type_of(array) != expected:
            raise error_for(
                "INVALID_ARGUMENT",
                f"{name} is {spec.dtype}, and the array given is {array.dtype}",
                endpoint=self.endpoint,
                model=target.model,
            )

    @contextmanager
    def _expecting(self, target: Target) -> Iterator[None]:
        """Turn an answer of another form into an error that says so."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._no_tensorflow_serving(target) from error

    def _no_tensorflow_serving(self, target: Target) -> ServerFailed:
        return ServerFailed(
            f"{self.endpoint} answered something that is no TensorFlow Serving's",
            hint="is this the REST port (8501), and not another program's?",
            endpoint=self.endpoint,
            model=target.model,
        )

    def _ask(
        self,
        method: str,
        path: str,
        target: Target,
        timeout: float,
        body: Mapping[str, Any] | None = None,
        signature: str = "",
    ) -> Any:
        def error(code: str, message: str) -> Exception:
            return error_for(
                code, message, endpoint=self.endpoint, model=target.model, signature=signature
            )

        try:
            reply = self._session.request(
                method,
                self.endpoint + path,
                data=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"},
                timeout=timeout,
            )
        except requests.Timeout as cause:
            raise error(
                "DEADLINE_EXCEEDED", f"no answer from {self.endpoint} within {timeout:g} s"
            ) from cause
        except (requests.RequestException, HTTPError, UnicodeError) as cause:
            raise error("UNAVAILABLE", f"cannot reach {self.endpoint}") from cause
        try:
            answer = reply.json()
        except ValueError:
            answer = None
        if not reply.ok:
            message = answer.get("error") if isinstance(answer, dict) else None
            raise error(
                code_of_http_status(reply.status_code),
                (message and str(message))
                or f"{self.endpoint} answered {reply.status_code} {reply.reason}",
            )
        if not isinstance(answer, dict):
            raise self._no_tensorflow_serving(target)
        return answer


def _path(target: Target) -> str:
    path = f"/v1/models/{quote(target.model, safe='')}"
    if target.version is not None:
        return f"{path}/versions/{target.version}"
    return f"{path}/labels/{quote(target.label, safe='')}" if target.label is not None else path


def _to_json(array: NDArray[Any]) -> Any:
    if array.dtype.kind not in "OSU":
        return array.tolist()
    encoded = np.empty(array.shape, object)
    for index, item in np.ndenumerate(array):
        data = item.encode() if isinstance(item, str) else item
        encoded[index] = {"b64": base64.b64encode(data).decode()}
    return encoded.tolist()


def _read_outputs(outputs: Any, specs: Mapping[str, TensorSpec]) -> dict[str, NDArray[Any]]:
    # The one output of a signature comes without its name.
    if len(specs) == 1:
        outputs = {next(iter(specs)): outputs}
    return {name: _from_json(outputs[name], spec) for name, spec in specs.items()}


def _from_json(value: Any, spec: TensorSpec) -> NDArray[Any]:
    dtype = numpy_dtype(getattr(wire, spec.dtype))
    if dtype.kind != "O":
        return np.asarray(value, dtype)
    return _strings(value)


def _strings(value: Any) -> NDArray[Any]:
    """Strings as bytes, as gRPC gives them."""
    if isinstance(value, list):
        rows = [_strings(item) for item in value]
        return np.stack(rows) if rows else np.empty(0, object)
    out = np.empty((), object)
    out[()] = base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()
    return out


def _signature(value: Mapping[str, Any]) -> Signature:
    def specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
        return {
            name: TensorSpec(
                dtype=info["dtype"],
                shape=None
                if info["tensor_shape"]["unknown_rank"]
                else tuple(int(dim["size"]) for dim in info["tensor_shape"]["dim"]),
            )
            for name, info in tensors.items()
        }

    return Signature(
        inputs=specs(value["inputs"]), outputs=specs(value["outputs"]), method=value["method_name"]
    )
