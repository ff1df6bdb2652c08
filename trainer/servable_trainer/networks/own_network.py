"""A network of one's own, by KerasTuner's contract: a function build(hp), or a HyperModel."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.oracles import RandomSearchOracle

from servable_client import ServableError
from servable_client.cli.console import say
from servable_serving.core.errors import UserCodeError
from servable_serving.core.imports import user_code, user_object
from servable_serving.exporter.keras_file import load_keras, objects_of
from servable_serving.exporter.keras_source import input_specs, served
from servable_serving.exporter.subclassed import with_inputs
from servable_trainer.networks.classifier import HyperparameterError, check_values
from servable_trainer.networks.shuffled import ShuffledBatches, with_tensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from servable_trainer.data.own_data import Part

BATCH_SIZE = 32


class NetworkError(ServableError):
    """A network of a user's own does not keep KerasTuner's contract, or does not fit the data."""


class OwnNetwork:
    """A network that a user defines.

    Args:
        hypermodel: A function `build(hp)` that returns a compiled keras.Model, or a
            keras_tuner.HyperModel, whose `fit` may be overridden.
        name: What to call it; default: by its module and name.
        batch_size: Examples per step, unless `fit` is overridden or the data comes in batches.
    """

    # Layers have the policy that the network's code gives them.
    precision: str | None = None

    def __init__(
        self,
        hypermodel: keras_tuner.HyperModel | Callable[[keras_tuner.HyperParameters], keras.Model],
        *,
        name: str = "",
        batch_size: int | None = None,
    ) -> None:
        self.name = name or _name_of(hypermodel)
        self.batch_size = batch_size or BATCH_SIZE
        self.hypermodel = (
            hypermodel
            if isinstance(hypermodel, keras_tuner.HyperModel)
            else _FunctionModel(hypermodel)
        )
        self._source = _source_of(hypermodel)

    @classmethod
    def named(cls, place: str, *, batch_size: int | None = None) -> OwnNetwork:
        """The network that MODULE:NAME names.

        Args:
            place: A function, a HyperModel, or its class, which takes no arguments; the module is
                found as in a program in the working directory.
            batch_size: Examples per step.

        Raises:
            UserCodeError: It cannot be imported, or is neither.
        """
        found = user_object(place)
        if inspect.isclass(found) and issubclass(found, keras_tuner.HyperModel):
            with user_code(f"{place}()", hint="name an instance of it, if it takes arguments"):
                found = found()
        if not isinstance(found, keras_tuner.HyperModel) and (
            inspect.isclass(found) or not callable(found)
        ):
            raise UserCodeError(f"{place} is neither a function build(hp) nor a HyperModel")
        return cls(found, name=place, batch_size=batch_size)

    @property
    def overrides_fit(self) -> bool:
        """Whether the HyperModel trains the network itself."""
        return type(self.hypermodel).fit is not keras_tuner.HyperModel.fit

    @property
    def digest(self) -> str:
        """SHA-256 of the code of its module."""
        return hashlib.sha256(self._source.encode()).hexdigest()

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build the network.

        Raises:
            NetworkError: `build` returns no compiled keras.Model.
        """
        model = self.hypermodel.build(hp)
        if not isinstance(model, keras.Model):
            raise NetworkError(
                f"{self.name} returns {type(model).__name__}, not a keras.Model",
                hint="build(hp) must return the network",
            )
        if not model.compiled and not self.overrides_fit:
            raise NetworkError(
                f"{self.name} returns a network that is not compiled",
                hint="call model.compile(optimizer, loss, metrics) in build(hp)",
            )
        return model

    def space(self) -> tuple[keras_tuner.HyperParameters, keras.Model]:
        """Every hyperparameter that `build` asks for, also under a condition; and a network.

        As KerasTuner's tuners find them (keras_tuner/src/engine/base_tuner.py): the network is
        built until every conditional scope was active once.

        Raises:
            NetworkError: As for `build`.
            UserCodeError: `build` failed.
        """
        oracle = RandomSearchOracle(objective="val_loss", max_trials=1)
        hp = oracle.get_space()
        self.hypermodel.declare_hyperparameters(hp)
        oracle.update_space(hp)
        model = None
        seen: list[Any] = []
        unseen: list[Any] = []
        hp = oracle.get_space()
        while True:
            with user_code(f"{self.name}"):
                built = self.build(hp)
            model = model or built
            oracle.update_space(hp)
            seen += [scope for scope in map(list, hp.active_scopes) if scope not in seen]
            found = [*unseen, *map(list, hp.inactive_scopes)]
            unseen = [scope for scope in found if scope not in seen]
            if not unseen:
                return oracle.get_space(), model
            hp = oracle.get_space()
            for condition in unseen[0]:
                hp.values[condition.name] = condition.values[0]
            hp.ensure_active_values()

    def hyperparameters(
        self, values: dict[str, Any], space: keras_tuner.HyperParameters, *, strict: bool = False
    ) -> keras_tuner.HyperParameters:
        """Hyperparameters that hold `values`; what is not among them takes its default.

        Args:
            values: Those that are given.
            space: From `space`.
            strict: Refuse one that `build` does not ask for. It may be of a branch that these
                values do not take; and what an overridden `fit` asks for is not known before.

        Raises:
            HyperparameterError: One is outside its range, or is not asked for.
        """
        hp = check_values(values, space, allow_unknown=True)
        if set(values) <= _names(space) or self.overrides_fit:
            return hp
        with user_code(self.name):
            self.build(hp)
        if unknown := sorted(set(values) - _names(hp)):
            known = ", ".join(sorted(_names(hp)))
            if strict:
                raise HyperparameterError(
                    f"{self.name} has no hyperparameter {', '.join(unknown)}",
                    hint=f"choose from {known}",
                )
            say(f"{self.name} does not ask for {', '.join(unknown)}, but for {known}")
        return hp

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        part: Part,
        *,
        validation_data: Part | None = None,
        epochs: int,
        initial_epoch: int = 0,
        seed: int = 0,
        callbacks: list[keras.callbacks.Callback],
    ) -> Any:
        """Train a network from `build`; returns what KerasTuner's `HyperModel.fit` may.

        An overridden `fit` is called as KerasTuner does, with the data, `validation_data`, `epochs`
        and `callbacks`, and with `initial_epoch` where a training goes on. Otherwise the order of
        the examples depends only on the seed and the epoch, so that a training can resume.
        """
        options: dict[str, Any] = {"epochs": epochs, "callbacks": callbacks}
        if initial_epoch:
            options["initial_epoch"] = initial_epoch
        if validation_data is not None:
            options["validation_data"] = (
                validation_data.x
                if validation_data.yields_batches
                else with_tensors(validation_data).as_tuple
            )
        data: tuple[Any, ...] = (part.x,)
        if not self.overrides_fit:
            # What yields batches is in an order of its own.
            options["shuffle"] = False
        if not part.yields_batches:
            if self.overrides_fit:
                part = with_tensors(part)
                data = (part.x,) if part.y is None else (part.x, part.y)
                if part.weights is not None:
                    options["sample_weight"] = part.weights
            else:
                data = (
                    ShuffledBatches(
                        part, batch_size=self.batch_size, seed=seed, first_epoch=initial_epoch
                    ),
                )
                options["validation_batch_size"] = self.batch_size
        before = keras.config.is_interactive_logging_enabled()
        # Keras' progress bars: there is one of ours.
        keras.config.disable_interactive_logging()
        try:
            return self.hypermodel.fit(hp, model, *data, **options)
        finally:
            if before:
                keras.config.enable_interactive_logging()

    def check_saved(self, model: keras.Model, dtypes: dict[str, str]) -> None:
        """Save a network and make a graph of it, as the export will: no training is in vain.

        Args:
            model: The network, built.
            dtypes: From `dtypes_of`.

        Raises:
            ExportError: It cannot be loaded, because of a Lambda layer for example, or its code
                cannot be traced.
            NetworkError: It cannot be saved.
        """
        with tempfile.TemporaryDirectory(prefix="servable-train-") as folder:
            path = Path(folder) / "model.keras"
            try:
                model.save(path)
            except Exception as error:  # whatever a custom layer does
                raise NetworkError(
                    f"Keras cannot save the network of {self.name}: {str(error)[:200]}",
                    hint="a layer or model of your own needs get_config; see "
                    "https://keras.io/guides/serialization_and_saving/",
                ) from error
            loaded = with_inputs(load_keras(path, custom_objects=self.custom_objects()), dtypes)
            if keras.backend.backend() != "tensorflow":
                return
            try:
                served(loaded, input_specs(loaded))
            except Exception as error:  # as above
                raise NetworkError(
                    f"TensorFlow cannot make a graph of the network of {self.name}: "
                    f"{type(error).__name__}: {str(error)[:200]}",
                    hint="call() must work on symbolic tensors, as in tf.function",
                ) from error

    def custom_objects(self) -> dict[str, Any]:
        """Classes and functions of the module that defines the network, by name."""
        module = self._module()
        return {} if module is None else objects_of(module)

    @property
    def module(self) -> str:
        """The name of that module; "" if it has none."""
        return getattr(self._module(), "__name__", "")

    def _module(self) -> ModuleType | None:
        owner = self.hypermodel
        named = owner.function if isinstance(owner, _FunctionModel) else type(owner)
        return inspect.getmodule(named)


