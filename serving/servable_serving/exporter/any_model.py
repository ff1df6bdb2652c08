"""Export of models that are not image classifiers: they keep their own signatures.

Any number of inputs and outputs, of numbers and strings, with their assets and tables.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import numpy_dtype
from servable_client._wire.tensors import to_proto
from servable_serving.core.errors import ModelError
from servable_serving.core.names import PREDICT_METHOD, WARMUP
from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.guards import guard_inputs
from servable_serving.exporter.keras_source import input_specs, own_answers, served
from servable_serving.exporter.saved_model_source import meta_graph_of
from servable_serving.model.contract import contract_of
from servable_serving.model.golden import GoldenRequest, golden_request, made_up_inputs
from servable_serving.model.saved_model import SavedModel, signatures_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

# Arrays by the name of an input; "" for the only input of a model.
Examples = dict[str, "NDArray[Any]"]

_PARTS = ("variables", "assets")
_GOLDEN_ROWS = 2
# How much a graph's answers may differ from the model's: kernels are fused.
_SAME = 1e-3
_WARMUP_ROWS = (1, 8, 32)
_TAG = "serve"


def write_any(
    source: Any, folder: Path, *, name: str, examples: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Write a SavedModel with checked inputs, and its warm-up records.

    Args:
        source: A keras.Model, or the folder of a SavedModel.
        folder: An empty folder.
        name: The name that it will be served under.
        examples: Arrays by the name of the input; made up from the signatures if there are none.

    Returns:
        What the manifest should hold: the golden requests, and which examples they are made of.

    Raises:
        ExportError: It cannot be saved, or does not take the examples.
    """
    if isinstance(source, Path):
        _copy(source, folder)
    else:
        _save(source, folder)
    path = folder / "saved_model.pb"
    content = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    checked: list[str] = []
    for meta_graph in content.meta_graphs:
        if _TAG in meta_graph.meta_info_def.tags:
            checked = guard_inputs(meta_graph)
    path.write_bytes(content.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(folder))
    own = None if isinstance(source, Path) else source
    return {"checked_inputs": checked, **_examples(folder, name, examples, own)}


def _copy(source: Path, folder: Path) -> None:
    """The files of a SavedModel that servers read; no warm-up records of another model."""
    for part in ("saved_model.pb", *_PARTS):
        found = source / part
        if found.is_dir():
            shutil.copytree(found, folder / part)
        elif found.exists():
            shutil.copyfile(found, folder / part)


def _save(model: Any, folder: Path) -> None:
    specs = input_specs(model)
    try:
        module, signature = served(model, specs)
        tf.saved_model.save(module, str(folder), signatures=signature)
    except Exception as error:  # whatever a layer's code raises in a graph
        raise ExportError(
            f"the model cannot be written as a SavedModel: {type(error).__name__}: "
            f"{str(error).partition(chr(10))[0][:300]}",
            hint="model.export(DIR) must work; give the folder that it writes",
        ) from error


def _examples(
    folder: Path, name: str, examples: Mapping[str, NDArray[Any]], own: Any | None
) -> dict[str, Any]:
    """Run every signature on examples, and write warm-up records of those that it answers."""
    meta_graph = meta_graph_of(folder)
    contract, defined = contract_of(meta_graph), signatures_of(meta_graph)
    signatures = {
        key: signature
        for key, signature in defined.items()
        if key in contract and signature.method_name in ("", PREDICT_METHOD)
    }
    golden, records, silent = [], [], []
    made_up = not examples
    try:
        model = SavedModel(folder)
    except ModelError as error:
        raise ExportError(f"the exported model cannot be loaded: {error.message}") from error
    try:
        for key, signature in signatures.items():
            found = _answered(model, key, signature, contract[key]["inputs"], examples)
            if found is None:
                silent.append(key)
                continue
            inputs, outputs = found
            if own is not None:
                _compare(key, outputs, own_answers(own, inputs))
            golden.append(golden_request(key, inputs, outputs))
            records += list(_records(name, key, inputs))
    finally:
        model.close()
    if examples and not golden:
        taken = sorted({field for signature in signatures.values() for field in signature.inputs})
        raise ExportError(
            f"the examples have the arrays {', '.join(sorted(examples))}, and the model takes "
            f"{', '.join(taken) or 'nothing'}",
            hint="np.savez(FILE, NAME=array, ...), by the names of the inputs",
        )
    if records:
        (folder / WARMUP).parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
            for record in records:
                writer.write(record.SerializeToString(deterministic=True))
    return {
        "golden": golden,
        "examples": {"made_up": made_up, "signatures_without_answer": silent},
    }


