"""Reading of Keras models from files, without running code that a file brings along.

The configuration in a file is inspected before Keras sees it: a Lambda layer holds bytecode, and
a class that is not Keras' own would be imported by its name.
"""

from __future__ import annotations

import inspect
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

from servable_serving.core.imports import user_module
from servable_serving.core.json_text import parse_json
from servable_serving.exporter.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import ModuleType

SUFFIXES = (".keras", ".h5", ".hdf5")

# Entries of configurations that name no class.
_NO_CLASSES = {"__tuple__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
_NO_CLASSES |= {"TensorShape", "__typespec__", "__keras_tensor__", "tensor", "CompositeTensor"}
_NO_CLASSES |= {"__complex__", "__class__", "Policy"}

# Modules whose names may stand in a file: they build models, and do nothing else. Others of Keras'
# own, such as keras.utils, fetch files.
_MODULES = (
    "keras.activations", "keras.constraints", "keras.dtype_policies", "keras.initializers",
    "keras.layers", "keras.losses", "keras.metrics", "keras.models", "keras.ops",
    "keras.optimizers", "keras.optimizers.schedules", "keras.quantizers", "keras.regularizers",
    "keras.src.initializers", "keras.src.layers", "keras.src.models", "keras.src.ops", "keras",
)  # fmt: skip


def load_keras(path: Path, *, custom_objects: str | Mapping[str, Any] | None = None) -> Any:
    """Load a Keras model for inference from a `.keras` file, or a legacy `.h5` file.

    Args:
        path: The file.
        custom_objects: The classes and functions of your own that the model consists of, by name;
            or the name of a module that defines them.

    Returns:
        The keras.Model; not compiled.

    Raises:
        ExportError: The file cannot be read, has Lambda layers, or classes that are not known.
    """
    found = _custom_objects(custom_objects)
    # What only training needs is not loaded; but that of a model within the model is.
    config = {key: one for key, one in _config_of(path).items() if key != "compile_config"}
    _refuse_code(path, config, found)
    import keras

    try:
        with warnings.catch_warnings():
            # `with_inputs` reports a subclassed model that could not be built.
            warnings.filterwarnings("ignore", "Model '.*' had a build config", UserWarning)
            return keras.saving.load_model(
                path, custom_objects=found, compile=False, safe_mode=True
            )
    except Exception as error:  # a damaged file ends in many kinds of error, none of them ours
        raise ExportError(
            f"{path} cannot be loaded by Keras {keras.__version__}: {_first_line(error)}",
            hint="load it where it was made, and save it again: model.save('model.keras')",
        ) from error


def _custom_objects(given: str | Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, str):
        return dict(given)
    try:
        module = user_module(given)
    except Exception as error:  # whatever the module does
        raise ExportError(
            f"the module {given!r} with the custom objects cannot be imported: "
            f"{type(error).__name__}: {_first_line(error)}",
            hint="name it as in `import package.module`, from the working directory or installed",
        ) from error
    return objects_of(module)


def objects_of(module: ModuleType) -> dict[str, Any]:
    """The classes and functions of a module that a model may consist of, by name."""
    return {
        key: value
        for key, value in vars(module).items()
        if not key.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
    }


def _config_of(path: Path) -> dict[str, Any]:
    """The configuration of the model in a file.

    Raises:
        ExportError: It is not a Keras file.
    """
    hint = "give a .keras file, a legacy .h5 file, or the directory of a SavedModel"
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return dict(parse_json(archive.read("config.json")))
        import h5py

        with h5py.File(path) as file:
            return dict(parse_json(file.attrs["model_config"]))
    except KeyError as error:
        raise ExportError(
            f"{path} has no model's configuration: it may hold weights alone",
            hint="save the model with model.save('model.keras'), not model.save_weights",
        ) from error
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "it is not a valid Keras file"
        raise ExportError(f"cannot read {path}: {reason}", hint=hint) from error


def _refuse_code(path: Path, config: Any, known: Mapping[str, Any]) -> None:
    unknown = []
    for entry in _entries(config):
        name = entry["class_name"]
        if name == "Lambda" or name == "__lambda__":
            which = entry.get("config", {})
            which = which.get("name", "lambda") if isinstance(which, dict) else "lambda"
            raise ExportError(
                f"{path} has the Lambda layer {which!r}, whose code is in the file: it is not run",
                hint="replace it by a Keras layer such as Rescaling, or by a layer class of your "
                "own that --custom-objects MODULE defines, and save the model again",
            )
        if not _is_known(entry, known):
            unknown.append(str(entry["config"] if name == "function" else name))
    if unknown:
        names = ", ".join(sorted(set(unknown)))
        raise ExportError(
            f"{path} is made of classes or functions that are not Keras' own: {names}",
            hint="name the module that defines them with --custom-objects MODULE",
        )


def _entries(config: Any) -> Iterator[dict[str, Any]]:
    """All serialized objects in a configuration."""
    if isinstance(config, list):
        for value in config:
            yield from _entries(value)
    elif isinstance(config, dict):
        if isinstance(config.get("class_name"), str) and config["class_name"] not in _NO_CLASSES:
            yield config
        for value in config.values():
            yield from _entries(value)


def _is_known(entry: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    import keras

    name, registered = entry["class_name"], entry.get("registered_name")
    if name == "function":
        name = registered = entry["config"]
    names = [one for one in (registered, name) if isinstance(one, str)]
    # A class may be registered as `package>Name`.
    names += [one.rpartition(">")[2] for one in names]
    if any(one in known for one in names):
        return True
    if any(keras.saving.get_registered_object(one) is not None for one in names):
        return True
    module = entry.get("module")
    if isinstance(module, str):
        return module in _MODULES or module.startswith(
            ("keras.src.ops.", "keras.src.layers.", "keras.src.models.")
        )
    spaces = (
        keras.layers, keras.models, keras.initializers, keras.regularizers, keras.constraints,
        keras.activations, keras.dtype_policies,
    )  # fmt: skip
    # keras.models has no public name for what `keras.Model(inputs, outputs)` makes.
    return name == "Functional" or any(hasattr(space, str(name)) for space in spaces)


def _first_line(error: Exception) -> str:
    # Keras tells layer by layer what could not be read, and the reason last.
    text = str(error).rpartition("Exception encountered: ")[2].strip()
    return (text or type(error).__name__).partition("\n")[0][:300]
