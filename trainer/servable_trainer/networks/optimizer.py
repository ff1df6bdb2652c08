"""Optimizer, learning-rate schedule and the other hyperparameters of training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

if TYPE_CHECKING:
    import keras_tuner

# The size of Adam's steps depends on the rate only; SGD's scale with the gradient, too, and for
# these networks need a rate that is about this much higher.
_SGD_FACTOR = 50
# The share of warm-up in one cycle, and the fraction of the peak where it starts.
_WARM_UP_SHARE, _WARM_UP_FROM = 0.2, 0.04


@dataclass(frozen=True, kw_only=True)
class Training:
    """The hyperparameters of training, as opposed to those of the architecture.

    Attributes:
        name: "adamw", "sgd" (Nesterov momentum 0.9) or "muon".
        learning_rate: Peak of the schedule; SGD uses fifty times as much.
        weight_decay: Decoupled (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101), in
            units of the learning rate; SGD uses a fiftieth.
        schedule: "cosine" from the peak to zero (https://arxiv.org/abs/1608.03983), or
            "one_cycle": up over a fifth of the batches, then down along a cosine (Smith and Topin
            2018, https://arxiv.org/abs/1708.07120).
        batch_size: Images per step.
        label_smoothing: Share of each target spread over all classes, 0 to 1.
        ema: Momentum of the moving average of the weights that is used in the end; 0 for none.
        mixup: Both parameters of the Beta distribution that pairs of images are mixed by (Zhang
            et al. 2017, https://arxiv.org/abs/1710.09412); 0 for none.
    """

    name: str
    learning_rate: float
    weight_decay: float
    schedule: str
    batch_size: int
    label_smoothing: float
    ema: float
    mixup: float

    def optimizer(self, steps: int) -> keras.optimizers.Optimizer:
        """An optimizer whose schedule ends after `steps` batches."""
        rate, decay = self.learning_rate, self.weight_decay
        if self.name == "sgd":
            rate, decay = rate * _SGD_FACTOR, decay / _SGD_FACTOR
        settings: dict[str, Any] = {
            "learning_rate": Schedule(rate, steps=steps, kind=self.schedule),
            "weight_decay": decay or None,
            "use_ema": bool(self.ema),
            "ema_momentum": self.ema or 0.99,
        }
        match self.name:
            case "adamw":
                optimizer = keras.optimizers.AdamW(**{**settings, "weight_decay": decay})
            case "sgd":
                optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, **settings)
            case _:
                optimizer = Muon(adam_weight_decay=decay, **{**settings, "weight_decay": decay})
        # Decaying scales and biases gains nothing and harms normalization.
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        return optimizer


def training_from(hp: keras_tuner.HyperParameters) -> Training:
    """Query the hyperparameters of training."""
    return Training(
        name=hp.Choice("optimizer", ["adamw", "sgd", "muon"]),
        learning_rate=hp.Float("learning_rate", 5e-4, 2e-2, sampling="log", default=4e-3),
        weight_decay=hp.Float("weight_decay", 1e-4, 0.2, sampling="log", default=0.02),
        schedule=hp.Choice("schedule", ["one_cycle", "cosine"]),
        batch_size=hp.Choice("batch_size", [64, 128, 256], default=128),
        label_smoothing=hp.Float("label_smoothing", 0.0, 0.2, step=0.05, default=0.1),
        ema=hp.Choice("ema", [0.0, 0.99, 0.999]),
        mixup=hp.Float("mixup", 0.0, 0.4, step=0.1),
    )


@keras.saving.register_keras_serializable("servable")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The learning rate of each batch.

    Args:
        peak: The highest rate.
        steps: The batch at which it reaches zero.
        kind: "cosine" or "one_cycle".
    """

    def __init__(self, peak: float, *, steps: int, kind: str) -> None:
        super().__init__()
        self.peak, self.steps, self.kind = peak, steps, kind

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """The rate at a step, float32 scalar."""
        done = ops.clip(ops.cast(step, "float32") / self.steps, 0.0, 1.0)
        if self.kind == "cosine":
            return self.peak * (1 + ops.cos(math.pi * done)) / 2
        rising = _WARM_UP_FROM + (1 - _WARM_UP_FROM) * done / _WARM_UP_SHARE
        falling = (1 + ops.cos(math.pi * (done - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE))) / 2
        return self.peak * ops.where(done < _WARM_UP_SHARE, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Arguments to rebuild it, for Keras."""
        return {"peak": self.peak, "steps": self.steps, "kind": self.kind}


@keras.saving.register_keras_serializable("servable")
class Muon(keras.optimizers.Muon):  # type: ignore[misc]
    """Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/) for convolutions too.

    Keras' own uses AdamW for all but matrices. Here a convolution's kernel is a matrix from a patch
    to the filters, as in the author's implementation.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) != 4 and super()._should_use_adamw(variable)

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """Orthogonalize a kernel as a matrix [height * width * in, out]."""
        flat = super().zeropower_via_newtonschulz5(ops.reshape(x, (-1, x.shape[-1])), steps)
        return ops.reshape(flat, x.shape)

    def lr_adjust(self, x: Any) -> Any:
        """Scale an update by its matrix's longer side."""
        patch = math.prod(x.shape[:-1])
        return x * (math.sqrt(max(patch, x.shape[-1])) * (self.rms_rate or 1.0))
