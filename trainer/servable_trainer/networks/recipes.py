"""Recipes: named sets of hyperparameters that are known to work well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_trainer.networks.classifier import ImageClassifier

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Dataset


class RecipeError(ServableError, LookupError):
    """The recipe does not exist."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A network and how to train it.

    Attributes:
        about: A description in one line.
        epochs: Default number of epochs.
        hyperparameters: Hyperparameters that differ from the defaults of the space.
        transfer: Whether the network is pretrained.
    """

    about: str
    epochs: int
    hyperparameters: dict[str, Any]
    transfer: bool = False

    def classifier(self, dataset: Dataset, *, weights: str | None = None) -> ImageClassifier:
        """The family of networks that the hyperparameters belong to."""
        settings: dict[str, Any] = {
            "size": dataset.train.images.shape[1:],
            "classes": len(dataset.labels),
        }
        if not self.transfer:
            return ImageClassifier(**settings)
        from servable_trainer.networks.transfer import TransferClassifier

        return TransferClassifier(**settings, weights=weights)


RECIPES = {
    "baseline": Recipe(
        about="a plain network of 0.24 M parameters, as in tutorials",
        epochs=10,
        hyperparameters={
            "kind": "plain",
            "stages": 3,
            "width": 32,
            "dense_units": 128,
            "dropout": 0.3,
            "learning_rate": 0.002,
            "weight_decay": 1e-4,
            "schedule": "cosine",
            "label_smoothing": 0.0,
            "flip": False,
            "shift": 0,
        },
    ),
    "resnet": Recipe(
        about="a residual network of 0.26 M parameters; that of the shipped model",
        epochs=30,
        hyperparameters={
            "kind": "residual",
            "stages": 2,
            "width": 24,
            "blocks": 1,
            "dropout": 0.0,
            "optimizer": "muon",
            "learning_rate": 0.005,
            "weight_decay": 0.05,
            "schedule": "one_cycle",
            "batch_size": 256,
            "label_smoothing": 0.1,
            "flip": True,
            "shift": 2,
            "erasing": 0.2,
        },
    ),
    "mobilenet": Recipe(
        about="MobileNetV3Small, pretrained (--weights) or not",
        epochs=10,
        hyperparameters={"learning_rate": 0.001},
        transfer=True,
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        RecipeError: There is none.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise RecipeError(
            f"unknown recipe {name!r}", hint=f"choose from {', '.join(RECIPES)}"
        ) from None
