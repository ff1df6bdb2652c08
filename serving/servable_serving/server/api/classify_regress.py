"""The APIs that take tf.Examples: Classify, Regress and MultiInference.

The rules and the words are those of TensorFlow Serving's classifier.cc, regressor.cc and
multi_inference.cc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import text_format

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import data_type_of
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.names import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from servable_serving.server.runtime.model import Model

# The names of the tensors in the signatures of Classify and Regress.
_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


def classify(
    model: Model, signature: str, examples: Any, *, deadline: float | None = None
) -> wire.ClassificationResult:
    """Classify examples.

    Args:
        model: The model.
        signature: The signature's name; `serving_default` if it is empty.
        examples: A tensorflow.serving.Input.
        deadline: Until when, by time.monotonic.

    Raises:
        ModelError: The signature is not for classification, there are no examples, or the graph
            failed.
    """
    definition = _definition(model, signature, "No signature was found with the name: ")
    outputs = check_classify(definition)
    serialized = serialize(examples)
    answer = model.run(
        signature or DEFAULT_SIGNATURE,
        {_INPUTS: serialized},
        outputs,
        api="Classify",
        deadline=deadline,
    )
    return _classifications(len(serialized), answer.get(_CLASSES), answer.get(_SCORES))


def regress(
    model: Model, signature: str, examples: Any, *, deadline: float | None = None
) -> wire.RegressionResult:
    """Regress examples; as `classify`."""
    definition = _definition(model, signature, "No signature was found with the name: ")
    check_regress(definition)
    serialized = serialize(examples)
    answer = model.run(
        signature or DEFAULT_SIGNATURE,
        {_INPUTS: serialized},
        [_OUTPUTS],
        api="Regress",
        deadline=deadline,
    )
    return _regressions(len(serialized), answer[_OUTPUTS])


def multi_inference(
    model: Model,
    tasks: Sequence[Any],
    examples: Any,
    *,
    deadline: float | None = None,
) -> wire.MultiInferenceResponse:
    """Several signatures for the same examples, in one run of the graph; as `classify`.

    Args:
        model: The model of the first task.
        tasks: tensorflow.serving.InferenceTask.
        examples: A tensorflow.serving.Input.
        deadline: Until when, by time.monotonic.
    """
    seen: set[str] = set()
    feeds, fetches = set[str](), set[str]()
    for task in tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if spec.name != tasks[0].model_spec.name:
            raise invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        definition = _definition(model, name, "Requested signature not found in model graph: ")
        if task.method_name == CLASSIFY_METHOD:
            outputs = check_classify(definition)
        elif task.method_name == REGRESS_METHOD:
            outputs = check_regress(definition)
        else:
            raise ModelError(
                "UNIMPLEMENTED", f"Unsupported signature method_name: {task.method_name}"
            )
        feeds.add(definition.inputs[_INPUTS].name)
        fetches |= {definition.outputs[output].name for output in outputs}
    serialized = serialize(examples)
    names = sorted(fetches)
    values = model.run_tensors(
        dict.fromkeys(sorted(feeds), serialized), names, api="MultiInference", deadline=deadline
    )
    by_name = dict(zip(names, values, strict=True))
    response = wire.MultiInferenceResponse()
    for task in tasks:
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        arrays = {
            output: by_name[info.name]
            for output, info in model.signatures[name].outputs.items()
            if info.name in by_name
        }
        result = response.results.add()
        result.model_spec.name = task.model_spec.name
        result.model_spec.signature_name = name
        result.model_spec.version.value = model.number
        if task.method_name == CLASSIFY_METHOD:
            result.classification_result.CopyFrom(
                _classifications(len(serialized), arrays.get(_CLASSES), arrays.get(_SCORES))
            )
        else:
            result.regression_result.CopyFrom(_regressions(len(serialized), arrays[_OUTPUTS]))
    return response


def serialize(examples: Any) -> NDArray[Any]:
    """The examples of a tensorflow.serving.Input, serialized; string [N].

    The context goes before each: of two messages one behind the other, the fields are merged.

    Raises:
        ModelError: There are none; `code` is INVALID_ARGUMENT.
    """
    kind = examples.WhichOneof("kind")
    found: Any = getattr(examples, kind).examples if kind else ()
    if not found:
        raise invalid("Input is empty.")
    context = b""
    if kind == "example_list_with_context":
        context = examples.example_list_with_context.context.SerializeToString()
    serialized = np.empty(len(found), object)
    serialized[:] = [context + example.SerializeToString() for example in found]
    return serialized


def check_classify(definition: wire.SignatureDef) -> list[str]:
    """The outputs to fetch of a classifier's signature.

    Raises:
        ModelError: It is none; `code` is INVALID_ARGUMENT.
    """
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) not in {1, 2}:
        raise invalid(f"Expected one or two output Tensors, found {len(definition.outputs)}")
    if _INPUTS not in definition.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {_text(definition)}")
    outputs = [name for name in (_CLASSES, _SCORES) if name in definition.outputs]
    if not outputs:
        raise invalid(
            "Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {_text(definition)}'
        )
    return outputs


def check_regress(definition: wire.SignatureDef) -> list[str]:
    """The outputs to fetch of a regressor's signature.

    Raises:
        ModelError: It is none; `code` is INVALID_ARGUMENT.
    """
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if _INPUTS not in definition.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {_text(definition)}")
    if _OUTPUTS not in definition.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {_text(definition)}")
    return [_OUTPUTS]


def _classifications(
    count: int, classes: NDArray[Any] | None, scores: NDArray[Any] | None
) -> wire.ClassificationResult:
    for what, array, kind in (("classes", classes, "DT_STRING"), ("scores", scores, "DT_FLOAT")):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(
                f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
            )
        if (found := wire.DataType.Name(data_type_of(array))) != kind:
            raise invalid(f"Expected {what} Tensor of {kind}. Got: {found}")
        if len(array) != count:
            raise invalid(f"Expected {what} output batch size of {count}. Got: {len(array)}")
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(
            "Tensors class and score should match in dim_size(1). Got "
            f"{classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = wire.ClassificationResult()
    width = next((array.shape[1] for array in (classes, scores) if array is not None), 0)
    for row in range(count):
        classification = result.classifications.add()
        labels = [""] * width if classes is None else [_label(item) for item in classes[row]]
        values = [0.0] * width if scores is None else scores[row].tolist()
        for label, score in zip(labels, values, strict=True):
            classification.classes.add(label=label, score=score)
    return result


def _regressions(count: int, values: NDArray[Any]) -> wire.RegressionResult:
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(values)}"
        )
    if len(values) != count:
        raise invalid(
            f"Input batch size did not match output batch size: {count} vs. {len(values)}"
        )
    if (found := wire.DataType.Name(data_type_of(values))) != "DT_FLOAT":
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {found}")
    result = wire.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _definition(model: Model, signature: str, otherwise: str) -> wire.SignatureDef:
    name = signature or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise invalid(f"{otherwise}{name}")
    return model.signatures[name]


def _label(item: bytes) -> str:
    # Strings in messages are UTF-8; another label would fail the call without an explanation.
    return item.decode("utf-8", "replace")


def _shape(array: NDArray[Any]) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _text(definition: wire.SignatureDef) -> str:
    return text_format.MessageToString(definition)
