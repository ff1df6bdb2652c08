"""Promote and roll back: `stable` moves to another version that is in the repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable_serving.core.names import STABLE
from servable_serving.release.fleet import ReleaseError
from servable_serving.release.smoke import bring_up
from servable_serving.repository import history
from servable_serving.repository.manifest import check_candidate

if TYPE_CHECKING:
    from servable_serving.release.deployment import Labels
    from servable_serving.release.steps import Steps


def promote(version: int, labels: Labels, steps: Steps) -> None:
    """Move `stable` to a version, once it is loaded and answers as it should.

    Args:
        version: The version.
        labels: The labels.
        steps: Where the steps are told.

    Raises:
        CandidateError: Its files are not as they were pushed.
        ReleaseError: There is no such version, it fails to load or to answer, or the servers do
            not know labels; `stable` stays where it is.
    """
    _check(version, labels)
    with steps.step("check") as step:
        manifest = check_candidate(labels.repository.folders()[version])
        step.said = f"version {version} is whole"
    bring_up(version, labels, steps, manifest)
    with steps.step("label") as step:
        step.said = labels.move(STABLE, version, what="promote")
    _tidy(labels)


def roll_back(labels: Labels, steps: Steps, *, to: int | None = None) -> int:
    """Move `stable` back; what it stood for stays loaded, so that is at once.

    Args:
        labels: The labels.
        steps: Where the steps are told.
        to: The version; what was promoted before unless given.

    Returns:
        The version.

    Raises:
        ReleaseError: There is none to go back to, or it cannot be loaded.
    """
    now = labels.now().get(STABLE)
    version = to
    if version is None:
        version = history.before(labels.repository.history(), now)
        if version is None:
            raise ReleaseError(
                f"nothing was promoted before version {now}"
                if now is not None
                else f"no version of {labels.model} is stable",
                hint="`servable versions` shows what there is; --to names one",
            )
    _check(version, labels)
    with steps.step("wait") as step:
        step.said = labels.bring(version)
    with steps.step("label") as step:
        step.said = labels.move(STABLE, version, what="rollback")
    _tidy(labels)
    return version


def _check(version: int, labels: Labels) -> None:
    there = labels.repository.versions()
    if version not in there:
        known = ", ".join(map(str, there)) or "none"
        raise ReleaseError(
            f"there is no version {version} in {labels.repository.path}",
            hint=f"there are {known}; `servable versions` shows them",
        )
    labels.check(moving=STABLE)
    if labels.live is None:
        if version not in labels.listed():
            raise ReleaseError(
                f"version {version} is not loaded, and no server is waited for",
                hint="leave --no-wait out: a label moves only to a version that is served",
            )
        return
    labels.live.check()
    if labels.live.follows(labels.now()) is False:
        raise ReleaseError(
            f"the server at {labels.live.server} knows no labels of {labels.config.path}",
            hint="start it with --model_config_file=.../models.config, "
            "--model_config_file_poll_wait_seconds=1 and "
            "--allow_version_labels_for_unavailable_models",
        )


def _tidy(labels: Labels) -> None:
    with labels.repository.locked_if_free() as mine:
        if mine:  # else a push is under way, which does it at its end
            labels.drop()
