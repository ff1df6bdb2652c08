"""Gate `operations`: no operation in a graph has effects outside of it.

A SavedModel is a program, and TensorFlow advises against running untrusted ones:
https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md. `operations.txt` lists the
operations that are allowed, all of which only compute.

TensorFlow's own saver and the initialization of variables and of lookup tables are the exceptions.
They read the version's own files and set variables, so they are allowed where only the loader runs
them: the gate follows what a request runs from the signatures, through every function that is
called.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.framework import op_def_registry

from servable_client._wire.status import INIT_SIGNATURE
from servable_serving.gates.verdict import Refused, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Operations that write and read a checkpoint, each allowed on its own path only.
_SAVING = {"SaveV2", "MergeV2Checkpoints", "ShardedFilename"}
_RESTORING = {"RestoreV2"}
_ASSIGNING = {"AssignVariableOp", "Assign"}
# Operations that fill a lookup table, and those that fill one from an asset.
_FILLING = {"LookupTableImportV2", "LookupTableInsertV2"}
_READING_ASSETS = {"InitializeTableFromTextFileV2"}

_WHY = {
    "ReadFile": "reads files",
    "MatchingFiles": "reads files",
    "WholeFileReaderV2": "reads files",
    "ImmutableConst": "reads files",
    "InitializeTableFromTextFileV2": "reads files",
    "WriteFile": "writes files",
    "SaveV2": "writes files",
    "MergeV2Checkpoints": "writes files",
    "RestoreV2": "reads files",
    "PrintV2": "writes files and logs",
    "PyFunc": "runs Python",
    "PyFuncStateless": "runs Python",
    "EagerPyFunc": "runs Python",
    "RemoteCall": "runs on another machine",
    "Abort": "ends the server",
    "AssignVariableOp": "changes the weights",
    "Assign": "changes the weights",
}


@cache
def allowed_operations() -> frozenset[str]:
    """The operations that are allowed anywhere in a graph."""
    text = files(__package__).joinpath("operations.txt").read_text()
    return frozenset(
        name for line in text.splitlines() if not line.startswith("#") for name in line.split()
    )


def check_operations(meta: Any) -> Verdict:
    """Compare every operation in a graph and its functions with the list.

    Args:
        meta: The candidate's MetaGraphDef.

    Raises:
        Refused: One is not on it.
    """
    saver = meta.saver_def
    graph = _Graph(
        meta.graph_def,
        checkpoint=_node_of(saver.filename_tensor_name),
        assets=frozenset(_assets(meta)),
    )
    saving = graph.reached([saver.save_tensor_name])
    restoring = graph.reached([saver.restore_op_name])
    starting = graph.reached(_initializers(meta))
    asked = graph.reached(
        info.name
        for key, signature in meta.signature_def.items()
        if key != INIT_SIGNATURE
        for info in (*signature.outputs.values(), *signature.inputs.values())
    )
    found: Counter[str] = Counter()
    for place, node in graph.nodes():
        found[node.op] += 1
        key = (place, node.name)
        if node.op in allowed_operations() or graph.calls_own_function(node):
            continue
        # Run by the loader only, and not by a request.
        if key not in asked and (
            (node.op in _SAVING and key in saving and key not in restoring | starting)
            or (node.op in _RESTORING and key in restoring and graph.reads_own_files(place, node))
            or (node.op in _ASSIGNING and key in restoring | starting)
            # Tables are saved and restored by functions that no server calls.
            or node.op in _FILLING
            or (
                node.op in _READING_ASSETS
                and key in restoring | starting
                and graph.reads_own_assets(place, node)
            )
            # TensorFlow 1 and Keras leave unused initializers behind.
            or (node.op in _ASSIGNING and not place)
        ):
            continue
        raise _refused(place, node, asked=key in asked)
    return Verdict(
        said=f"{found.total():,} operations of {len(found)} kinds, all on the list",
        figures={"operations": dict(sorted(found.items()))},
    )


def _refused(place: str, node: Any, *, asked: bool) -> Refused:
    where = f"in the function {place}" if place else "in the graph"
    why = f", which {_WHY[node.op]}," if node.op in _WHY else ""
    return Refused(
        f"the operation {node.op}{why} is not on the list of allowed operations: it is "
        f"{node.name}, {where}" + (", and a request runs it" if asked else ""),
        hint="export the model without it, or skip the gate 'operations' with a reason if you "
        "trust the candidate's author with your server",
        figures={"operation": node.op, "node": node.name, "function": place, "asked": asked},
    )


def _initializers(meta: Any) -> Iterator[str]:
    """The names of the tensors and operations that the loader runs beside the saver."""
    if INIT_SIGNATURE in meta.signature_def:
        yield from (one.name for one in meta.signature_def[INIT_SIGNATURE].outputs.values())
    for key in ("saved_model_main_op", "legacy_init_op", "main_op"):
        if key in meta.collection_def:
            yield from meta.collection_def[key].node_list.value


def _assets(meta: Any) -> Iterator[str]:
    """The nodes that the loader feeds with the paths of the version's own assets."""
    found = list(meta.asset_file_def)
    # TensorFlow 1 writes them into a collection.
    for packed in meta.collection_def["saved_model_assets"].any_list.value:
        asset = meta_graph_pb2.AssetFileDef()
        if packed.Unpack(asset):
            found.append(asset)
    yield from (_node_of(asset.tensor_info.name) for asset in found)


