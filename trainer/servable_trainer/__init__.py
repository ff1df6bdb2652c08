"""Data, tuning, training and evaluation.

Example:
    folder, dataset = find()
    trials = tune(dataset, directory=Path("build/tuning"))
    train(dataset, directory=Path("build/run"), hyperparameters=trials[0].hyperparameters)
    evaluation = evaluate(Path("build/run"), dataset)
    export_run(Path("build/run"), Path("build/candidate"), dataset, name=dataset.name)
"""

from typing import TYPE_CHECKING

from servable_client._lazy import lazily

if TYPE_CHECKING:
    from servable_trainer._candidate import evaluate, examine, export_run
    from servable_trainer._compare import Comparison, compare
    from servable_trainer._contender import CompareError, Contender, Rule, best_of
    from servable_trainer._dataset import Dataset, DatasetError, Pictures
    from servable_trainer._evaluate import ClassScore, Evaluation
    from servable_trainer._examination import Examination
    from servable_trainer._fashion_mnist import find
    from servable_trainer._model import ImageClassifier
    from servable_trainer._report import ReportError, write_report
    from servable_trainer._run import Run, RunError
    from servable_trainer._train import train
    from servable_trainer._trials import Trial, TuneError
    from servable_trainer._tune import tune

__all__ = [
    "ClassScore",
    "CompareError",
    "Comparison",
    "Contender",
    "Dataset",
    "DatasetError",
    "Evaluation",
    "Examination",
    "ImageClassifier",
    "Pictures",
    "ReportError",
    "Rule",
    "Run",
    "RunError",
    "Trial",
    "TuneError",
    "best_of",
    "compare",
    "evaluate",
    "examine",
    "export_run",
    "find",
    "train",
    "tune",
    "write_report",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "ClassScore": "_evaluate",
        "CompareError": "_contender",
        "Comparison": "_compare",
        "Contender": "_contender",
        "Dataset": "_dataset",
        "DatasetError": "_dataset",
        "Evaluation": "_evaluate",
        "Examination": "_examination",
        "ImageClassifier": "_model",
        "Pictures": "_dataset",
        "ReportError": "_report",
        "Rule": "_contender",
        "Run": "_run",
        "RunError": "_run",
        "Trial": "_trials",
        "TuneError": "_trials",
        "best_of": "_contender",
        "compare": "_compare",
        "evaluate": "_candidate",
        "examine": "_candidate",
        "export_run": "_candidate",
        "find": "_fashion_mnist",
        "train": "_train",
        "tune": "_tune",
        "write_report": "_report",
    },
)
