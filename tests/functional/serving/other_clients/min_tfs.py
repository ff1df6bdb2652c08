"""Calls Predict by min-tfs-client, in an environment that has it.

    python min_tfs.py PORT

Calls and answers are those of test_other_clients.py, a line of JSON each.
"""

from __future__ import annotations

import json
import sys
from base64 import b64decode, b64encode
from typing import Any

import grpc
import numpy as np
from min_tfs_client.requests import TensorServingClient
from min_tfs_client.tensors import tensor_proto_to_ndarray
from min_tfs_client.types import DataType


def _read(tensor: dict[str, Any]) -> Any:
    dtype, values = DataType(tensor["dtype"]).numpy_dtype, tensor["values"]
    if dtype is np.str_:
        values = [b64decode(value).decode() for value in values]
    elif np.issubdtype(dtype, np.integer):
        values = [int(value) for value in values]
    return np.array(values, dtype).reshape(tensor["shape"])


def _write(array: Any) -> dict[str, Any]:
    values = array.ravel().tolist()
    if array.dtype.kind == "U":
        values = [b64encode(value.encode()).decode() for value in values]
    return {"dtype": DataType(array.dtype.type).tf_dtype, "shape": array.shape, "values": values}


def _predict(client: Any, call: dict[str, Any]) -> dict[str, Any]:
    inputs = {name: _read(tensor) for name, tensor in call["inputs"].items()}
    try:
        response = client.predict_request(call["model"], inputs, model_version=call["version"])
    except grpc.RpcError as error:
        return {"code": error.code().name}
    outputs = response.outputs.items()
    return {"answer": {name: _write(tensor_proto_to_ndarray(tensor)) for name, tensor in outputs}}


def _main() -> None:
    client = TensorServingClient("127.0.0.1", int(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(_predict(client, json.loads(line))), flush=True)  # noqa: T201


_main()
