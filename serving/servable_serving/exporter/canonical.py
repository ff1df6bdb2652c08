"""A canonical form of a SavedModel's graph, independent of what the process did before.

TensorFlow numbers the functions of a process in one row and keeps them in a hash table's order:
the same network, written after a training and in a fresh process, differs in thousands of bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NUMBERED = re.compile(r"(.*_)(\d+)")
# An argument that a loop's condition does not use is named after the condition's function.
_UNUSED = re.compile(r"_(\d+)(___redundant_placeholder\d+)")
# Needed only for training in Python: names in the process's own registry of gradients.
_GRADIENTS = ("_gradient_op_type", "forward_function_name", "backward_function_name")


def canonicalize(folder: Path) -> None:
    """Renumber the functions of a SavedModel, and write it in one order.

    Args:
        folder: With a `saved_model.pb`, which is replaced, and a `fingerprint.pb`, which is
            generated again and contains a random number in any case.
    """
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved.meta_graphs:
        _renumber(meta_graph)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(folder))


def _renumber(meta_graph: Any) -> None:
    library = meta_graph.graph_def.library
    # The numbers grow in the order of tracing, which is that of the code.
    functions = sorted(library.function, key=lambda one: _place(one.signature.name))
    names = {one.signature.name: _renamed(one, index) for index, one in enumerate(functions)}
    numbers = {str(_place(one.signature.name)[0]): index for index, one in enumerate(functions)}
    for function in functions:
        function.signature.name = names[function.signature.name]
        _clear(function.attr)
        for argument in function.signature.input_arg:
            argument.name = _UNUSED.sub(
                lambda found: f"_{numbers.get(found[1], found[1])}{found[2]}", argument.name
            )
        for node in function.node_def:
            _rename(node, names)
    for node in meta_graph.graph_def.node:
        _rename(node, names)
    del library.function[:]
    library.function.extend(functions)
    objects = meta_graph.object_graph_def
    for node in objects.nodes:
        if node.HasField("function"):
            node.function.concrete_functions[:] = [
                names.get(name, name) for name in node.function.concrete_functions
            ]
        elif node.HasField("bare_concrete_function"):
            bare = node.bare_concrete_function
            bare.concrete_function_name = names.get(
                bare.concrete_function_name, bare.concrete_function_name
            )
    concrete = {names.get(name, name): value for name, value in objects.concrete_functions.items()}
    kept = {name: value.SerializeToString() for name, value in concrete.items()}
    objects.concrete_functions.clear()
    for name, data in kept.items():
        objects.concrete_functions[name].ParseFromString(data)


def _place(name: str) -> tuple[int, str]:
    found = _NUMBERED.fullmatch(name)
    return (int(found[2]), found[1]) if found else (-1, name)


def _renamed(function: Any, index: int) -> str:
    name: str = function.signature.name
    found = _NUMBERED.fullmatch(name)
    return f"{found[1]}{index}" if found else name


def _rename(node: Any, names: Mapping[str, str]) -> None:
    node.op = names.get(node.op, node.op)
    _clear(node.attr)
    for value in node.attr.values():
        if value.HasField("func"):
            value.func.name = names.get(value.func.name, value.func.name)
        for one in value.list.func if value.HasField("list") else ():
            one.name = names.get(one.name, one.name)


def _clear(attributes: Any) -> None:
    for key in _GRADIENTS:
        attributes.pop(key, None)
