"""The sub-commands that release versions: push, promote, rollback."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servable_client.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_SERVER,
    Access,
    CaBundle,
    Certificate,
    Json,
    Key,
    Model,
    PrivateKey,
    Server,
    Token,
    usage_error,
)
from servable_serving.cli.options import (
    STEP_TIMEOUT,
    Data,
    Folder,
    HoldoutFile,
    NoWait,
    StepTimeout,
    deployment_of,
    release_target,
    remote_target,
    servers_at,
)
from servable_serving.core.addresses import is_url
from servable_serving.core.signals import exit_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable_serving.gates.holdout import Holdout
    from servable_serving.gates.metric import Rows
    from servable_serving.release.push import Target
    from servable_serving.release.steps import Steps


Why = Annotated[str | None, typer.Option(help="Reason, recorded in the history.")]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(push)
    app.command()(promote)
    app.command()(rollback)


def push(
    candidate: Annotated[Path, typer.Argument(help="Folder that `servable export` wrote.")],
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    promote: Annotated[
        bool, typer.Option("--promote", help="Move stable to it, in place of canary.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run the gates only; publish nothing.")
    ] = False,
    no_wait: NoWait = False,
    skip: Annotated[list[str] | None, typer.Option(help="Gate to skip; repeatable.")] = None,
    why: Annotated[
        list[str] | None,
        typer.Option(
            help="Reason for --skip, recorded in the history; one for all gates, or one for each."
        ),
    ] = None,
    holdout: HoldoutFile = None,
    data: Data = None,
    metric: Annotated[
        str,
        typer.Option(
            metavar="NAME[:OUTPUT]",
            help="Metric of a model that is not an image classifier, on --holdout: accuracy, "
            "macro_f1, auc, mae or rmse.",
        ),
    ] = "accuracy",
    accuracy_loss: Annotated[
        float,
        typer.Option(
            help="Maximum accuracy drop against the served version, 0 to 1; for mae and rmse the "
            "maximum relative increase.",
            min=0,
        ),
    ] = 0.005,
    latency_ratio: Annotated[
        float, typer.Option(help="Maximum latency relative to the served version.", min=0)
    ] = 1.5,
    size_ratio: Annotated[
        float, typer.Option(help="Maximum size relative to the served version.", min=0)
    ] = 2.0,
    trial_memory: Annotated[
        float,
        typer.Option(
            metavar="MIB",
            help="Maximum memory in MiB that a request of the gate 'trial' may take.",
            min=1,
        ),
    ] = 2048.0,
    trial_server: Annotated[
        Path | None,
        typer.Option(
            help="tensorflow_model_server to run the gate 'trial' with (default: `servable serve`)."
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Version number (default: the next).", min=1)
    ] = None,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    timeout: StepTimeout = STEP_TIMEOUT,
    json: Json = False,
) -> None:
    """Publish a candidate: gates, publish, wait, smoke test, label.

    The servers at --server must read the repository. If a step fails, they continue to serve what
    they served, and the exit status is 1.
    """
    from servable_client.cli.console import print_json
    from servable_serving.core.lazy_tensorflow import import_tensorflow_runtime
    from servable_serving.gates.holdout import HoldoutError, find_holdout
    from servable_serving.gates.metric import check_metric, read_rows
    from servable_serving.gates.verdict import Tolerances
    from servable_serving.release.push import Plan
    from servable_serving.release.push import push as push_candidate
    from servable_serving.release.steps import Steps
    from servable_serving.repository.candidate import Candidate

    skipped = _skips(skip or [], why or [])
    try:
        check_metric(metric)
    except HoldoutError as error:
        raise usage_error(error, param_hint="--metric") from None
    if dry_run and (no_wait or promote):
        raise typer.BadParameter("--dry-run publishes nothing and excludes --no-wait and --promote")
    if is_url(repository) and version is not None:
        raise typer.BadParameter(
            "a repository behind a URL gives the number", param_hint="--version"
        )
    files = Candidate(candidate)
    name = files.name
    exit_on_signals()

    def held_out() -> Holdout | Rows | None:
        if not files.is_classifier:
            return None if holdout is None else read_rows(holdout)
        # Only if needed: it may be a download.
        needed = holdout is not None or "accuracy" not in skipped
        if not needed:
            return None
        return find_holdout(name, file=holdout, data=data, manifest=files.manifest)

    plan = Plan(
        promote=promote,
        dry_run=dry_run,
        skip=skipped,
        holdout=held_out,
        metric=metric,
        tolerances=Tolerances(
            accuracy=accuracy_loss, latency=latency_ratio, size=size_ratio, memory=trial_memory
        ),
        trial_server=trial_server,
        version=version,
        prepare=import_tensorflow_runtime,
    )
    ask_servers = not (no_wait or dry_run)
    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with _push_target(name, repository, server if ask_servers else None, access, timeout) as to:
        steps = Steps()
        pushed = push_candidate(files, to, steps, plan)
        labels = {} if pushed is None else to.labels()
    if json:
        print_json(
            {
                "repository": to.location,
                "version": pushed,
                "labels": labels,
                "steps": steps.as_json(),
            }
        )
    elif pushed is None:
        typer.echo(f"{candidate} passes; nothing was published")
    else:
        carried = [label for label, v in labels.items() if v == pushed]
        said = f", {' and '.join(carried)}" if carried else ", without a label"
        typer.echo(f"{candidate} is {to.describe(pushed)}{said}")


def promote(
    version: Annotated[int, typer.Argument(help="Version to move stable to.")],
    why: Why = None,
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    no_wait: NoWait = False,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    timeout: StepTimeout = STEP_TIMEOUT,
    json: Json = False,
) -> None:
    """Move stable to a version, once it is loaded and passes the smoke test."""
    from servable_serving.release.steps import Steps

    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with release_target(model, repository, server, no_wait, access, timeout) as target:
        steps = Steps()
        target.promote(version, steps, why=why)
        _report(target, version, steps, json=json)


def rollback(
    to: Annotated[
        int | None, typer.Option(help="Version to move stable to (default: the previous one).")
    ] = None,
    why: Why = None,
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    no_wait: NoWait = False,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    timeout: StepTimeout = STEP_TIMEOUT,
    json: Json = False,
) -> None:
    """Move stable back to the version promoted before, which is still loaded."""
    from servable_serving.release.steps import Steps

    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with release_target(model, repository, server, no_wait, access, timeout) as target:
        steps = Steps()
        version = target.roll_back(steps, to=to, why=why)
        _report(target, version, steps, json=json)


@contextmanager
def _push_target(
    model: str,
    repository: str | None,
    server: str | None,
    access: Access,
    timeout: float,
) -> Iterator[Target]:
    """Where a push goes: a folder that need not exist yet, or a repository behind a URL."""
    from contextlib import nullcontext

    from servable_serving.release.folder_target import FolderTarget

    if is_url(repository):
        yield remote_target(repository, model)
        return
    path = Path(repository or Path("models") / model)
    with nullcontext() if server is None else servers_at(server, model, access) as servers:
        yield FolderTarget(deployment_of(path, model, servers, timeout))


def _report(target: Target, version: int, steps: Steps, *, json: bool) -> None:
    from servable_client.cli.console import print_json

    if json:
        # Steps in a repository behind a URL are too short to report.
        taken = {"steps": steps.as_json()} if steps.taken else {}
        print_json(
            {
                "repository": target.location,
                "version": version,
                "labels": target.labels(),
                **taken,
            }
        )
    else:
        typer.echo(f"stable is {target.describe(version)}")


def _skips(gates: list[str], reasons: list[str]) -> dict[str, str]:
    """The reason for each gate that is skipped."""
    from servable_client import InvalidInput
    from servable_serving.gates.run import check_skips

    if bool(gates) != bool(reasons) or not all(reason.strip() for reason in reasons):
        raise typer.BadParameter("--skip needs a reason: give both --skip and --why")
    if len(reasons) not in {1, len(gates)} and gates:
        raise typer.BadParameter("give --why once, or once for each --skip")
    if len(reasons) == 1:
        reasons = reasons * len(gates)
    skipped = dict(zip(gates, reasons, strict=True))
    try:
        check_skips(skipped)
    except InvalidInput as error:
        raise usage_error(error) from None
    return skipped
