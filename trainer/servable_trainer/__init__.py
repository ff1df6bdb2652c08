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
    from servable_trainer.comparison.compare import Comparison, compare
    from servable_trainer.comparison.contender import CompareError, Contender, Rule, best_of
    from servable_trainer.data.dataset import Dataset, DatasetError, Pictures
    from servable_trainer.data.fashion_mnist import find
    from servable_trainer.data.own_data import OwnData, as_own_data, own_data
    from servable_trainer.evaluation.evaluate import evaluate, examine
    from servable_trainer.evaluation.examination import Examination
    from servable_trainer.evaluation.report import ReportError, write_report
    from servable_trainer.networks.classifier import ImageClassifier
    from servable_trainer.networks.own_network import NetworkError, OwnNetwork
    from servable_trainer.scoring.scores import ClassScore, Evaluation
    from servable_trainer.training.export_run import export_run
    from servable_trainer.training.run import Run, RunError
    from servable_trainer.training.train import train
    from servable_trainer.training.train_own import train_own
    from servable_trainer.tuning.trials import Trial, TuneError
    from servable_trainer.tuning.tune import tune

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
    "NetworkError",
    "OwnData",
    "OwnNetwork",
    "Pictures",
    "ReportError",
    "Rule",
    "Run",
    "RunError",
    "Trial",
    "TuneError",
    "as_own_data",
    "best_of",
    "compare",
    "evaluate",
    "examine",
    "export_run",
    "find",
    "own_data",
    "train",
    "train_own",
    "tune",
    "write_report",
]

# Type checkers would take any name for one that `__getattr__` knows.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "ClassScore": "scoring.scores",
            "CompareError": "comparison.contender",
            "Comparison": "comparison.compare",
            "Contender": "comparison.contender",
            "Dataset": "data.dataset",
            "DatasetError": "data.dataset",
            "Evaluation": "scoring.scores",
            "Examination": "evaluation.examination",
            "ImageClassifier": "networks.classifier",
            "NetworkError": "networks.own_network",
            "OwnData": "data.own_data",
            "OwnNetwork": "networks.own_network",
            "Pictures": "data.dataset",
            "ReportError": "evaluation.report",
            "Rule": "comparison.contender",
            "Run": "training.run",
            "RunError": "training.run",
            "Trial": "tuning.trials",
            "TuneError": "tuning.trials",
            "as_own_data": "data.own_data",
            "best_of": "comparison.contender",
            "compare": "comparison.compare",
            "evaluate": "evaluation.evaluate",
            "examine": "evaluation.evaluate",
            "export_run": "training.export_run",
            "find": "data.fashion_mnist",
            "own_data": "data.own_data",
            "train": "training.train",
            "train_own": "training.train_own",
            "tune": "tuning.tune",
            "write_report": "evaluation.report",
        },
    )
