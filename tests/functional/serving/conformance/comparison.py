"""Compares answers with recorded ones: messages by their fields, REST bodies by their numbers.

The recordings hold the values of a Predict response's tensors. They are compared with the fields
that carried ours, which TensorFlow's rule for each dtype gives: Tensor::AsProtoField.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2

_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int32": "int_val",
    "uint8": "int_val",
    "int16": "int_val",
    "uint16": "int_val",
    "int8": "int_val",
    "string": "string_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "qint8": "int_val",
    "quint8": "int_val",
    "qint32": "int_val",
    "float8_e5m2": "float8_val",
}
# TensorFlow numbers functions in the order in which a process traced them.
_NUMBERED = re.compile(r"(?P<name>\{\{function_node \w+?)_[0-9]+\}\}")


def verdict(expected: dict[str, Any], seen: dict[str, Any]) -> str:
    """How an answer compares to the one expected.

    Returns:
        `same`; `wording` if only the text of an error differs; else `DIFFERS`.
    """
    expected, seen = _comparable(expected), _comparable(seen)
    if close(expected, seen):
        return "same"
    return "wording" if close(_without_words(expected), _without_words(seen)) else "DIFFERS"


def close(a: Any, b: Any) -> bool:
    """Whether two are equal.

    Numbers have the same digits, unless they are different floats: the last bits of what a graph
    computes depend on the processor.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, float) and isinstance(b, float):
        if a == b or (math.isnan(a) and math.isnan(b)):
            return True
        with np.errstate(over="ignore"):
            one_float = np.float32(a) == np.float32(b)
        return not one_float and math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6)
    return type(a) is type(b) and a == b


def _comparable(seen: dict[str, Any]) -> dict[str, Any]:
    """An answer with versions in order, tensors as messages, and functions without numbers."""
    seen = json.loads(_NUMBERED.sub(r"\g<name>}}", json.dumps(seen)))
    for key in ("body", "response"):
        body = seen.get(key)
        if not isinstance(body, dict):
            continue
        if isinstance(body.get("model_version_status"), list):
            # TensorFlow Serving gives them in any order.
            body["model_version_status"].sort(key=lambda v: int(v.get("version", 0)))
        if key == "response" and "outputs" in body:
            body["outputs"] = {
                name: _as_message(tensor) if "values" in tensor else tensor
                for name, tensor in body["outputs"].items()
            }
    return seen


def _as_message(recorded: dict[str, Any]) -> dict[str, Any]:
    """The values of a tensor as the TensorProto that TensorFlow Serving answers, in JSON."""
    dtype, values = recorded["dtype"], recorded["values"]
    data_type = tf.dtypes.as_dtype(dtype)
    proto = tensor_pb2.TensorProto(dtype=data_type.as_datatype_enum)
    proto.tensor_shape.SetInParent()
    for size in recorded["shape"]:
        proto.tensor_shape.dim.add(size=size)
    out: dict[str, Any] = json_format.MessageToDict(proto, preserving_proto_field_name=True)
    field = _FIELDS[dtype]
    if field == "string_val":
        out |= {field: values} if values else {}
        return out
    if field == "float8_val":
        proto.float8_val = np.array(values, data_type.as_numpy_dtype).tobytes()
    elif field == "half_val":
        proto.half_val.extend(np.array(values, data_type.as_numpy_dtype).view(np.uint16).tolist())
    else:
        # A quantized number is a list of one.
        getattr(proto, field).extend(v[0] if isinstance(v, list) else v for v in values)
    return json_format.MessageToDict(proto, preserving_proto_field_name=True)


def _without_words(seen: dict[str, Any]) -> dict[str, Any]:
    """What is left of an answer when the text of its errors is put aside."""
    seen = json.loads(json.dumps(seen))
    for key in ("details", "trailing"):
        seen.pop(key, None)
    for answer in (seen, *seen.get("responses", [])):
        body = answer.get("body")
        if isinstance(body, str):
            answer["body"] = "..."
        elif isinstance(body, dict) and set(body) == {"error"}:
            answer["body"] = {"error": "..."}
    for key in ("body", "response"):
        if isinstance(seen.get(key), dict):
            for version in seen[key].get("model_version_status", []):
                version.get("status", {}).pop("error_message", None)
    return seen
