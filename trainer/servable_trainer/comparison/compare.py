"""Networks against classic methods: accuracy and cost."""

from __future__ import annotations

import pickle
import resource
import time
import warnings
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client.cli.console import say
from servable_serving.core.statistics import wilson_interval
from servable_trainer.comparison.classic import METHODS, Method
from servable_trainer.comparison.contender import CompareError, Contender
from servable_trainer.evaluation.evaluated_model import open_model
from servable_trainer.evaluation.robustness import sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from servable_trainer.data.dataset import Dataset, Pictures

_WARM_UP = 32


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All contenders on one dataset.

    Attributes:
        dataset: Its name.
        test: Number of test images.
        contenders: The classifiers, the most accurate first.
        cpu_seconds: Processor time of the whole comparison.
    """

    dataset: str
    test: int
    contenders: list[Contender]
    cpu_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


def compare(
    networks: Sequence[Path],
    dataset: Dataset,
    *,
    methods: Sequence[str] | None = None,
    subset: int | None = None,
    seed: int = 0,
    custom_objects: str | None = None,
) -> Comparison:
    """Fit each classic method, and compare it with the networks.

    Methods use one thread each, so that CPU-seconds count work and not waiting; networks use as
    many as TensorFlow chooses, and all of them count.

    Args:
        networks: Directories of runs, candidates or versions, trained on `dataset`.
        dataset: Methods are fitted to all of its training part and tested on its test part.
        methods: Names of the classic methods; default: all.
        subset: Train on so many images only, and test on a sixth as many.
        seed: Seed of the subset and of the random methods.
        custom_objects: Module that defines layers or functions of the runs' networks.

    Raises:
        CompareError: A method is unknown, a network is given twice, or there is nothing to compare.
        RunError: A directory is not a network, or one for other classes.
        CandidateError: A SavedModel's files were changed since the export.
    """
    from threadpoolctl import threadpool_limits

    chosen = _chosen(methods)
    if len(set(networks)) != len(networks):
        raise CompareError("a network was given twice")
    if not (chosen or networks):
        raise CompareError("there is nothing to compare", hint="give a run or a method")
    if subset is not None:
        dataset = replace(
            dataset,
            train=sample(dataset.train, subset, seed=seed),
            test=sample(dataset.test, max(subset // 6, 1), seed=seed),
        )
    began = _cpu_seconds()
    # Networks first, so that an invalid one is reported before minutes of fitting.
    contenders = [_reported(_network(folder, dataset, custom_objects)) for folder in networks]
    with threadpool_limits(1):
        contenders += [_reported(_classic(method, dataset, seed)) for method in chosen]
    return Comparison(
        dataset=dataset.name,
        test=len(dataset.test),
        contenders=sorted(contenders, key=lambda one: -one.accuracy),
        cpu_seconds=_cpu_seconds() - began,
    )


def _chosen(names: Sequence[str] | None) -> list[Method]:
    if names is None:
        return list(METHODS)
    known = {method.name: method for method in METHODS}
    for name in names:
        if name not in known:
            raise CompareError(f"unknown method {name!r}", hint=f"choose from {', '.join(known)}")
    return [method for name, method in known.items() if name in names]


def _cpu_seconds() -> float:
    """Processor time of this process, all threads, and of its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _classic(method: Method, dataset: Dataset, seed: int) -> Contender:
    from sklearn.exceptions import ConvergenceWarning

    pictures, test = _features(dataset.train), _features(dataset.test)
    estimator = method.build(pictures.shape[1], len(pictures), seed)
    settings = method.settings
    cpu, clock = _cpu_seconds(), time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(pictures, dataset.train.targets)
    cpu, clock = _cpu_seconds() - cpu, time.monotonic() - clock
    if any(issubclass(one.category, ConvergenceWarning) for one in caught):
        settings += ", stopped before it converged"
    before = _cpu_seconds()
    answers = estimator.predict(test)
    return _contender(
        method.title,
        dataset.test.targets,
        answers,
        classes=len(dataset.labels),
        settings=settings,
        network=False,
        pictures=len(pictures),
        fit=(cpu, clock),
        predict=_cpu_seconds() - before,
        size=len(pickle.dumps(estimator, protocol=5)),
    )


def _features(pictures: Pictures) -> NDArray[np.float32]:
    return pictures.images.reshape(len(pictures), -1).astype(np.float32) / np.float32(255)


def _network(folder: Path, dataset: Dataset, custom_objects: str | None) -> Contender:
    with open_model(folder, dataset, custom_objects=custom_objects) as subject:
        subject.probabilities(dataset.test.images[:_WARM_UP])  # the first call builds a graph
        before = _cpu_seconds()
        answers = subject.answers(dataset.test, dataset.labels, lambda _: None)
        predict = _cpu_seconds() - before
        fitted, cpu, clock = subject.training()
    exported = (folder / "saved_model.pb").is_file()
    files = [p for p in folder.rglob("*") if p.is_file()] if exported else [folder / "model.keras"]
    return _contender(
        str(folder),
        dataset.test.targets,
        answers.argmax(axis=1),
        classes=len(dataset.labels),
        settings="network, as a SavedModel" if exported else "network, in Keras",
        network=True,
        pictures=fitted,
        fit=(cpu, clock),
        predict=predict,
        size=sum(path.stat().st_size for path in files),
    )


def _contender(
    name: str,
    targets: NDArray[Any],
    answers: NDArray[Any],
    *,
    classes: int,
    settings: str,
    network: bool,
    pictures: int | None,
    fit: tuple[float | None, float | None],
    predict: float,
    size: int,
) -> Contender:
    from sklearn.metrics import f1_score

    right, count = int((answers == targets).sum()), len(targets)
    f1 = f1_score(targets, answers, labels=range(classes), average="macro", zero_division=0)
    return Contender(
        name=name,
        network=network,
        settings=settings,
        pictures=pictures,
        accuracy=right / count,
        interval=wilson_interval(right, count),
        macro_f1=float(f1),
        fit_cpu_seconds=fit[0],
        fit_seconds=fit[1],
        predict_cpu_seconds=predict,
        predict_cpu_ms=predict / count * 1000,
        size=size,
    )


def _reported(one: Contender) -> Contender:
    cost = "" if one.fit_cpu_seconds is None else f"fitted in {one.fit_cpu_seconds:.0f} CPU-s, "
    say(f"{one.name}: accuracy {one.accuracy:.4f}, {cost}{one.predict_cpu_ms:.3f} CPU-ms per image")
    return one