class _FunctionModel(keras_tuner.HyperModel):  # type: ignore[misc]
    """A function `build(hp)` as a HyperModel."""

    def __init__(self, function: Callable[[keras_tuner.HyperParameters], keras.Model]) -> None:
        super().__init__()
        self.function = function

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Call the function."""
        return self.function(hp)


def ensure_built(model: keras.Model, part: Part) -> None:
    """Create the weights of a network that knows its inputs only when it sees some."""
    if not model.built:
        model(_some(part))


def has_own_layers(model: keras.Model) -> bool:
    """Whether a network has layers that are not Keras'."""
    kinds = {type(layer).__module__.partition(".")[0] for layer in model._flatten_layers()}  # noqa: SLF001
    return kinds != {"keras"}


def dtypes_of(part: Part) -> dict[str, str]:
    """The dtypes of a network's inputs, as `with_inputs` takes them; Keras casts floats."""
    some = _some(part)
    named = some.items() if isinstance(some, dict) else [("", some)]
    if isinstance(some, list | tuple):
        named = [(str(at), one) for at, one in enumerate(some)]
    found = {name: keras.backend.standardize_dtype(one.dtype) for name, one in named}
    return {name: dtype for name, dtype in found.items() if "float" not in dtype}


def _some(part: Part) -> Any:
    """Inputs of a few examples."""
    if part.yields_batches:
        batch = next(iter(part.x))
        return batch[0] if isinstance(batch, tuple) else batch
    return with_tensors(part.first(1)).x


