"""What the tests of faults share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from tests.conftest import NAME, make_once
from tests.functional.serving.releases import named
from tests.functional.serving.releases import tinies as make_tinies
from tests.reliability.callers import PATIENT, Callers, Question
from tests.reliability.resources import watched_stalls
from tests.reliability.table import as_property
from tests.reliability.trial import Trial

from servable_client import Client, Retry
from servable_serving.server.limits import threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.conftest import RunningServer
    from tests.reliability.resources import Stalls

    from servable_client import TLS


# More calls at a time than the server has threads, and fewer than it lets wait.
_CROWD = 2 * threads()


class Begin(Protocol):
    """Begins a trial: callers call until the end of the block, then what must hold is checked."""

    def __call__(
        self,
        fault: str,
        server: RunningServer,
        *,
        addresses: Mapping[str, str] | None = None,
        spared: bool = False,
        **options: Any,
    ) -> AbstractContextManager[Trial]: ...


def _crowd(address: str, question: Question, tls: TLS | None) -> None:
    """Make the server begin all its threads, and fill its caches."""
    with (
        Client(address, model=NAME, timeout=60, tls=tls) as client,
        ThreadPoolExecutor(_CROWD) as crowd,
    ):
        for _ in crowd.map(lambda _: client.predict({"image": question.images}), range(_CROWD)):
            pass


@pytest.fixture(scope="session")
def stalls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stalls]:
    """When this machine stalled."""
    with watched_stalls(tmp_path_factory.mktemp("stalls") / "output") as stalls:
        yield stalls


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A candidate of the same name that gives other answers; not to be written to."""
    tinies = make_once(tmp_path_factory, "tinies", lambda root: make_tinies(root, 5))
    return make_once(tmp_path_factory, "other", lambda folder: named(tinies / "1", folder, NAME))


@pytest.fixture
def question() -> Question:
    """What callers ask, and the answers of the shipped model."""
    return Question.of_shipped()


@pytest.fixture
def trial(
    stalls: Stalls,
    question: Question,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> Begin:
    """Begins a trial of a fault.

    `addresses` are those of the server unless given, `spared` says that no call may fail, and
    `options` are those of `Callers`.
    """

    @contextmanager
    def begin(
        fault: str,
        server: RunningServer,
        *,
        addresses: Mapping[str, str] | None = None,
        spared: bool = False,
        **options: Any,
    ) -> Iterator[Trial]:
        addresses = addresses or {"grpc": server.grpc, "http": server.http}
        rounds = pytestconfig.getoption("reliability_rounds")
        alone = pytestconfig.getoption("reliability_alone")
        if spared:
            # However busy the machine is, and without a second attempt.
            options = {"deadline": PATIENT, "retry": Retry(attempts=1), **options}
        with Callers(addresses, question, **options) as callers:
            found = Trial(fault, server, callers, stalls, rounds=rounds, spared=spared, alone=alone)
            for address in addresses.values():
                _crowd(address, question, options.get("tls"))
            found.measure()
            yield found
            found.check_growth()
        record_property(*as_property(found.row()))
        found.check()

    return begin
