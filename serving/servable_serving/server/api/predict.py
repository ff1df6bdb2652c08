"""The Predict API: a signature, arrays in, arrays out.

The rules and the words are those of TensorFlow Serving's predict_util.cc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable_client import InvalidInput
from servable_client._wire.tensors import from_proto
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.names import DEFAULT_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from servable_client._wire import wire_pb2 as wire
    from servable_serving.server.runtime.model import Model


def predict(
    model: Model, request: Any, *, deadline: float | None = None
) -> tuple[str, dict[str, NDArray[Any]]]:
    """Answer a PredictRequest.

    Args:
        model: The model.
        request: A PredictRequest, TensorFlow Serving's or ours.
        deadline: Until when, by time.monotonic.

    Returns:
        The signature's name and the outputs.

    Raises:
        ModelError: The request does not fit the signature, or the graph refused it.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise ModelError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
    outputs = list(request.output_filter)
    check(model.signatures[name], request.inputs, outputs)
    inputs = {key: _array(key, tensor) for key, tensor in request.inputs.items()}
    return name, model.run(name, inputs, outputs, deadline=deadline)


def check(
    definition: wire.SignatureDef, inputs: Collection[str], output_filter: Sequence[str] = ()
) -> None:
    """Check the names of inputs and of requested outputs against a signature.

    Raises:
        ModelError: They do not fit; `code` is INVALID_ARGUMENT.
    """
    given, asked = set(inputs), set(definition.inputs)
    if len(given) != len(asked):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(asked)} "
            f"len({_names(given)}) != len({_names(asked)}). "
            f"Sent extra: {_names(given - asked)}. "
            f"Missing but required: {_names(asked - given)}."
        )
    for name in sorted(asked - given):
        raise invalid(
            f"Signature input alias: {name}(feed name: {definition.inputs[name].name}) not found "
            "in request and no default value provided. Inputs expected to be in the request "
            f"{_names(given)}, or default input alias set: "
        )
    for index, name in enumerate(output_filter):
        if name not in definition.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_names(set(definition.outputs))}."
            )
        if name in output_filter[:index]:
            raise invalid(f"duplicate output tensor alias: {name}")


def _array(name: str, tensor: Any) -> NDArray[Any]:
    try:
        return from_proto(tensor)
    except (InvalidInput, ValueError, OverflowError):
        raise invalid(f"tensor parsing error: {name}") from None


def _names(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