def _compare(
    key: str, found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]
) -> None:
    """Refuse a graph that answers differently than the model that it was made of.

    Keras builds another graph for sides of free length than for the lengths at hand, and some
    layers, such as TimeDistributed, are wrong then.
    """
    request = GoldenRequest(signature=key, inputs={}, outputs=expected)
    if (how := request.difference(found, _SAME)) is not None:
        raise ExportError(
            f"the graph that Keras makes of the model answers differently than the model: {how}",
            hint="give inputs of a fixed length, or replace the layer that does not support a free "
            "one, such as TimeDistributed",
        )


def _answered(
    model: SavedModel,
    key: str,
    signature: Any,
    declared: Mapping[str, Any],
    examples: Mapping[str, NDArray[Any]],
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]] | None:
    """Inputs that a signature answers, and its answers; None if none was found."""
    if examples:
        inputs = _fitting(key, signature, examples)
        if inputs is None:
            return None
        try:
            return inputs, model.run(key, inputs)
        except ModelError as error:
            raise ExportError(
                f"the signature {key} does not answer the examples: {error.message}",
                hint="give arrays as the model takes them",
            ) from error
    for inputs in made_up_inputs(declared, rows=_GOLDEN_ROWS):
        try:
            return inputs, model.run(key, inputs)
        except ModelError:
            continue
    return None


def _fitting(
    key: str, signature: Any, examples: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]] | None:
    """The first rows of the examples, as a signature takes them; None if they are for another.

    Raises:
        ExportError: An array has another dtype or rank.
    """
    names = sorted(signature.inputs)
    if list(examples) == [""]:
        if len(names) != 1:
            raise ExportError(
                f"the model takes {', '.join(names)}, and the examples are one array",
                hint="np.savez(FILE, NAME=array, ...), by the names of the inputs",
            )
        examples = {names[0]: examples[""]}
    if not set(names) <= set(examples):
        if set(names) & set(examples):
            missing = ", ".join(sorted(set(names) - set(examples)))
            raise ExportError(f"the examples have no array for the input {missing} of {key}")
        return None
    found = {}
    for field in names:
        info, array = signature.inputs[field], np.asarray(examples[field])
        found[field] = as_dtype(field, array, numpy_dtype(info.dtype))[:_GOLDEN_ROWS]
        rank = None if info.tensor_shape.unknown_rank else len(info.tensor_shape.dim)
        if rank is not None and found[field].ndim != rank:
            raise ExportError(
                f"the examples for {field} have the shape {list(array.shape)}, and it takes "
                f"{[int(dim.size) for dim in info.tensor_shape.dim]}"
            )
    return found


def as_dtype(field: str, array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """An array in the dtype that an input takes.

    Raises:
        ExportError: Values would be lost.
    """
    if dtype.kind == "O":
        flat = [one.encode() if isinstance(one, str) else one for one in array.ravel().tolist()]
        if not all(isinstance(one, bytes) for one in flat):
            raise ExportError(f"the examples for {field} are {array.dtype}, and it takes strings")
        out = np.empty(array.shape, object)
        out.ravel()[:] = flat
        return out
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "biuf":
        raise ExportError(f"the examples for {field} are {array.dtype}, and it takes {dtype}")
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
    if dtype.kind in "biu" and not np.array_equal(cast, array):
        raise ExportError(
            f"the examples for {field} are {array.dtype}, and it takes {dtype}: values would be "
            "lost"
        )
    return cast


def _records(
    name: str, key: str, inputs: Mapping[str, NDArray[Any]]
) -> Iterator[wire.PredictionLog]:
    """Warm-up records of several batch sizes, if all inputs have a first side in common."""
    lengths = {len(array) if array.ndim else -1 for array in inputs.values()}
    batches = _WARMUP_ROWS if lengths == {_GOLDEN_ROWS} else (None,)
    for batch in batches:
        record = wire.PredictionLog()
        request = record.predict_log.request
        request.model_spec.name, request.model_spec.signature_name = name, key
        for field, array in inputs.items():
            rows = array if batch is None else array[np.arange(batch) % len(array)]
            request.inputs[field].CopyFrom(to_proto(rows))
        yield record
