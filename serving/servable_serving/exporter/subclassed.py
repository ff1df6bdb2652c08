"""Subclassed Keras models as functional ones, which know what they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable_serving.exporter.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What integers and strings are tried as, where floats do not fit.
_OTHERS = ("int64", "string")
# Keras names the shape of the argument `x` so.
_SHAPE_OF = "_shape"


def with_inputs(model: Any, dtypes: Mapping[str, str] | None = None) -> Any:
    """A model that knows its inputs: itself, or a functional model that calls it.

    A subclassed model records the shapes that it was built with, in its file too
    (https://keras.io/guides/serialization_and_saving/), and no dtypes.

    Args:
        model: A keras.Model.
        dtypes: Those of its inputs, by the key in a dictionary of inputs, the number in a list of
            them ("0"), or the argument of `call`; "" for an only input. Default: the first of the
            model's own floats, int64 and string that it can be called with; string first if it has
            layers that look up text.

    Raises:
        ExportError: It was not called yet, or has inputs that Keras cannot trace.
    """
    if getattr(model, "inputs", None):
        return model
    import keras

    shapes = _shapes(model)
    known = len(model.variables)
    reason = ""
    for default in _candidates(model):
        inputs = {
            name: _inputs(name if len(shapes) > 1 else "", shape, dtypes or {}, default)
            for name, shape in shapes.items()
        }
        try:
            if len(inputs) == 1:
                (only,) = inputs.values()
                found = keras.Model(only, model(only))
            else:
                found = keras.Model(list(inputs.values()), model(**inputs))
        except Exception as error:  # noqa: BLE001  # whatever a model's code raises
            lines = str(error).strip().splitlines()
            reason = reason or f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
            continue
        if len(model.variables) != known:  # what this call created is random
            raise ExportError(
                f"Keras loads no weights into {type(model).__name__}, since it cannot build it",
                hint="define build_from_config(config), which creates its layers' weights, or "
                "write it with model.export(DIR) and export that directory",
            )
        return found
    raise ExportError(
        f"the model cannot be called with the inputs that it was built for: {reason}",
        hint="model.export(DIR) writes a SavedModel with the signature that you give it; export "
        "that directory",
    )


def _shapes(model: Any) -> dict[str, Any]:
    """The shapes of a model's inputs, by the arguments of its `call`."""
    found = getattr(model, "_build_shapes_dict", None) or {}
    found = dict(found.get("shapes_dict", found))
    if not model.built or not found:
        raise ExportError(
            f"the model's inputs are not known: {type(model).__name__} was not called yet",
            hint="call it once with an example, then export it, or save it anew",
        )
    return {name.removesuffix(_SHAPE_OF): shape for name, shape in found.items()}


def _inputs(name: str, shape: Any, dtypes: Mapping[str, str], default: str) -> Any:
    """Symbolic inputs of the structure of `shape`."""
    import keras

    if isinstance(shape, dict):
        return {str(key): _inputs(str(key), one, dtypes, default) for key, one in shape.items()}
    if not all(side is None or isinstance(side, int) for side in shape):
        return [_inputs(str(at), one, dtypes, default) for at, one in enumerate(shape)]
    shown = None if not name or name.isdecimal() else name
    return keras.Input(shape=tuple(shape[1:]), dtype=dtypes.get(name, default), name=shown)


def _candidates(model: Any) -> Iterator[str]:
    floats = str(model.input_dtype)
    text = any(_looks_up_text(layer) for layer in model._flatten_layers())  # noqa: SLF001
    yield from (("string", floats, "int64") if text else (floats, *_OTHERS))


def _looks_up_text(layer: Any) -> bool:
    from keras import layers

    return isinstance(layer, layers.TextVectorization) or (
        isinstance(layer, layers.StringLookup) and not layer.invert
    )
