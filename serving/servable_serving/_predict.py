"""What both protocols do with a question: hold it against the signature, and run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable_serving._saved_model import DEFAULT_SIGNATURE, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from servable_client._wire import wire_pb2 as wire
    from servable_serving._saved_model import SavedModel


def signature_of(model: SavedModel, name: str) -> tuple[str, wire.SignatureDef]:
    """A signature and its name; none means `serving_default`.

    Raises:
        ModelError: There is none of that name.
    """
    name = name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise ModelError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
    return name, model.signatures[name]


def run(
    model: SavedModel,
    signature: str,
    inputs: Mapping[str, NDArray[Any]],
    output_filter: Sequence[str] = (),
) -> dict[str, NDArray[Any]]:
    """Hold inputs and the outputs asked for against a signature, and run it.

    Raises:
        ModelError: They do not fit, or the graph refused them.
    """
    definition = model.signatures[signature]
    given, asked = set(inputs), set(definition.inputs)
    if len(given) != len(asked):
        raise ModelError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(given)}!={len(asked)} "
            f"len({_names(given)}) != len({_names(asked)}). "
            f"Sent extra: {_names(given - asked)}. "
            f"Missing but required: {_names(asked - given)}.",
        )
    for name in sorted(asked - given):
        raise ModelError(
            "INVALID_ARGUMENT",
            f"Signature input alias: {name}(feed name: {definition.inputs[name].name}) not found "
            "in request and no default value provided. Inputs expected to be in the request "
            f"{_names(given)}, or default input alias set: ",
        )
    for index, name in enumerate(output_filter):
        if name not in definition.outputs:
            raise ModelError(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_names(set(definition.outputs))}.",
            )
        if name in output_filter[:index]:
            raise ModelError("INVALID_ARGUMENT", f"duplicate output tensor alias: {name}")
    return model.run(signature, inputs, output_filter)


def _names(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