class _Graph:
    """A graph with its library of functions; a node is known by its function and its name."""

    def __init__(self, graph: Any, *, checkpoint: str, assets: frozenset[str]) -> None:
        # The nodes that the loader feeds with the names of the version's own files.
        self._checkpoint, self._assets = checkpoint, assets
        self._bodies: dict[str, Mapping[str, Any]] = {
            "": {node.name: node for node in graph.node},
            **{
                one.signature.name: {node.name: node for node in one.node_def}
                for one in graph.library.function
            },
        }
        self._arguments = {
            one.signature.name: [argument.name for argument in one.signature.input_arg]
            for one in graph.library.function
        }
        # A gradient is a function that is called by the name of another.
        self._gradients = {one.function_name: one.gradient_func for one in graph.library.gradient}

    def nodes(self) -> Iterator[tuple[str, Any]]:
        for place, body in self._bodies.items():
            for node in body.values():
                yield place, node

    def reached(self, names: Iterable[str]) -> set[tuple[str, str]]:
        """Every node that must run for those of these names in the graph."""
        seen: set[tuple[str, str]] = set()
        waiting = [("", _node_of(name)) for name in names if name]
        while waiting:
            place, name = waiting.pop()
            node = self._bodies.get(place, {}).get(name)
            if node is None or (place, name) in seen:
                continue
            seen.add((place, name))
            waiting += [(place, _node_of(one)) for one in node.input]
            # All of a function that is called: what has a side effect runs too.
            for function in _called(node):
                for one in filter(None, (function, self._gradients.get(function))):
                    waiting += [(one, inner) for inner in self._bodies.get(one, {})]
        return seen

    def calls_own_function(self, node: Any) -> bool:
        """Whether a node calls a function of the library by its name, not an operation."""
        return node.op in self._arguments and op_def_registry.get(node.op) is None

    def reads_own_files(self, place: str, node: Any) -> bool:
        """Whether a RestoreV2 reads the loader's path, not one of its own choice."""
        source = self._source(place, node.input[0])
        if not place:
            return source == self._checkpoint
        arguments = self._arguments[place]
        if source not in arguments:
            return False
        at = arguments.index(source)
        callers = [(where, one) for where, one in self.nodes() if place in _called(one)]
        return all(
            not where and self._source("", one.input[at]) == self._checkpoint
            for where, one in callers
        )

    def reads_own_assets(self, place: str, node: Any) -> bool:
        """Whether a table is filled from an asset, not from a path of the graph's own choice."""
        source = self._source(place, node.input[1])
        if not place:
            return self._is_asset(source)
        arguments = self._arguments[place]
        if source not in arguments:
            return False
        at = arguments.index(source)
        callers = [(where, one) for where, one in self.nodes() if place in _called(one)]
        return bool(callers) and all(
            not where and self._is_asset(self._source("", one.input[at])) for where, one in callers
        )

    def _is_asset(self, source: str) -> bool:
        """Whether a node of the graph gives the path of an asset, or a variable that holds one."""
        if source in self._assets:
            return True
        node = self._bodies[""].get(source)
        if node is None or node.op != "ReadVariableOp":
            return False
        variable = self._source("", node.input[0])
        values = [
            self._source("", one.input[1])
            for where, one in self.nodes()
            if not where and one.op == "AssignVariableOp"
            and self._source("", one.input[0]) == variable
        ]  # fmt: skip
        return bool(values) and all(value in self._assets for value in values)

    def _source(self, place: str, tensor: str) -> str:
        """The node or argument that a tensor comes from, through any Identity."""
        name = _node_of(tensor)
        while (node := self._bodies[place].get(name)) is not None and node.op == "Identity":
            name = _node_of(node.input[0])
        return name


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _called(node: Any) -> Iterator[str]:
    if node.op:
        yield node.op  # a function may be called by its name in place of an operation's
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for one in value.list.func:
            yield one.name
