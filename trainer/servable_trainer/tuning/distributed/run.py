"""A distributed search: the process of the chief, and that of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable_trainer.tuning.distributed.chief import Chief
from servable_trainer.tuning.distributed.worker import ChiefConnection, ChiefUnavailable
from servable_trainer.tuning.loop import signals_stop, work
from servable_trainer.tuning.project import Project, SearchSettings
from servable_trainer.tuning.protocol import StopSignal
from servable_trainer.tuning.results import (
    Interrupted,
    SearchFailed,
    conclude,
    report_resumed,
    search_result,
)
from servable_trainer.tuning.search_folder import SearchFolder
from servable_trainer.tuning.trials import SearchResult, TuneError

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.tuning.distributed.roles import Role
    from servable_trainer.tuning.project import SearchBudget
    from servable_trainer.tuning.subject import Subject


def lead(
    subject: Subject,
    role: Role,
    *,
    directory: Path,
    settings: SearchSettings,
    budget: SearchBudget,
    watchdog: float,
    overwrite: bool = False,
) -> SearchResult:
    """Run the chief of a search: as `tune`, with the trials run by workers.

    Args:
        subject: The network and the data; workers must have the same.
        role: The address to listen at.
        directory: As in `tune`; if workers share it, Hyperband can continue from weights.
        settings: The settings; workers must have the same.
        budget: When to end; the minutes count from the first trial.
        watchdog: Heartbeat timeout in seconds: of a worker, and of the search without any worker.
        overwrite: Discard an existing search.

    Raises:
        SearchFailed: No workers are left; or as `tune`.
        TuneError: The address is not available; or as `tune`.
    """
    project = Project(subject, settings)
    folder = SearchFolder(directory)
    with folder.held():
        oracle = project.open(folder, budget, overwrite=overwrite)
        stop = StopSignal()
        with project.progress(budget) as progress, signals_stop(stop, progress.say):
            report_resumed(oracle, folder, budget, progress)
            chief = Chief(
                oracle,
                project,
                folder=folder,
                budget=budget,
                stop=stop,
                progress=progress,
                watchdog=watchdog,
            )
            try:
                chief.serve(role.address)
            except TuneError as error:
                if oracle.failure is None:
                    raise
                raise SearchFailed(
                    str(error), result=search_result(oracle, folder, "disk"), hint=error.hint
                ) from error
            finally:
                folder.stop_clock()
        return conclude(oracle, folder, stop, budget)


def follow(
    subject: Subject,
    role: Role,
    *,
    directory: Path,
    given: dict[str, Any],
    watchdog: float,
) -> int:
    """Run a worker: run the chief's trials until there are no more.

    Args:
        subject: The same as the chief's.
        role: The chief's address and the worker's name.
        directory: The chief's directory, if shared: for the weights that Hyperband continues from.
        given: Settings given to this worker; must equal the chief's.
        watchdog: Heartbeat timeout in seconds.

    Returns:
        The number of trials that it finished.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the current trial is returned.
        TuneError: The chief is unavailable, or runs another search.
    """
    project = Project(subject, SearchSettings(**given))
    identity = {part: one for part, one in project.identity.items() if part != "settings"}
    stop = StopSignal()
    connection = ChiefConnection(role.address, role.name, patience=watchdog, stop=stop)
    with project.progress() as progress, signals_stop(stop, progress.say):
        try:
            settings = SearchSettings(**connection.join(identity, given))
            progress.say(f"worker {role.name} joined the chief at {role.address}")
            project = Project(subject, settings)
            progress.on_epoch(connection.epoch)
            runner = project.runner(directory / "search", progress, stop.raise_if_cancelled)
            work(connection, runner, stop)
            if stop.number is not None:
                connection.leave()
        except ChiefUnavailable:
            raise
        except BaseException:
            connection.leave()  # so that the trial need not wait for the heartbeat timeout
            raise
        finally:
            connection.close()
    if connection.failure is not None:
        raise connection.failure
    if stop.number is not None:
        raise Interrupted(None, 128 + stop.number)
    return connection.ended
