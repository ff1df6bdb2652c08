"""Promote and roll back: `stable` moves to another version of the repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable_serving.core.names import STABLE
from servable_serving.release.server_group import ReleaseError
from servable_serving.release.smoke import bring_up
from servable_serving.repository import history
from servable_serving.repository.candidate import Candidate

if TYPE_CHECKING:
    from servable_serving.release.deployment import Deployment
    from servable_serving.release.steps import Steps


def promote(version: int, deployment: Deployment, steps: Steps, *, why: str | None = None) -> None:
    """Move `stable` to a version, once it is loaded and passes the smoke test.

    Args:
        version: The version.
        deployment: The model's deployment.
        steps: Reports the steps.
        why: The reason, for the history.

    Raises:
        CandidateError: Its files are not as they were published.
        ReleaseError: There is no such version, it fails to load or to answer, or the servers do
            not read models.config; `stable` does not move.
    """
    _check(version, deployment)
    with steps.step("check") as step:
        manifest = Candidate(deployment.repository.folders()[version]).verify()
        step.said = f"version {version} matches its manifest"
    bring_up(version, deployment, steps, manifest)
    with steps.step("label") as step:
        step.said = deployment.set_label(STABLE, version, what="promote", why=why)
    _tidy(deployment)


def roll_back(
    deployment: Deployment, steps: Steps, *, to: int | None = None, why: str | None = None
) -> int:
    """Move `stable` back: the previous version is still loaded, so that takes milliseconds.

    Args:
        deployment: The model's deployment.
        steps: Reports the steps.
        to: The version; default: the one promoted before.
        why: The reason, for the history.

    Returns:
        The version.

    Raises:
        ReleaseError: There is none to go back to, or it cannot be loaded.
    """
    now = deployment.labels().get(STABLE)
    version = to
    if version is None:
        version = history.before(deployment.repository.history(), now)
        if version is None:
            raise ReleaseError(
                f"nothing was promoted before version {now}"
                if now is not None
                else f"no version of {deployment.model} is stable",
                hint="`servable versions` shows what there is; --to names one",
            )
    _check(version, deployment)
    with steps.step("wait") as step:
        step.said = deployment.load(version)
    with steps.step("label") as step:
        step.said = deployment.set_label(STABLE, version, what="rollback", why=why)
    _tidy(deployment)
    return version


def _check(version: int, deployment: Deployment) -> None:
    there = deployment.repository.versions()
    if version not in there:
        known = ", ".join(map(str, there)) or "none"
        raise ReleaseError(
            f"there is no version {version} in {deployment.repository.path}",
            hint=f"there are {known}; `servable versions` shows them",
        )
    deployment.check(moving=STABLE)
    if deployment.servers is None:
        if version not in deployment.listed():
            raise ReleaseError(
                f"version {version} is not loaded, and no server is waited for",
                hint="run it without --no-wait: a label moves only to a version that is served",
            )
        return
    deployment.servers.check()
    if deployment.servers.watches_config(deployment.labels()) is False:
        raise ReleaseError(
            f"the server at {deployment.servers.address} does not read {deployment.config.path}",
            hint="start it with --model_config_file=.../models.config, "
            "--model_config_file_poll_wait_seconds=1 and "
            "--allow_version_labels_for_unavailable_models",
        )


def _tidy(deployment: Deployment) -> None:
    with deployment.repository.locked_if_free() as held:
        if held:  # else a running push does it at its end
            deployment.unload_unlabelled()
