"""Checks of every input, in the graph and before the first kernel that computes with it.

TensorFlow Serving feeds tensors of any shape to a graph, whatever its signatures declare, and some
kernels end the process at a shape that they do not expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from servable_client._wire.status import INIT_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCOPE = "servable_input_check"
# Kernels of oneDNN, in a graph's own form or fused, that fail at an empty batch on some processors.
_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2dNative", "MaxPool", "AvgPool")


def guard_inputs(meta_graph: Any) -> list[str]:
    """Let every consumer of a signature's input take it from a check of its shape.

    Args:
        meta_graph: A MetaGraphDef, which is changed.

    Returns:
        The inputs that are checked, as SIGNATURE/NAME; not those of unknown rank.
    """
    graph = meta_graph.graph_def
    rows = any(node.op.startswith(_CONVOLUTIONS) for node in _nodes(graph))
    shapes: dict[str, list[int] | None] = {}
    dtypes: dict[str, int] = {}
    checked = []
    for key, signature in sorted(meta_graph.signature_def.items()):
        if key == INIT_SIGNATURE:
            continue
        for name, info in sorted(signature.inputs.items()):
            if not info.name or info.tensor_shape.unknown_rank:
                continue
            tensor = info.name if ":" in info.name else f"{info.name}:0"
            shape = [int(dim.size) for dim in info.tensor_shape.dim]
            shapes[tensor] = _common(shapes.get(tensor, shape), shape)
            dtypes[tensor] = info.dtype
            checked.append(f"{key}/{name}")
    consumers = list(graph.node)
    for index, (tensor, declared) in enumerate(sorted(shapes.items())):
        if declared is not None:
            made, output = _check(index, tensor, dtypes[tensor], declared, rows=rows)
            _rewire(consumers, tensor, output)
            graph.node.extend(made)
    return checked


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _common(one: list[int] | None, other: list[int]) -> list[int] | None:
    """The shape that allows what two signatures declare for a tensor; None if ranks differ."""
    if one is None or len(one) != len(other):
        return None
    return [a if a == b else -1 for a, b in zip(one, other, strict=True)]


def _check(
    index: int, tensor: str, dtype: int, shape: list[int], *, rows: bool
) -> tuple[list[Any], str]:
    """The nodes that check a tensor, and the name of what they give."""
    source, _, output = tensor.partition(":")
    stand_in = f"{_SCOPE}_{index}/source"
    with tf.Graph().as_default() as graph:
        with tf.name_scope(f"{_SCOPE}_{index}"):
            given = tf.compat.v1.placeholder(dtype, name="source")
            value = tf.ensure_shape(given, [None if side < 0 else side for side in shape])
            if rows and len(shape) > 1 and shape[0] < 0:
                assertion = tf.compat.v1.Assert(
                    tf.shape(value)[0] > 0, ["the batch is empty, and the model takes no such"]
                )
                with tf.control_dependencies([assertion]):
                    value = tf.identity(value)
        nodes = list(graph.as_graph_def().node)
    original = source if output == "0" else tensor
    for node in nodes:
        for at, name in enumerate(node.input):
            if name == stand_in:
                node.input[at] = original
    return [node for node in nodes if node.name != stand_in], value.op.name


def _rewire(consumers: list[Any], tensor: str, replacement: str) -> None:
    source, _, output = tensor.partition(":")
    names = {tensor} | ({source} if output == "0" else set())
    for node in consumers:
        for at, name in enumerate(node.input):
            if name in names:
                node.input[at] = replacement
