"""What can be evaluated: a run, a SavedModel or a live endpoint, behind one interface."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from servable_trainer.training.run import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from servable_client import Client
    from servable_trainer.data.dataset import Dataset, Pictures

    Kind = Literal["run", "SavedModel", "endpoint"]

_BATCH = 500
# Batch size of the client's requests: small enough that several are in flight at once.
_REQUEST = 64
_CONTRACT = "serving_default"


class EvaluatedModel(ABC):
    """A classifier under evaluation.

    Attributes:
        what: Its path or address.
        kind: What it is.
        version: The version that is served; None if it is not an endpoint.
        clock: What its latency includes, as a clause.
    """

    kind: ClassVar[Kind]
    version: int | None = None
    clock: str

    def __init__(self, what: str) -> None:
        self.what = what

    @abstractmethod
    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probability of each class, float32 [N, C], for uint8 [N, height, width, ...]."""

    def close(self) -> None:  # noqa: B027
        """Release its resources."""

    def validation(self, dataset: Dataset) -> Pictures | None:  # noqa: ARG002
        """The validation images of its training, if known."""
        return None

    def training(self) -> tuple[int | None, float | None, float | None]:
        """Number of training images, CPU-seconds and seconds of its training; None if unknown."""
        return None, None, None

    def answers(
        self, pictures: Pictures, labels: tuple[str, ...], advance: Callable[[int], object]
    ) -> NDArray[np.float32]:
        """The probabilities for all of `pictures`, float32 [N, C], in batches.

        Args:
            pictures: The images.
            labels: The C classes.
            advance: Called with the size of each finished batch.

        Raises:
            RunError: The outputs are not probabilities of as many classes.
        """
        found = []
        for start in range(0, len(pictures), _BATCH):
            images = pictures.images[start : start + _BATCH]
            found.append(self._checked(self.probabilities(images), (len(images), len(labels))))
            advance(len(images))
        return np.concatenate(found)

    def _checked(
        self, probabilities: NDArray[np.float32], shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        if probabilities.shape != shape:
            raise RunError(
                f"{self.what} returns probabilities of shape {list(probabilities.shape)}, "
                f"expected {list(shape)}: it has another number of classes"
            )
        if not np.isfinite(probabilities).all():
            raise RunError(
                f"{self.what} returns NaN: its training diverged",
                hint="train it again with a lower learning rate",
            )
        if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-2):
            raise RunError(
                f"{self.what} does not return probabilities: they do not sum to 1",
                hint="the network must end in a softmax",
            )
        return probabilities

    def _check_fit(self, labels: list[str], shape: tuple[int, ...], dataset: Dataset) -> None:
        if tuple(labels) != dataset.labels:
            raise RunError(
                f"{self.what} has other classes than {dataset.name}",
                hint="evaluate it on the dataset that it was trained on",
            )
        if shape != dataset.test.images.shape[1:]:
            raise RunError(
                f"{self.what} takes images of {_times(shape)}, but those of {dataset.name} are "
                f"{_times(dataset.test.images.shape[1:])}"
            )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


class EvaluatedRun(EvaluatedModel):
    """A training run's network, in Keras."""

    kind = "run"
    clock = "Keras' predict_on_batch in this process"

    def __init__(
        self, folder: Path, dataset: Dataset, *, custom_objects: str | None = None
    ) -> None:
        from servable_trainer.training.run import load_run

        super().__init__(str(folder))
        self._run, self._model = load_run(folder, custom_objects=custom_objects)
        from servable_trainer.networks.own_images import ImageInputs

        self._inputs = ImageInputs(**self._run.inputs) if self._run.inputs else None
        if self._run.model is not None and self._inputs is None:
            raise RunError(
                f"{folder} was not trained on images with classes, but on {self._run.dataset}",
                hint="export it, and measure it with `servable push --holdout FILE.npz`",
            )
        self._check_fit(self._run.labels, self._run.size, dataset)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities of images, float32 [N, C]."""
        if self._inputs is None:
            return np.asarray(self._model.predict_on_batch(images), np.float32)
        answers = self._model.predict_on_batch(self._inputs.inputs(images))
        return self._inputs.probabilities(answers)

    def validation(self, dataset: Dataset) -> Pictures | None:
        """The validation images of its training, if known."""
        run = self._run
        return _validation(dataset, run.checksums, run.seed, run.validated, run.started_from)

    def training(self) -> tuple[int | None, float | None, float | None]:
        """Number of training images, CPU-seconds and seconds of its training; None if unknown."""
        return self._run.fitted, self._run.cpu_seconds, self._run.seconds


class EvaluatedSavedModel(EvaluatedModel):
    """An exported model, run in this process as TensorFlow Serving would run it."""

    kind = "SavedModel"
    clock = "the SavedModel in this process, without a server"

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        from servable_serving.model.saved_model import SavedModel
        from servable_serving.repository.candidate import check_candidate

        super().__init__(str(folder))
        self._manifest = check_candidate(folder)
        self._model = SavedModel(folder)
        try:
            signature = self._model.signatures.get(_CONTRACT)
            if (
                signature is None
                or set(signature.inputs) != {"image"}
                or "probabilities" not in signature.outputs
            ):
                raise RunError(
                    f"{folder} has no signature {_CONTRACT} from image to probabilities",
                    hint="`servable export` writes one",
                )
            shape = signature.inputs["image"].tensor_shape
            self._check_fit(
                self._manifest["labels"], tuple(dim.size for dim in shape.dim[1:]), dataset
            )
        except BaseException:
            self._model.close()
            raise

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities of images, float32 [N, C]."""
        found = self._model.run(_CONTRACT, {"image": images}, ["probabilities"])
        return np.asarray(found["probabilities"], np.float32)

    def validation(self, dataset: Dataset) -> Pictures | None:
        """The validation images of its training, if known."""
        try:
            return _validation(
                dataset,
                self._manifest["dataset"]["sha256"],
                self._manifest["seed"],
                self._manifest["metrics"]["validation"]["count"],
                self._manifest["training"]["started_from"],
            )
        except (KeyError, TypeError):  # all of these are optional
            return None

    def training(self) -> tuple[int | None, float | None, float | None]:
        """Number of training images, CPU-seconds and seconds of its training; None if unknown."""
        about = self._manifest.get("training")
        if not isinstance(about, dict):
            return None, None, None
        return about.get("pictures"), about.get("cpu_seconds"), about.get("seconds")

    def close(self) -> None:
        """Release the session."""
        self._model.close()


