"""The classic methods that networks are compared with, each with settings that suit images.

Inputs are pixels scaled to 0 to 1. Distances and kernels are computed on principal components, at a
tenth of the cost and almost no loss: 50 explain 86 % of Fashion-MNIST's variance, 80 explain 90 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_EXACT = 2000


@dataclass(frozen=True, kw_only=True)
class Method:
    """A classic method.

    Attributes:
        name: Its name on the command line.
        title: Its name in tables.
        settings: How it differs from scikit-learn's defaults, in words.
        build: Builds an estimator from the number of features, of images, and a seed.
    """

    name: str
    title: str
    settings: str
    build: Callable[[int, int, int], Any]


def _logistic_regression(features: int, pictures: int, seed: int) -> Any:  # noqa: ARG001
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, max_iter=200)


def _linear_svm(features: int, pictures: int, seed: int) -> Any:  # noqa: ARG001
    from sklearn.svm import LinearSVC

    return LinearSVC(C=0.003, dual=False, tol=1e-2, random_state=seed)


def _random_forest(features: int, pictures: int, seed: int) -> Any:  # noqa: ARG001
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, random_state=seed)


def _boosting(features: int, pictures: int, seed: int) -> Any:  # noqa: ARG001
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_iter=100,
        max_bins=32,
        max_features=0.2,
        early_stopping=False,
        random_state=seed,
    )


def _neighbours(features: int, pictures: int, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    nearest = KNeighborsClassifier(5, weights="distance", algorithm="brute")
    return _components(50, features, pictures, seed, nearest)


def _rbf_svm(features: int, pictures: int, seed: int) -> Any:
    from sklearn.svm import SVC

    return _components(80, features, pictures, seed, SVC(C=10, cache_size=500))


def _components(count: int, features: int, pictures: int, seed: int, estimator: Any) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline

    # The exact solver is cubic in the features, of which large images have many.
    solver = "covariance_eigh" if features <= _EXACT else "randomized"
    components = PCA(min(count, features, pictures), svd_solver=solver, random_state=seed)
    return make_pipeline(components, estimator)


METHODS = (
    Method(
        name="logistic-regression",
        title="logistic regression",
        settings="C 0.1, at most 200 iterations",
        build=_logistic_regression,
    ),
    Method(
        name="linear-svm",
        title="linear SVM",
        settings="C 0.003, one-vs-rest",
        build=_linear_svm,
    ),
    Method(name="random-forest", title="random forest", settings="100 trees", build=_random_forest),
    Method(
        name="boosting",
        title="histogram gradient boosting",
        settings="100 rounds, rate 0.1, 32 bins, a fifth of the pixels per split",
        build=_boosting,
    ),
    Method(
        name="k-nearest",
        title="k-nearest neighbours",
        settings="k 5, weighted by distance, 50 principal components",
        build=_neighbours,
    ),
    Method(
        name="rbf-svm",
        title="RBF SVM",
        settings="C 10, 80 principal components",
        build=_rbf_svm,
    ),
)
