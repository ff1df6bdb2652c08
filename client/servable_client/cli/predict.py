"""`servable predict`: run a signature of any model on arrays from a file."""

from __future__ import annotations

import base64
import binascii
import json as json_module
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servable_client.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_SERVER,
    Access,
    CaBundle,
    Certificate,
    Json,
    Key,
    Label,
    Model,
    PrivateKey,
    Server,
    Timeout,
    Token,
    Version,
    make_client,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from servable_client import Client

# How many values of an output the table shows.
_SHOWN = 6


def predict(
    source: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="FILE|-",
            help="Inputs: an .npz file (an array per input), an .npy file (for the only input), "
            "or JSON as in TensorFlow Serving's REST API; - reads JSON from standard input.",
        ),
    ],
    signature: Annotated[str, typer.Option(help="Signature to run.")] = "serving_default",
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="File to write the outputs to, as arrays."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    model: Model = DEFAULT_MODEL,
    version: Version = None,
    label: Label = None,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    timeout: Timeout = 5.0,
    json: Json = False,
) -> None:
    """Run a signature of any model, and show its outputs.

    JSON is {"inputs": {NAME: VALUES}}, {"instances": [...]} or {NAME: VALUES}; bytes are
    {"b64": TEXT}. Numbers become the dtype that the model takes, if no value is lost.
    """
    from servable_client.cli.console import print_json, print_table, say

    given = _read(source)
    options = {"version": version, "label": label, "timeout": timeout}
    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with make_client(server, access, model=model, **options) as client:
        inputs = given if isinstance(given, dict) else {_only_input(client, signature): given}
        answer = client.predict(inputs, signature=signature)
    outputs = {name: _as_numpys(array) for name, array in answer.outputs.items()}
    if output is not None:
        _write(output, outputs)
    if json:
        print_json(
            {
                "version": answer.version,
                "outputs": {name: _plain(array.tolist()) for name, array in outputs.items()},
            }
        )
        return
    print_table(
        ("output", "dtype", "shape", "values"),
        [
            (name, _dtype(answer[name]), str(list(array.shape)), _values(array))
            for name, array in sorted(outputs.items())
        ],
    )
    if output is not None:
        say(f"outputs written to {output}")


def _only_input(client: Client, signature: str) -> str:
    """The name of a signature's only input.

    Raises:
        typer.BadParameter: It has others.
    """
    names = sorted(client.signature(signature).inputs)
    if len(names) != 1:
        raise typer.BadParameter(
            f"{signature} takes {', '.join(names)}; give an array for each, by its name",
            param_hint="--input",
        )
    return names[0]


def _read(source: str) -> Any:
    """Arrays or values by name; or the values of the only input."""
    if source == "-":
        return _from_json(sys.stdin.buffer.read(), "standard input")
    path = Path(source)
    try:
        if path.suffix.lower() in {".npz", ".npy"}:
            return _from_numpy(path)
        return _from_json(path.read_bytes(), source)
    except OSError as error:
        raise typer.BadParameter(
            f"cannot read {source}: {error.strerror or error}", param_hint="--input"
        ) from error


def _from_numpy(path: Path) -> Any:
    import numpy as np

    try:
        # NumPy leaves a file that it opened itself open if it is not valid.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise typer.BadParameter(
            f"{path} is not a valid .npz or .npy file without pickled objects",
            param_hint="--input",
        ) from error


def _from_json(data: bytes, source: str) -> Any:
    try:
        body = json_module.loads(data)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{source} is not valid JSON", param_hint="--input") from error
    if isinstance(body, dict) and set(body) == {"b64"}:
        return _decoded(body)
    if isinstance(body, dict) and "instances" in body:
        return _columns(_decoded(body["instances"]), source)
    if isinstance(body, dict) and "inputs" in body:
        body = body["inputs"]
    return _decoded(body)


def _columns(rows: Any, source: str) -> Any:
    """Rows by name as columns by name; rows of the only input as they are."""
    if not isinstance(rows, list) or not any(isinstance(row, dict) for row in rows):
        return rows
    names = set(rows[0]) if isinstance(rows[0], dict) else set()
    if not all(isinstance(row, dict) and set(row) == names for row in rows):
        raise typer.BadParameter(
            f"the instances in {source} do not have the same names", param_hint="--input"
        )
    return {name: [row[name] for row in rows] for name in sorted(names)}


def _decoded(value: Any) -> Any:
    """JSON with {"b64": TEXT} as bytes."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise typer.BadParameter("b64 is not valid base64", param_hint="--input") from error
    return {name: _decoded(item) for name, item in value.items()}


def _as_numpys(array: NDArray[Any]) -> NDArray[Any]:
    """An output in a dtype of NumPy's own, which files and JSON have; no value changes."""
    import numpy as np

    from servable_client._wire.dtypes import is_numpys

    if is_numpys(array.dtype):
        return array
    if array.dtype.names is not None:  # quantized: a structure of one integer
        return array[array.dtype.names[0]]
    if "float" in array.dtype.name:
        return array.astype(np.float32)
    return array.astype(np.uint8 if array.dtype.name.startswith("u") else np.int8)


def _write(path: Path, outputs: Mapping[str, NDArray[Any]]) -> None:
    import numpy as np

    from servable_client import InvalidInput

    # Strings as NumPy's bytes: objects would be pickled.
    arrays: dict[str, Any] = {
        name: array.astype(np.bytes_) if array.dtype == object else array
        for name, array in outputs.items()
    }
    try:
        with path.open("wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from error


def _plain(value: Any) -> Any:
    """An output as JSON values; bytes that are not text are {"b64": TEXT}."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    return str(value) if isinstance(value, complex) else value


def _dtype(array: NDArray[Any]) -> str:
    if array.dtype.names is not None:  # quantized
        return array.dtype.names[0]
    return "string" if array.dtype == object else str(array.dtype)


def _values(array: NDArray[Any]) -> str:
    first = [_plain(value) for value in array.ravel()[:_SHOWN].tolist()]
    shown = ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in first)
    return f"{shown}, ..." if array.size > _SHOWN else shown
