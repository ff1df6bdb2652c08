"""Recipes: points of a space that are known to be good, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_trainer.networks.classifier import ImageClassifier

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Dataset


class RecipeError(ServableError, LookupError):
    """There is no such recipe."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A network, and how to train it.

    Attributes:
        about: What it is, in a line.
        epochs: How often each picture is seen unless told otherwise.
        hyperparameters: The point of the space; what is not named takes its default.
        transfer: Whether the network is one that learnt from other pictures before.
    """

    about: str
    epochs: int
    hyperparameters: dict[str, Any]
    transfer: bool = False

    def classifier(self, dataset: Dataset, *, weights: str | None = None) -> ImageClassifier:
        """The family of networks that the hyperparameters are a point of."""
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
        about="a plain network of 0.24 M parameters, as tutorials have it",
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
        about="a residual network of 0.26 M parameters, the one that is shipped",
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
        about="MobileNetV3Small, which learnt from other pictures (--weights) or from none",
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
            f"there is no recipe {name!r}", hint=f"there are {', '.join(RECIPES)}"
        ) from None
