"""The commands of a release as functions, for notebooks and programs.

Each does what the command of its name does, and raises what that prints. Nothing is asked of the
process: no signal handlers, no exit.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable_client import TLS
from servable_serving.core.addresses import is_url
from servable_serving.core.errors import FolderError
from servable_serving.gates.holdout import Holdout, find_holdout
from servable_serving.gates.metric import Rows, check_metric, read_rows
from servable_serving.release import inventory
from servable_serving.release.deployment import Deployment
from servable_serving.release.events import Happened, happened
from servable_serving.release.folder_target import FolderTarget
from servable_serving.release.push import Plan
from servable_serving.release.push import push as push_candidate
from servable_serving.release.server_group import ServerGroup
from servable_serving.release.steps import Steps
from servable_serving.repository.candidate import Candidate
from servable_serving.repository.local import Repository
from servable_serving.repository.manifest import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from servable_serving.gates.verdict import Tolerances
    from servable_serving.release.inventory import Entry
    from servable_serving.release.push import Target
    from servable_serving.release.steps import Step

DEFAULT_SERVER = "grpc://localhost:8500"
STEP_TIMEOUT = 120.0


@dataclass(frozen=True, kw_only=True)
class Release:
    """The result of a push, a promotion or a rollback.

    Attributes:
        repository: The path of the model's folder, or the URL of the repository.
        version: The version; None of a dry run.
        labels: The version of each label, afterwards.
        steps: What was done, gates included.
    """

    repository: str
    version: int | None
    labels: dict[str, int]
    steps: list[Step] = field(repr=False)

    def __str__(self) -> str:
        if self.version is None:
            return "it passes; nothing was published"
        carried = [label for label, version in self.labels.items() if version == self.version]
        said = f", {' and '.join(carried)}" if carried else ", without a label"
        return f"version {self.version} in {self.repository}{said}"

    def _repr_html_(self) -> str:
        rows = [
            (step.name, f"{step.seconds:.2f} s", step.outcome, step.said) for step in self.steps
        ]
        return _table(str(self), ("step", "time", "outcome", ""), rows)


class Versions(list["Entry"]):
    """The versions of a model, highest first; a table in a notebook."""

    def _repr_html_(self) -> str:
        rows = [
            (
                str(entry.version),
                entry.state if entry.reason is None else f"{entry.state}: {entry.reason}",
                ", ".join(entry.labels),
                "" if entry.accuracy is None else f"{entry.accuracy:.4f}",
                f"{entry.size / 1e6:.2f} MB",
            )
            for entry in self
        ]
        return _table("", ("version", "state", "labels", "accuracy", "size"), rows)


def push(
    candidate: str | Path,
    *,
    repository: str | Path | None = None,
    server: str | None = DEFAULT_SERVER,
    promote: bool = False,
    dry_run: bool = False,
    skip: Mapping[str, str] | None = None,
    holdout: str | Path | Holdout | Rows | None = None,
    metric: str = "accuracy",
    tolerances: Tolerances | None = None,
    version: int | None = None,
    api_key: str | None = None,
    ca: str | None = None,
    timeout: float = STEP_TIMEOUT,
    progress: bool = True,
) -> Release:
    """Publish a candidate: gates, publish, wait, smoke test, label; as `servable push`.

    Args:
        candidate: The folder that `export` wrote; it is not modified.
        repository: The folder of the model's versions, or the URL of a model repository. Default:
            models/NAME.
        server: The servers that read the repository, to wait for; None to publish only.
        promote: Move `stable` to it, in place of `canary`.
        dry_run: Run the gates only.
        skip: Gates to skip, each with the reason.
        holdout: Held-out images for the gate `accuracy`, or rows of a model that is not an image
            classifier, or their .npz file; of an image classifier also a folder of images,
            FOLDER/CLASS/*, each class named as its label.
        metric: What is measured of rows: accuracy, macro_f1, auc, mae or rmse; of an output if
            ":" and its name follow.
        tolerances: How much worse than the served version it may be.
        version: The version's number; the next unless given.
        api_key: Sent to the servers.
        ca: The CA bundle (PEM) for their certificates.
        timeout: Seconds for each step.
        progress: Whether to print each step on standard error.

    Raises:
        CandidateError: It is incomplete, or not as it was exported.
        GateError: It fails a gate.
        FolderError: The repository cannot be written.
        StoreError: The repository behind a URL cannot be reached or written.
        ReleaseError: It failed to load, failed its smoke test, or could not be labelled.
        InvalidInput: An argument is invalid.
    """
    files = Candidate(Path(candidate))
    name = files.name
    skipped = dict(skip or {})

    check_metric(metric)

    def held_out() -> Holdout | Rows | None:
        if isinstance(holdout, Holdout | Rows):
            return holdout
        if not files.is_classifier:
            return None if holdout is None else read_rows(Path(holdout))
        if holdout is None and "accuracy" in skipped:
            return None
        file = None if holdout is None else Path(holdout)
        return find_holdout(name, file=file, manifest=files.manifest)

    plan = Plan(
        promote=promote,
        dry_run=dry_run,
        skip=skipped,
        holdout=held_out,
        metric=metric,
        tolerances=tolerances,
        version=version,
    )
    steps = _steps(progress)
    asked = None if dry_run else server
    with _target(name, repository, asked, api_key, ca, timeout, new=True) as target:
        pushed = push_candidate(files, target, steps, plan)
        labels = {} if pushed is None else target.labels()
        return Release(repository=target.location, version=pushed, labels=labels, steps=steps.taken)


def promote(
    version: int,
    *,
    model: str,
    repository: str | Path | None = None,
    server: str | None = DEFAULT_SERVER,
    api_key: str | None = None,
    ca: str | None = None,
    timeout: float = STEP_TIMEOUT,
    progress: bool = True,
    why: str | None = None,
) -> Release:
    """Move stable to a version, once it is loaded and passes the smoke test.

    Args:
        version: The version.
        model: The model's name.
        repository: As for `push`.
        server: As for `push`.
        api_key: As for `push`.
        ca: As for `push`.
        timeout: Seconds for each step.
        progress: Whether to print each step on standard error.
        why: The reason, recorded in the history.

    Raises:
        FolderError: The repository or the version does not exist.
        ReleaseError: It failed to load or to answer.
        ServableError: The repository cannot be read, or no server answers.
    """
    steps = _steps(progress)
    with _target(model, repository, server, api_key, ca, timeout) as target:
        target.promote(version, steps, why=why)
        return _release(target, version, steps)


def rollback(
    *,
    model: str,
    to: int | None = None,
    repository: str | Path | None = None,
    server: str | None = DEFAULT_SERVER,
    api_key: str | None = None,
    ca: str | None = None,
    timeout: float = STEP_TIMEOUT,
    progress: bool = True,
    why: str | None = None,
) -> Release:
    """Move stable back to the version that was promoted before, or to another.

    Args:
        model: The model's name.
        to: The version; the previous one unless given.
        repository: As for `push`.
        server: As for `push`.
        api_key: As for `push`.
        ca: As for `push`.
        timeout: Seconds for each step.
        progress: Whether to print each step on standard error.
        why: The reason, recorded in the history.

    Raises:
        FolderError: The repository or the version does not exist.
        ReleaseError: No version was promoted before, or it failed to load or to answer.
        ServableError: The repository cannot be read, or no server answers.
    """
    steps = _steps(progress)
    with _target(model, repository, server, api_key, ca, timeout) as target:
        return _release(target, target.roll_back(steps, to=to, why=why), steps)


def versions(
    model: str,
    *,
    repository: str | Path | None = None,
    server: str | None = None,
    api_key: str | None = None,
    ca: str | None = None,
) -> Versions:
    """The versions of a model, highest first.

    Args:
        model: The model's name.
        repository: The folder of its versions, or the URL of a model repository; models/NAME unless
            given.
        server: The servers to ask for states, if it is a folder; None for what models.config lists.
        api_key: Sent to the servers.
        ca: The CA bundle (PEM) for their certificates.

    Raises:
        FolderError: The folder does not exist.
        StoreError: The repository behind a URL cannot be reached.
        ServableError: It cannot be read, or no server answers.
    """
    if is_url(repository):
        from servable_serving.release.remote_inventory import RemoteInventory
        from servable_serving.repository.remote import Remote

        return Versions(RemoteInventory(Remote(repository), model).versions())
    with _deployment(model, repository, server, api_key, ca, STEP_TIMEOUT) as deployment:
        return Versions(inventory.versions(deployment))


def history(
    model: str, *, repository: str | Path | None = None, version: int | None = None
) -> list[Happened]:
    """The events of a model's versions, oldest first: who did what, when and why.

    Args:
        model: The model's name.
        repository: As for `versions`.
        version: Only the events that concern this version.

    Raises:
        FolderError: The folder does not exist, or its history cannot be read.
        StoreError: The repository behind a URL cannot be reached.
    """
    if is_url(repository):
        from servable_serving.repository.remote import Remote

        return happened(Remote(repository).history(model), version=version)
    with _deployment(model, repository, None, None, None, STEP_TIMEOUT) as deployment:
        return happened(deployment.repository.history(), version=version)


@contextmanager
def _target(
    model: str,
    repository: str | Path | None,
    server: str | None,
    api_key: str | None,
    ca: str | None,
    timeout: float,
    *,
    new: bool = False,
) -> Iterator[Target]:
    if is_url(repository):
        from servable_serving.release.remote_target import RemoteTarget
        from servable_serving.repository.remote import Remote

        yield RemoteTarget(Remote(repository), model)
        return
    with _deployment(model, repository, server, api_key, ca, timeout, new=new) as deployment:
        yield FolderTarget(deployment)


@contextmanager
def _deployment(
    model: str,
    repository: str | Path | None,
    server: str | None,
    api_key: str | None,
    ca: str | None,
    timeout: float,
    *,
    new: bool = False,
) -> Iterator[Deployment]:
    check_name(model)
    path = Path(repository or Path("models") / model)
    if not (new or path.is_dir()):
        raise FolderError(f"{path} does not exist", hint="`push` creates it")
    group = (
        nullcontext()
        if server is None
        else ServerGroup(
            server, model=model, api_key=api_key, tls=None if ca is None else TLS(ca=ca)
        )
    )
    with group as servers:
        yield Deployment(model=model, repository=Repository(path), servers=servers, timeout=timeout)


def _release(target: Target, version: int | None, steps: Steps) -> Release:
    labels = {} if version is None else target.labels()
    return Release(repository=target.location, version=version, labels=labels, steps=steps.taken)


def _steps(progress: bool) -> Steps:
    return Steps(sys.stderr if progress else None)


def _table(caption: str, titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th style='text-align:left'>{escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>"
        + "".join(f"<td style='text-align:left'>{escape(str(cell))}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"
