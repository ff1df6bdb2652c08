"""Gate `structure`: the files, the signatures, and finite weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tensorflow.python.framework import dtypes, tensor_util
from tensorflow.python.framework.errors import OpError
from tensorflow.python.training.py_checkpoint_reader import NewCheckpointReader

from servable_serving.core.errors import ModelError
from servable_serving.gates.verdict import Refused, Verdict
from servable_serving.model.contract import check_compatible, check_contract, check_signatures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servable_serving.gates.inspected_version import InspectedVersion

VARIABLES = "variables/variables"

_VARIABLES = {"VarHandleOp", "VariableV2", "Variable"}
_TRAIN_AGAIN = "its training diverged: train it again with a lower learning rate"


def check_structure(candidate: InspectedVersion, served: InspectedVersion | None) -> Verdict:
    """Compare a candidate's files with its manifest, and its signatures with the contract.

    Raises:
        ServableError: A file is missing or changed, a signature breaks the contract or differs from
            the served version's, or a weight is NaN or infinite.
    """
    manifest = candidate.files.verify()
    signatures = candidate.contract
    if "signatures" in manifest and manifest["signatures"] != signatures:
        raise Refused(
            "the signatures are not those in the manifest", hint="export the candidate again"
        )
    if candidate.files.is_classifier:
        check_contract(signatures, len(candidate.labels))
    else:
        check_signatures(signatures)
    if served is not None:
        check_compatible(signatures, _served_contract(served))
    weights = check_weights(candidate.folder, candidate.meta_graph.graph_def)
    files = len(manifest["sha256"])
    return Verdict(
        said=f"{files} files match the manifest, the signatures {', '.join(signatures)} "
        f"{'follow the contract' if candidate.files.is_classifier else 'are those of the model'}, "
        f"{weights:,} weights are finite",
        figures={
            "files": files,
            "signatures": list(signatures),
            "weights": weights,
            "manifest_sha256": candidate.files.manifest_sha256,
        },
    )


def check_weights(folder: Path, graph: Any) -> int:
    """Check that every weight is finite: the variables, and the constants in the graph.

    A scalar constant may be infinite, as the one that masks are made of.

    Args:
        folder: The version's folder, for the values of its variables.
        graph: Its GraphDef.

    Returns:
        The number of weights.

    Raises:
        Refused: One is NaN or infinite, or a variable has no value.
    """
    count = 0
    for name, array in (*_variables(folder, graph), *_constants(graph)):
        if array.size > 1 and not np.isfinite(array).all():
            what = "NaN" if np.isnan(array).any() else "infinite values"
            raise Refused(f"the weights {name} contain {what}", hint=_TRAIN_AGAIN)
        count += array.size
    return count


def _served_contract(served: InspectedVersion) -> dict[str, Any]:
    try:
        return served.contract
    except ModelError:
        return {}  # a broken version has no callers


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _constants(graph: Any) -> Iterator[tuple[str, Any]]:
    for node in _nodes(graph):
        if node.op == "Const" and dtypes.as_dtype(node.attr["dtype"].type).is_floating:
            yield node.name, tensor_util.MakeNdarray(node.attr["value"].tensor)


def _variables(folder: Path, graph: Any) -> Iterator[tuple[str, Any]]:
    hint = "export the candidate again, and list every file in its manifest"
    prefix = folder / VARIABLES
    if not prefix.with_suffix(".index").is_file():
        if any(node.op in _VARIABLES for node in _nodes(graph)):
            raise Refused(
                f"the graph has variables, but {VARIABLES}.index with their values is missing",
                hint=hint,
            )
        return
    try:
        reader = NewCheckpointReader(str(prefix))
        for name, dtype in sorted(reader.get_variable_to_dtype_map().items()):
            value = reader.get_tensor(name)  # read even if not floating: its shard may be missing
            if dtype.is_floating:
                yield name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"), np.asarray(value)
    except (OpError, RuntimeError, ValueError) as error:
        reason = getattr(error, "message", None) or str(error)
        reason = reason.partition("\n")[0].replace(str(folder), str(folder.name))
        raise Refused(f"the variables cannot be read: {reason}", hint=hint) from error
