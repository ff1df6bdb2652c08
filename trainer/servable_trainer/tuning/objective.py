"""What a search optimizes: the name of a metric, and whether more or less of it is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras_tuner
from keras_tuner.engine.metrics_tracking import infer_metric_direction

from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    import keras

ACCURACY = keras_tuner.Objective("val_accuracy", "max")
_DIRECTIONS = ("min", "max")


class ObjectiveError(TuneError):
    """The name of an objective is malformed, or does not say which way is better."""


def objective_of(text: str) -> keras_tuner.Objective:
    """The objective that NAME or NAME:min or NAME:max names.

    Raises:
        ObjectiveError: It is neither, or the direction of this metric is not known.
    """
    name, colon, direction = text.partition(":")
    if not name or (colon and direction not in _DIRECTIONS):
        raise ObjectiveError(
            f"{text!r} is not a valid objective", hint="NAME, NAME:min or NAME:max of a metric"
        )
    if not colon:
        direction = infer_metric_direction(name)
    if direction not in _DIRECTIONS:
        raise ObjectiveError(
            f"the direction of {name} is not known", hint=f"give {name}:min or {name}:max"
        )
    return keras_tuner.Objective(name, direction)


def default_objective(model: keras.Model) -> keras_tuner.Objective:
    """Validation accuracy if a network was compiled with a metric of this name, or else its loss.

    Args:
        model: Compiled.
    """
    config: dict[str, Any] = {}
    if model.compiled:
        config = model.get_compile_config() or {}
    if set(_names(config.get("metrics"))) & {"accuracy"}:
        return ACCURACY
    return keras_tuner.Objective("val_loss", "min")


def _names(metrics: Any) -> list[str]:
    """The names of serialized metrics of a single output."""
    if isinstance(metrics, str):
        return [metrics]
    if isinstance(metrics, list | tuple):
        return [name for one in metrics for name in _names(one)]
    if isinstance(metrics, dict) and isinstance(metrics.get("config"), dict):
        return [str(metrics["config"].get("name", ""))]
    return []