def epochs_of(
    result: Any, logs: list[dict[str, float]], *, objective: str | None = None
) -> list[dict[str, float]]:
    """The metrics of each epoch, from what a HyperModel's `fit` returned.

    Args:
        result: A History, a dict of metrics, or the objective as a number; what else it may be says
            nothing.
        logs: What its callbacks were told after each epoch.
        objective: The metric that a user named, which a number is.

    Raises:
        NetworkError: It is a number, and it is not known which.
    """
    if isinstance(result, int | float | np.number) and not isinstance(result, bool):
        if objective is None:
            raise NetworkError(
                "fit returns a number, and it is not known which",
                hint="name it with --objective NAME:min or NAME:max",
            )
        return [{objective: float(result)}]
    if isinstance(result, dict):
        return [{str(key): float(value) for key, value in result.items()}]
    history = getattr(result, "history", None)
    if not history:
        return logs
    columns = {key: values for key, values in history.items() if len(values)}
    count = min(map(len, columns.values()), default=0)
    return [{key: float(values[n]) for key, values in columns.items()} for n in range(count)]


def check_objective(epochs: list[dict[str, float]], name: str) -> None:
    """Check that every epoch has the objective.

    Raises:
        NetworkError: One has not.
    """
    if not epochs or any(name not in epoch for epoch in epochs):
        known = ", ".join(sorted({key for epoch in epochs for key in epoch})) or "no metric"
        raise NetworkError(
            f"the training gives no {name}: it gives {known}",
            hint="--objective NAME takes one of these",
        )


def _names(hp: keras_tuner.HyperParameters) -> set[str]:
    return {one.name for one in hp.space}


def _name_of(hypermodel: Any) -> str:
    named = hypermodel if inspect.isfunction(hypermodel) else type(hypermodel)
    return f"{named.__module__}:{named.__qualname__}"


def _source_of(hypermodel: Any) -> str:
    """The code of the module that defines it, or of the object alone in a notebook."""
    named = hypermodel if inspect.isfunction(hypermodel) else type(hypermodel)
    module = inspect.getmodule(named)
    for one in (module, named):
        if one is None or getattr(one, "__name__", "") == "__main__":
            continue
        try:
            return inspect.getsource(one)
        except (OSError, TypeError):
            continue
    return repr(named)
