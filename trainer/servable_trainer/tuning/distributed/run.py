"""A search of several processes: what the chief does, and what a worker does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable_trainer.tuning.distributed.chief import Chief
from servable_trainer.tuning.distributed.worker import ChiefGone, Link
from servable_trainer.tuning.loop import signals_stop, work
from servable_trainer.tuning.project import Project, Settings
from servable_trainer.tuning.protocol import Stop
from servable_trainer.tuning.results import (
    Interrupted,
    SearchFailed,
    conclude,
    found_by,
    tell_where_it_was,
)
from servable_trainer.tuning.search_folder import SearchFolder
from servable_trainer.tuning.trials import Found, TuneError
from servable_trainer.tuning.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset
    from servable_trainer.networks.classifier import ImageClassifier
    from servable_trainer.tuning.distributed.roles import Role
    from servable_trainer.tuning.project import Budget


def lead(
    dataset: Dataset,
    role: Role,
    *,
    directory: Path,
    settings: Settings,
    budget: Budget,
    watchdog: float,
    overwrite: bool = False,
    classifier: ImageClassifier | None = None,
) -> Found:
    """Be the chief of a search: as `tune`, with the trials run by workers.

    Args:
        dataset: What the workers must have too.
        role: Where to listen.
        directory: As `tune`'s; a folder that the workers share with the chief lets Hyperband go
            on from weights.
        settings: As the workers'.
        budget: When to end; the minutes count from the first trial.
        watchdog: After how many seconds a worker that was not heard of is given up, and after how
            many without any the search.
        overwrite: Begin anew.
        classifier: As `tune`'s.

    Raises:
        SearchFailed: There was no worker any more; or as `tune`.
        TuneError: Nothing can listen at the address; or as `tune`.
    """
    project = Project(dataset, settings, classifier)
    folder = SearchFolder(directory)
    with folder.held():
        oracle = project.open(folder, budget, overwrite=overwrite)
        stop = Stop()
        with Watch(f", {budget}") as watch, signals_stop(stop, watch.say):
            tell_where_it_was(oracle, folder, budget, watch)
            chief = Chief(
                oracle,
                project,
                folder=folder,
                budget=budget,
                stop=stop,
                watch=watch,
                watchdog=watchdog,
            )
            try:
                chief.serve(role.address)
            except TuneError as error:
                if oracle.failure is None:
                    raise
                raise SearchFailed(
                    str(error), found=found_by(oracle, folder, "disk"), hint=error.hint
                ) from error
            finally:
                folder.stop_clock()
        return conclude(oracle, folder, stop, budget)


def follow(
    dataset: Dataset,
    role: Role,
    *,
    directory: Path,
    given: dict[str, Any],
    watchdog: float,
    classifier: ImageClassifier | None = None,
) -> int:
    """Be a worker: run trials that the chief hands out, until it has no more.

    Args:
        dataset: The chief's.
        role: Where the chief listens, and what this worker is called.
        directory: The chief's, where it can be had: for the weights that Hyperband goes on from.
        given: Settings that this worker was told, which must be the chief's.
        watchdog: After how many seconds a chief that does not answer is given up.
        classifier: The chief's.

    Returns:
        How many trials it ended.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the trial that ran is given back.
        TuneError: The chief is gone, or searches something else.
    """
    project = Project(dataset, Settings(**given), classifier)
    identity = {part: one for part, one in project.identity.items() if part != "settings"}
    stop = Stop()
    link = Link(role.address, role.name, patience=watchdog, stop=stop)
    with Watch() as watch, signals_stop(stop, watch.say):
        try:
            settings = Settings(**link.join(identity, given))
            watch.say(f"worker {role.name} works for the chief at {role.address}")
            project = Project(dataset, settings, project.classifier)
            watch.tell_epochs(link.epoch)
            runner = project.runner(directory / "search", watch, stop.check)
            work(link, runner, stop)
            if stop.number is not None:
                link.leave()
        except ChiefGone:
            raise
        except BaseException:
            link.leave()  # so that the trial need not wait until this worker counts as dead
            raise
        finally:
            link.close()
    if link.failure is not None:
        raise link.failure
    if stop.number is not None:
        raise Interrupted(None, 128 + stop.number)
    return link.ended