class EvaluatedEndpoint(EvaluatedModel):
    """A model behind TensorFlow Serving or a compatible server, through the SDK."""

    kind = "endpoint"

    def __init__(self, client: Client, dataset: Dataset) -> None:
        super().__init__(client.endpoint)
        self._client, self._dataset = client, dataset
        # Pinned: another version may become available meanwhile.
        self.version = client.resolve()
        scheme = "gRPC" if client.endpoint.startswith("grpc") else "REST"
        self.clock = f"from request to response by {scheme}, network and server included"

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities of images, float32 [N, C]."""
        labels, rows = self._dataset.labels, []
        for answer in self._client.classify_many(images, batch_size=_REQUEST, version=self.version):
            rows.append(answer.probabilities)
            # A model without a classify signature has numbers for labels.
            known = answer.class_id < len(labels) and answer.label in (
                labels[answer.class_id],
                str(answer.class_id),
            )
            if not known:
                raise RunError(
                    f"{self.what} has other classes than {self._dataset.name}: "
                    f"{answer.label!r} is its class {answer.class_id}",
                    hint="evaluate it on the dataset that it was trained on",
                )
        return np.stack(rows).astype(np.float32, copy=False)


def _validation(
    dataset: Dataset, checksums: object, seed: int, count: int, started_from: object
) -> Pictures | None:
    """The training's split, repeated; None if it is not known."""
    # A run that was fine-tuned may have been trained on another split.
    if checksums != dataset.checksums or not count or started_from is not None:
        return None
    _, validation = dataset.split(seed=seed, validation=count / len(dataset.train))
    return validation if len(validation) == count else None


@contextmanager
def open_model(
    what: Path | Client, dataset: Dataset, *, custom_objects: str | None = None
) -> Iterator[EvaluatedModel]:
    """Open a model for evaluation.

    Args:
        what: The directory of a run or a SavedModel; or a client, which stays open.
        dataset: The dataset that it will be evaluated on.
        custom_objects: Module that defines layers or functions of a run's network.

    Raises:
        ExportError: A run's network has layers of a user's own, and they are not named.
        RunError: `what` is not such a directory, or has other classes or another image size.
        CandidateError: A SavedModel's files were changed since the export.
        ServableError: The server cannot be reached, or does not have the model.
    """
    subject: EvaluatedModel
    if not isinstance(what, Path):
        subject = EvaluatedEndpoint(what, dataset)
    elif (what / "saved_model.pb").is_file():
        subject = EvaluatedSavedModel(what, dataset)
    else:
        _check_folder(what)
        subject = EvaluatedRun(what, dataset, custom_objects=custom_objects)
    try:
        yield subject
    finally:
        subject.close()


def _check_folder(what: Path) -> None:
    versions = [path for path in what.glob("*/saved_model.pb") if path.parent.name.isdecimal()]
    if versions:
        newest = max((path.parent for path in versions), key=lambda path: int(path.name))
        raise RunError(f"{what} is a directory of versions", hint=f"choose one of them: {newest}")
    if not what.is_dir():
        is_address = re.fullmatch(r"[\w.-]+:\d+", str(what)) is not None
        raise RunError(
            f"{what} is not a training run: no such directory",
            hint=f"a server address needs a scheme: grpc://{what}"
            if is_address
            else "`servable train` writes a run, `servable export` a candidate",
        )


def details(subject: EvaluatedModel) -> dict[str, Any]:
    """Identifies a model in results."""
    return {"what": subject.what, "kind": subject.kind, "version": subject.version}
