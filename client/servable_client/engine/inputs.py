"""Which input a model refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable_client.codec.as_dtype import has_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from servable_client._errors import ServableError
    from servable_client.types.answers import Signature, TensorSpec


def explain(
    error: ServableError, inputs: Mapping[str, NDArray[Any]], signature: Signature | None
) -> None:
    """Name the input at fault in the error of a server that refused the inputs.

    Args:
        error: The error; it stays as it is if all inputs fit the signature.
        inputs: Arrays by name.
        signature: What the model takes, or None if that is not known.
    """
    fault = None if signature is None else _fault(inputs, signature)
    if fault is not None and error.code == "INVALID_ARGUMENT":
        error.input, error.hint = fault


def _fault(inputs: Mapping[str, NDArray[Any]], signature: Signature) -> tuple[str, str] | None:
    """The name of an input that does not fit, and a sentence."""
    for name, spec in signature.inputs.items():
        array = inputs.get(name)
        if array is not None and not (
            has_dtype(array, spec.dtype) and _has_shape(array.shape, spec.shape)
        ):
            got = f"{_dtype(array)} {list(array.shape)}"
            return name, f"the input {name} takes {_described(spec)}, got {got}"
    missing = [name for name in signature.inputs if name not in inputs]
    unknown = [name for name in inputs if name not in signature.inputs]
    if not missing and not unknown:
        return None
    takes = ", ".join(f"{name} ({_described(spec)})" for name, spec in signature.inputs.items())
    got = ", ".join(inputs) or "none"
    return (missing or unknown)[0], f"the inputs are {takes or 'none'}, got {got}"


def _has_shape(shape: tuple[int, ...], wanted: tuple[int, ...] | None) -> bool:
    return wanted is None or (
        len(shape) == len(wanted)
        and all(size in (-1, given) for size, given in zip(wanted, shape, strict=True))
    )


def _described(spec: TensorSpec) -> str:
    return f"{spec.plain_dtype} {spec.plain_shape}"


def _dtype(array: NDArray[Any]) -> str:
    if array.dtype.names is not None:  # quantized
        return array.dtype.names[0]
    return "string" if array.dtype.kind in "OSU" else array.dtype.name
