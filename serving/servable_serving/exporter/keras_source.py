"""A Keras model as functions for inference: what it takes and gives, and by which names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.fold_batch_norm import folded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

# Keras' name for the state of a layer that draws random numbers, such as Dropout.
_SEED = "seed_generator_state"
# Names that Keras makes up, with a number that depends on what the process did before.
_MADE_UP = re.compile(r"(keras_tensor|input|input_layer|inputs)(_\d+)?")
# A graph with its constants is one message of protobuf, which may have 2 GiB.
_MOST_BYTES = 3 << 29


def check_backend() -> None:
    """Refuse to export with another backend than TensorFlow's.

    Raises:
        ExportError: Keras runs on JAX or PyTorch.
    """
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ExportError(
            f"Keras runs on {backend} in this process, and a SavedModel is TensorFlow's",
            hint="save it with model.save('model.keras') and run `servable export model.keras`, or "
            "set KERAS_BACKEND=tensorflow",
        )


def constant(model: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    """A network for inference whose weights are constants in the graph that calls it."""
    # Unused at inference, and seeds differ each time a network is loaded.
    weights = [
        [
            np.zeros(variable.shape, variable.dtype) if variable.name == _SEED else variable.numpy()
            for variable in variables
        ]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    size = sum(value.nbytes for values in weights for value in values)
    if size > _MOST_BYTES:
        raise ExportError(
            f"the model's weights take {size / 1e9:.1f} GB, and a graph of constants at most "
            f"{_MOST_BYTES / 1e9:.1f} GB",
            hint="export it with --keep-signatures, which keeps them in a file of their own",
        )

    def run(image: tf.Tensor) -> tf.Tensor:
        constants = [[tf.constant(value) for value in values] for values in weights]
        answer = model.stateless_call(*constants, image, training=False)[0]
        return answer[0] if isinstance(answer, list | tuple) else answer

    return run


def folded_or_none(model: Any) -> Any | None:
    """The model with its batch normalizations folded; None if there is nothing to fold."""
    from keras import layers

    if not any(isinstance(one, layers.BatchNormalization) for one in model._flatten_layers()):  # noqa: SLF001
        return None
    try:
        return folded(model)
    except Exception:  # noqa: BLE001  # a layer that cannot be made anew from its configuration
        return None


def input_specs(model: Any) -> dict[str, tf.TensorSpec]:
    """The inputs of a Keras model that knows them, by name.

    Names that Keras made up are replaced: they change with each process.
    """
    inputs = model.inputs
    struct = getattr(model, "_inputs_struct", None)
    if isinstance(struct, dict):
        given = list(struct)
        inputs = [struct[key] for key in given]
    else:
        given = [tensor.name for tensor in inputs]
    names = _names(given, "input")
    return {
        name: tf.TensorSpec([None, *tensor.shape[1:]], str(tensor.dtype), name=name)
        for name, tensor in zip(names, inputs, strict=True)
    }


def answer_names(model: Any, answer: Any) -> dict[str, tf.Tensor]:
    """The outputs of a model by name: those of a dictionary, or of the layers that give them."""
    if isinstance(answer, dict):
        return {str(key): value for key, value in answer.items()}
    answers = list(answer) if isinstance(answer, list | tuple) else [answer]
    if len(answers) == 1:
        return {"output_0": answers[0]}
    given = list(getattr(model, "output_names", None) or [])
    if len(given) != len(answers) or len(set(given)) != len(given):
        given = ["output"] * len(answers)
    made_up = {_snake(type(layer).__name__) for layer in getattr(model, "layers", [])} | {"output"}
    return {
        f"output_{index}" if re.sub(r"_\d+$", "", name) in made_up else name: value
        for index, (name, value) in enumerate(zip(given, answers, strict=True))
    }


def _names(given: Sequence[str], prefix: str) -> list[str]:
    if len(given) == 1 and _MADE_UP.fullmatch(given[0]):
        return [f"{prefix}s"]
    return [
        f"{prefix}_{index}" if _MADE_UP.fullmatch(name) else _valid(name)
        for index, name in enumerate(given)
    ]


def _valid(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def _snake(name: str) -> str:
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def served(model: Any, specs: dict[str, tf.TensorSpec]) -> tuple[tf.Module, Any]:
    """A Keras model with one signature, for `tf.saved_model.save`; its weights are variables.

    Args:
        model: The model, which has been built.
        specs: What `input_specs` gave.

    Returns:
        A module that holds the variables and tables, and the signature, traced: all inputs by
        name to all outputs by name.
    """
    module = tf.Module()
    # Not the model itself: TensorFlow would write each variable twice.
    module.kept_variables = [variable.value for variable in model.variables]
    module.kept_tables = list(_tables(model, set()))

    def call(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return _call(model, [inputs[name] for name in specs])

    return module, tf.function(call, autograph=False).get_concrete_function(**specs)


def own_answers(model: Any, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What a model itself answers to the inputs of its signature, by the same names."""
    values = [tf.constant(inputs[name]) for name in input_specs(model)]
    return {name: value.numpy() for name, value in _call(model, values).items()}


def _call(model: Any, values: Any) -> dict[str, tf.Tensor]:
    struct = getattr(model, "_inputs_struct", None)
    if isinstance(struct, dict):
        values = dict(zip(struct, values, strict=True))
    elif len(values) == 1:
        (values,) = values
    # Of bfloat16 JSON and NumPy know nothing.
    return {
        name: tf.cast(value, tf.float32) if value.dtype == tf.bfloat16 else value
        for name, value in answer_names(model, model(values, training=False)).items()
    }


def _tables(layer: Any, seen: set[int]) -> Iterator[Any]:
    """The lookup tables in a layer and in the layers within it."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    for value in (*vars(layer).values(), *getattr(layer, "layers", ())):
        if isinstance(value, tf.saved_model.experimental.TrackableResource):
            if id(value) not in seen:
                seen.add(id(value))
                yield value
        elif isinstance(value, tf.Module) or hasattr(value, "_flatten_layers"):
            yield from _tables(value, seen)
