"""tf.Example from Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from servable_client._errors import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client.types.arguments import refuse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

Example: TypeAlias = "Mapping[str, ArrayLike]"
"""Feature names with values: text, bytes, a number, or a flat list or array of one kind."""

# A feature's kind with its values: list[bytes], list[int] or list[float].
_Feature: TypeAlias = "tuple[str, list[Any]]"


def features(example: Example) -> dict[str, _Feature]:
    """The features of an example: the kind of list that holds each, and its values.

    Raises:
        InvalidInput: It is not a mapping of names to text, bytes, numbers or flat lists of these.
    """
    if not isinstance(example, Mapping):
        refuse("an example", "a dict of feature name to value", example)
    return {str(name): _feature(str(name), value) for name, value in example.items()}


def _feature(name: str, value: Any) -> _Feature:
    # NumPy drops trailing zero bytes, so bytes must not pass through it.
    if isinstance(value, bytes | str):
        return "bytes_list", [_as_bytes(value)]
    if isinstance(value, list | tuple) and value and isinstance(value[0], bytes | str):
        if not all(isinstance(item, bytes | str) for item in value):
            raise InvalidInput(f"the feature {name} mixes text with other types")
        return "bytes_list", [_as_bytes(item) for item in value]
    try:
        array = np.asarray(value)
    except ValueError:
        raise InvalidInput(f"the feature {name} is not a flat list") from None
    if array.ndim > 1:
        raise InvalidInput(
            f"the feature {name} has shape {list(array.shape)}",
            hint="a feature is a number, text, bytes, or a flat list of one of them",
        )
    flat = array.ravel().tolist()
    if array.dtype.kind in "biu":
        return "int64_list", [int(item) for item in flat]
    if array.dtype.kind == "f":
        return "float_list", flat
    if array.dtype.kind in "OSU" and all(isinstance(item, bytes | str) for item in flat):
        return "bytes_list", [_as_bytes(item) for item in flat]
    raise InvalidInput(
        f"the feature {name} has dtype {array.dtype}, which tf.Example does not support"
    )


def _as_bytes(item: bytes | str) -> bytes:
    return item.encode() if isinstance(item, str) else item


def fill_example(proto: wire.Example, example: Example) -> None:
    """Write an example into an empty message."""
    proto.features.SetInParent()
    for name, (kind, values) in features(example).items():
        feature = proto.features.feature[name]
        try:
            getattr(feature, kind).value.extend(values)
        except ValueError as error:
            raise InvalidInput(f"the feature {name} does not fit: {error}") from None
        getattr(feature, kind).SetInParent()


def serialize_example(example: Example) -> bytes:
    """A serialized tf.Example, for inputs that take one as a string.

    Args:
        example: A dict of feature name to value: text, bytes, a number, or a flat list or array of
            one of these. Numbers become int64 or float features.

    Raises:
        InvalidInput: A value is none of these.

    Example:
        >>> rows = [serialize_example({"image/encoded": png})]
        >>> client.predict({"inputs": rows}, signature="classify")["classes"].shape
        (1, 10)
    """
    proto = wire.Example()
    fill_example(proto, example)
    # The same bytes for the same example.
    return proto.SerializeToString(deterministic=True)


def fill_input(
    proto: wire.Input, examples: Iterable[Example], context: Example | None = None
) -> None:
    """Write examples, and the context that they share, into an empty message."""
    if context is None:
        proto.example_list.SetInParent()
        target: Any = proto.example_list.examples
    else:
        fill_example(proto.example_list_with_context.context, context)
        target = proto.example_list_with_context.examples
    for example in examples:
        fill_example(target.add(), example)
