"""What a search is about: a network with its space, and the data that it is trained on."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from servable_trainer.data.dataset import Dataset
from servable_trainer.data.own_data import OwnData
from servable_trainer.networks.classifier import ImageClassifier, hyperparameters_from, space_of
from servable_trainer.networks.format_version import code_digest
from servable_trainer.networks.own_images import first_of, image_inputs
from servable_trainer.networks.own_network import OwnNetwork
from servable_trainer.tuning.objective import ACCURACY, default_objective
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    import keras_tuner

# Training images per trial.
_SUBSET = 12_000


class Subject(ABC):
    """A network and its data.

    Attributes:
        network: Builds and trains the network of a trial.
        space: Every hyperparameter, at its default.
        objective: What is optimized if nothing else is asked for.
        subset: Default number of training examples per trial; None for all.
    """

    network: ImageClassifier | OwnNetwork
    space: keras_tuner.HyperParameters
    objective: keras_tuner.Objective = ACCURACY
    subset: int | None = None

    @property
    @abstractmethod
    def data(self) -> dict[str, Any]:
        """What identifies the data, for JSON."""

    @property
    def code(self) -> dict[str, Any]:
        """What identifies the network, for JSON."""
        space = json.dumps(self.space.get_config()["space"], sort_keys=True)
        return {"network": code_digest(), "space": hashlib.sha256(space.encode()).hexdigest()}

    @abstractmethod
    def check(self, values: dict[str, Any]) -> None:
        """Check hyperparameters.

        Raises:
            HyperparameterError: One is unknown or out of range.
        """

    @abstractmethod
    def parts(self, *, seed: int, subset: int | None) -> tuple[Any, Any]:
        """Training and validation part, of which `subset` and a fifth as many are taken."""


def subject_of(
    dataset: Dataset | OwnData,
    network: ImageClassifier | OwnNetwork | None,
    *,
    input_range: str | None,
) -> Subject:
    """A network with its data; without a network, `ImageClassifier`.

    Raises:
        NetworkError: The network does not fit the data.
        TuneError: Data of another kind than images needs a network.
    """
    if isinstance(network, OwnNetwork):
        return _Own(dataset, network, input_range=input_range)
    if isinstance(dataset, OwnData):
        raise TuneError(
            f"the data of {dataset.name} needs a network", hint="name it with --model MODULE:NAME"
        )
    return _Ours(dataset, network)


class _Ours(Subject):
    """Our own networks, on labelled images."""

    subset = _SUBSET

    def __init__(self, dataset: Dataset, classifier: ImageClassifier | None) -> None:
        self._dataset = dataset
        self.network: ImageClassifier = classifier or ImageClassifier(
            size=dataset.train.images.shape[1:], classes=len(dataset.labels)
        )
        self.space = space_of(self.network)

    @property
    def data(self) -> dict[str, Any]:
        return _of_images(self._dataset)

    def check(self, values: dict[str, Any]) -> None:
        hyperparameters_from(values, self.network)

    def parts(self, *, seed: int, subset: int | None) -> tuple[Any, Any]:
        return first_of(self._dataset.split(seed=seed), subset)


class _Own(Subject):
    """A user's network, on labelled images or on data of its own."""

    def __init__(
        self, dataset: Dataset | OwnData, network: OwnNetwork, *, input_range: str | None
    ) -> None:
        self.network: OwnNetwork = network
        self.space, model = network.space()
        self.objective = default_objective(model)
        self._dataset = dataset
        self._inputs = None
        if isinstance(dataset, Dataset):
            self.subset = _SUBSET
            self._inputs = image_inputs(
                model,
                shape=dataset.train.images.shape[1:],
                classes=len(dataset.labels),
                input_range=input_range,
                name=network.name,
            )

    @property
    def data(self) -> dict[str, Any]:
        dataset = self._dataset
        if isinstance(dataset, Dataset):
            return {
                **_of_images(dataset), "input range": self._inputs and self._inputs.input_range
            }  # fmt: skip
        return {"dataset": dataset.name, "checksums": dataset.checksums}

    @property
    def code(self) -> dict[str, Any]:
        return {
            **super().code,
            "model": self.network.name,
            "module": self.network.digest,
            "batch size": self.network.batch_size,
        }

    def check(self, values: dict[str, Any]) -> None:
        self.network.hyperparameters(values, self.space, strict=True)

    def parts(self, *, seed: int, subset: int | None) -> tuple[Any, Any]:
        dataset = self._dataset
        if isinstance(dataset, OwnData):
            return first_of(dataset.split(seed=seed), subset)
        assert self._inputs is not None
        return self._inputs.parts(dataset, seed=seed, subset=subset)


def _of_images(dataset: Dataset) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "classes": len(dataset.labels),
        "pictures": len(dataset.train),
        "checksums": dataset.checksums,
    }
