"""The sub-commands that release versions: push, promote, roll back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servable_client.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_SERVER,
    CaBundle,
    Json,
    Key,
    Model,
    Server,
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
    exit_on_signals,
    is_url,
    release,
    servers_at,
)

if TYPE_CHECKING:
    from servable_serving.release.push import Plan
    from servable_serving.repository.remote import Remote

if TYPE_CHECKING:
    from servable_serving.gates.holdout import Holdout
    from servable_serving.release.deployment import Labels


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(push)
    app.command()(promote)
    app.command()(rollback)


def push(
    candidate: Annotated[Path, typer.Argument(help="A folder that `servable export` wrote.")],
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    promote: Annotated[
        bool, typer.Option("--promote", help="Move stable to it, in place of canary.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only ask the gates; nothing is published.")
    ] = False,
    no_wait: NoWait = False,
    skip: Annotated[
        list[str] | None, typer.Option(help="A gate to leave out; may be given again.")
    ] = None,
    why: Annotated[
        list[str] | None,
        typer.Option(help="Why, which the history keeps: once, or once for each --skip."),
    ] = None,
    holdout: HoldoutFile = None,
    data: Data = None,
    accuracy_loss: Annotated[
        float, typer.Option(help="How far its accuracy may lie below the served one's.", min=0)
    ] = 0.005,
    latency_ratio: Annotated[
        float, typer.Option(help="How many times as long it may take.", min=0)
    ] = 1.5,
    size_ratio: Annotated[
        float, typer.Option(help="How many times as large it may be.", min=0)
    ] = 2.0,
    trial_server: Annotated[
        Path | None,
        typer.Option(help="A tensorflow_model_server for the trial, in place of `servable serve`."),
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="The version's number; the next unless given.", min=1)
    ] = None,
    api_key: Key = None,
    ca: CaBundle = None,
    timeout: StepTimeout = STEP_TIMEOUT,
    json: Json = False,
) -> None:
    """Bring a candidate in: gates, publish, wait, smoke test, label.

    The servers at --server must read the repository. Whatever fails, they go on with what they
    served, and the exit status is 1.
    """
    from servable_client.cli.console import print_json
    from servable_serving.core.lazy_tensorflow import import_tensorflow
    from servable_serving.gates.holdout import find_holdout
    from servable_serving.gates.verdict import Tolerances
    from servable_serving.release.push import Plan
    from servable_serving.release.push import push as push_candidate
    from servable_serving.release.steps import Steps

    skipped = _skips(skip or [], why or [])
    if dry_run and (no_wait or promote):
        raise typer.BadParameter("--dry-run publishes nothing: leave --no-wait and --promote out")
    name = _name_of(candidate)
    exit_on_signals()

    def held_out() -> Holdout | None:
        # Not where it is not needed: it may be a download away.
        needed = holdout is not None or "accuracy" not in skipped
        return find_holdout(name, file=holdout, data=data) if needed else None

    plan = Plan(
        promote=promote,
        dry_run=dry_run,
        skip=skipped,
        holdout=held_out,
        tolerances=Tolerances(accuracy=accuracy_loss, latency=latency_ratio, size=size_ratio),
        trial_server=trial_server,
        version=version,
    )
    if is_url(repository):
        import_tensorflow()
        push_to_url(candidate, repository, name, plan, json=json)
        return
    live = None if no_wait or dry_run else servers_at(server, name, api_key, ca)
    import_tensorflow()  # seconds, which nobody waits who asks wrongly
    labels = deployment_of(Path(repository or Path("models") / name), name, live, timeout)
    steps = Steps()
    try:
        pushed = push_candidate(candidate, labels, steps, plan)
    finally:
        if live is not None:
            live.close()
    path = labels.repository.path
    if json:
        print_json(
            {
                "repository": str(path),
                "version": pushed,
                "labels": {} if pushed is None else labels.now(),
                "steps": steps.as_json(),
            }
        )
    elif pushed is None:
        typer.echo(f"{candidate} passes; nothing was published")
    else:
        carried = [label for label, v in labels.now().items() if v == pushed]
        said = f", {' and '.join(carried)}" if carried else ", without a label"
        typer.echo(f"{candidate} is version {pushed} in {path}{said}")


def promote(
    version: Annotated[int, typer.Argument(help="The version that stable is to stand for.")],
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    no_wait: NoWait = False,
    api_key: Key = None,
    ca: CaBundle = None,
    timeout: StepTimeout = STEP_TIMEOUT,
    json: Json = False,
) -> None:
    """Move stable to a version, once it is loaded and answers as it should."""
    from servable_serving.release.promote import promote as promote_version
    from servable_serving.release.steps import Steps

    if is_url(repository):
        move_at_url(repository, model, version, json=json)
        return
    with release(model, repository, server, no_wait, api_key, ca, timeout) as labels:
        steps = Steps()
        promote_version(version, labels, steps)
        _tell(labels, version, steps, json=json)


def rollback(
    to: Annotated[
        int | None, typer.Option(help="The version; what was stable before unless given.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    no_wait: NoWait = False,
    api_key: Key = None,
    ca: CaBundle = None,
    timeout: StepTimeout = STEP_TIMEOUT,
    json: Json = False,
) -> None:
    """Move stable back to what it was; that version is still loaded, so it is at once."""
    from servable_serving.release.promote import roll_back
    from servable_serving.release.steps import Steps

    if is_url(repository):
        if to is None:
            raise typer.BadParameter(
                "a repository behind a URL has no history: say to which version", param_hint="--to"
            )
        move_at_url(repository, model, to, json=json)
        return
    with release(model, repository, server, no_wait, api_key, ca, timeout) as labels:
        steps = Steps()
        version = roll_back(labels, steps, to=to)
        _tell(labels, version, steps, json=json)


def _tell(labels: Labels, version: int, steps: Any, *, json: bool) -> None:
    from servable_client.cli.console import print_json

    if json:
        print_json(
            {
                "repository": str(labels.repository.path),
                "version": version,
                "labels": labels.now(),
                "steps": steps.as_json(),
            }
        )
    else:
        typer.echo(f"stable is version {version} of {labels.model}")


def _skips(gates: list[str], reasons: list[str]) -> dict[str, str]:
    """Why each gate is left out."""
    from servable_client import InvalidInput
    from servable_serving.gates.run import check_skips

    if bool(gates) != bool(reasons) or not all(reason.strip() for reason in reasons):
        raise typer.BadParameter("a gate is left out for a reason: give both --skip and --why")
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


def _name_of(candidate: Path) -> str:
    """The model's name, by a candidate's manifest.

    Raises:
        CandidateError: There is none that can be told; else the gates say what is wrong with it.
    """
    from servable_serving.repository.manifest import (
        CandidateError,
        check_candidate,
        check_name,
        manifest_of,
    )

    name = manifest_of(candidate).get("name")
    try:
        check_name(name)
    except CandidateError:
        name = check_candidate(candidate)["name"]
    return str(name)


def push_to_url(candidate: Path, url: str, name: str, plan: Plan, *, json: bool) -> None:
    """Bring a candidate into a repository behind a URL: gates, upload, label.

    It is compared with what `stable` stands for there.

    Raises:
        GateError: It does not pass a gate.
        CandidateError: It is not whole, or not as it was exported.
        StoreError: The repository cannot be reached or written.
        ModelsConfigError: Its models.config is none.
    """
    import tempfile

    from servable_client.cli.console import print_json
    from servable_serving.core.names import CANARY, STABLE
    from servable_serving.release.push import ask_gates
    from servable_serving.release.steps import Steps

    if plan.version is not None:
        raise typer.BadParameter(
            "is for folders; behind a URL it is the next", param_hint="--version"
        )
    remote, steps = _remote(url), Steps()

    stable = remote.labels(name).get(STABLE)
    with tempfile.TemporaryDirectory() as folder:
        if stable is not None:
            with steps.step("fetch") as step:
                remote.fetch(name, stable, Path(folder))
                step.said = f"version {stable}, which is stable, to compare with"
        about = ask_gates(candidate, None if stable is None else Path(folder), steps, plan)
    if plan.dry_run:
        if json:
            print_json({"repository": remote.url, "version": None, "steps": steps.as_json()})
        else:
            typer.echo(f"{candidate} passes; nothing was published")
        return
    with steps.step("upload") as step:
        version = remote.push(candidate, about=about)
        step.said = f"version {version} is whole at {remote.url}"
    with steps.step("label") as step:
        # Moved by one change of models.config, which servers apply when the version is loaded.
        label = STABLE if plan.promote or stable is None else CANARY
        labels = remote.label(name, version, label)
        step.said = f"{label} is version {version}"
    if json:
        print_json(
            {
                "repository": remote.url,
                "version": version,
                "labels": labels,
                "steps": steps.as_json(),
            }
        )
    else:
        typer.echo(f"{candidate} is version {version} of {name} at {remote.url}, {label}")


def move_at_url(url: str, model: str, version: int, *, json: bool) -> None:
    """Have `stable` stand for a version in a repository behind a URL.

    Raises:
        StoreError: The version is not whole there, or models.config cannot be written.
        ModelsConfigError: models.config is none.
    """
    from servable_client.cli.console import print_json
    from servable_serving.core.names import STABLE

    remote = _remote(url)
    labels = remote.label(model, version, STABLE)
    if json:
        print_json({"repository": remote.url, "version": version, "labels": labels})
    else:
        typer.echo(f"{STABLE} is version {version} of {model} at {remote.url}")


def _remote(url: str) -> Remote:
    """A repository behind a URL; one that is none was asked wrongly, which is exit status 2."""
    from servable_client import InvalidInput
    from servable_serving.repository.remote import Remote

    try:
        return Remote(url)
    except InvalidInput as error:
        raise usage_error(error, param_hint="--repository") from None
