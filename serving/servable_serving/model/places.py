"""The places in a graph that a run feeds and fetches, checked as TensorFlow's sessions check them.

TensorFlow's Python interface has checks and words of its own; those here are of DirectSession,
which TensorFlow Serving calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import QUANTIZED, data_type_of, numpy_dtype, type_name
from servable_serving.core.errors import ModelError, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from tensorflow.python.framework.ops import Graph


@dataclass(frozen=True)
class Places:
    """Feeds and fetches as TensorFlow's C interface has them, and their DataTypes.

    Attributes:
        feeds: What is fed.
        inputs: The DataTypes of the feeds.
        order: The indices of the feeds in the order of their names, which messages count in.
        fetches: What is fetched.
        outputs: The DataTypes of the fetches.
    """

    feeds: list[Any]
    inputs: list[int]
    order: list[int]
    fetches: list[Any]
    outputs: list[int]


def find_places(graph: Graph, feeds: Sequence[str], fetches: Sequence[str]) -> Places:
    """The places of tensors.

    Args:
        graph: The graph.
        feeds: The names of the tensors to feed, each once.
        fetches: The names of the tensors to fetch.

    Raises:
        ModelError: An operation has no such output (OUT_OF_RANGE), or the graph has no such
            operation (INVALID_ARGUMENT).
    """
    tensors: list[Any] = []
    missing: list[str] = []
    for name in (*feeds, *fetches):
        operation, _, output = name.partition(":")
        number = int(output) if output.isdecimal() else 0
        try:
            found = graph.get_operation_by_name(operation)
        except (KeyError, ValueError):
            missing.append(f"{operation}:{number}")
            continue
        if number >= len(found.outputs):
            raise ModelError(
                "OUT_OF_RANGE",
                f"Node '{found.name}' (type: '{found.type}', num of outputs: {len(found.outputs)}) "
                f"does not have output {number}",
            )
        tensors.append(found.outputs[number])
    if missing:
        raise invalid(
            f"Tensor {missing[0]}, specified in either feed_devices or fetch_devices was not found "
            "in the Graph"
        )
    at = [tensor._as_tf_output() for tensor in tensors]  # noqa: SLF001
    kinds = [int(tensor.dtype.as_datatype_enum) for tensor in tensors]
    count = len(feeds)
    order = sorted(range(count), key=lambda index: feeds[index])
    return Places(at[:count], kinds[:count], order, at[count:], kinds[count:])


def check_dtypes(places: Places, feeds: Mapping[str, NDArray[Any]]) -> None:
    """Compare the dtypes of arrays with those of the graph.

    Raises:
        ModelError: One differs (INVALID_ARGUMENT), or is that of a variant (UNIMPLEMENTED).
    """
    arrays = list(feeds.values())
    for count, index in enumerate(places.order):
        given, expected = data_type_of(arrays[index]), places.inputs[index]
        if given != expected:
            raise invalid(
                f"Expects arg[{count}] to be {type_name(expected)} but {type_name(given)} is "
                "provided"
            )
        if given == wire.DT_VARIANT:
            raise ModelError("UNIMPLEMENTED", "tensors of type variant cannot be fed")


def to_array(value: Any, data_type: int) -> NDArray[Any]:
    """What TensorFlow's binding gives for a fetch as an array of the DataType's dtype."""
    if isinstance(value, bytes):  # a string that stands alone
        return np.array(value, object)
    if data_type in QUANTIZED:  # comes as an integer
        array: NDArray[Any] = np.asarray(value).view(numpy_dtype(data_type))
        return array
    return value  # type: ignore[no-any-return]
