"""The gate of the structure: the files, the signatures, and weights that are numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from servable_serving.core.errors import ModelError
from servable_serving.gates.verdict import Refused, Verdict
from servable_serving.model.contract import check_compatible, check_contract, contract_of
from servable_serving.model.saved_model import read_meta_graph
from servable_serving.repository.manifest import check_candidate, manifest_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VARIABLES = "variables/variables"

_VARIABLES = {"VarHandleOp", "VariableV2", "Variable"}
_TRAIN_AGAIN = "its training diverged: train it again with a lower learning rate"


def check_structure(candidate: Path, served: Path | None) -> Verdict:
    """Hold a candidate's files against its manifest and the contract.

    Raises:
        ServableError: A file is missing or changed, a signature is not by the contract or not that
            of the served version, or a weight is no number.
    """
    manifest = check_candidate(candidate)
    signatures = contract_of(candidate)
    if "signatures" in manifest and manifest["signatures"] != signatures:
        raise Refused(
            "the signatures are not those in the manifest", hint="export the candidate again"
        )
    check_contract(signatures, len(manifest["labels"]))
    if served is not None:
        check_compatible(signatures, _served_contract(served))
    weights = check_weights(candidate)
    files = len(manifest["sha256"])
    return Verdict(
        said=f"{files} files as in the manifest, the signatures {', '.join(signatures)} by the "
        f"contract, {weights:,} weights finite",
        figures={
            "files": files,
            "signatures": list(signatures),
            "weights": weights,
            "manifest_sha256": manifest_digest(candidate),
        },
    )


def check_weights(folder: Path) -> int:
    """See that every weight is a number: the variables, and the constants in the graph.

    A constant of one number may be infinite, as the one that masks are made of.

    Returns:
        How many weights there are.

    Raises:
        Refused: One is none, or a variable has no value.
    """
    graph = read_meta_graph(folder).graph_def
    count = 0
    for name, array in (*_variables(folder, graph), *_constants(graph)):
        if array.size > 1 and not np.isfinite(array).all():
            kind = "NaN" if np.isnan(array).any() else "infinite"
            raise Refused(f"the weights {name} hold what is no number ({kind})", hint=_TRAIN_AGAIN)
        count += array.size
    return count


def _served_contract(served: Path) -> dict[str, Any]:
    try:
        return contract_of(served)
    except ModelError:
        return {}  # what is broken already has no callers


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _constants(graph: Any) -> Iterator[tuple[str, Any]]:
    for node in _nodes(graph):
        if node.op == "Const" and tf.as_dtype(node.attr["dtype"].type).is_floating:
            yield node.name, tf.make_ndarray(node.attr["value"].tensor)


def _variables(folder: Path, graph: Any) -> Iterator[tuple[str, Any]]:
    hint = "export the candidate again, and list every file in its manifest"
    prefix = folder / VARIABLES
    if not prefix.with_suffix(".index").is_file():
        if any(node.op in _VARIABLES for node in _nodes(graph)):
            raise Refused(
                f"the graph has variables, and there is no {VARIABLES}.index with their values",
                hint=hint,
            )
        return
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        dtypes = reader.get_variable_to_dtype_map()
        for name, dtype in sorted(dtypes.items()):
            value = reader.get_tensor(name)  # read all the same: its shard may be missing
            if dtype.is_floating:
                yield name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"), np.asarray(value)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        reason = getattr(error, "message", None) or str(error)
        reason = reason.partition("\n")[0].replace(str(folder), str(folder.name))
        raise Refused(f"the variables cannot be read: {reason}", hint=hint) from error
