"""The sub-commands that release versions: push, promote, roll back."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servable_client.cli.commands import (
    _MODEL,
    _SERVER,
    Authority,
    Json,
    Key,
    Model,
    Server,
    asked_wrongly,
)
from servable_serving.cli.sync import is_url, move_at_url, push_to_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable_serving.gates.holdout import Holdout
    from servable_serving.release.deployment import Labels
    from servable_serving.release.fleet import Live

Folder = Annotated[
    str | None,
    typer.Option(
        help="The model's folder in the repository; models/MODEL unless given. Or the URL of a "
        "whole repository elsewhere: s3://bucket/models, say."
    ),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Ask no server: write what the next one will find.")
]
Patience = Annotated[
    float, typer.Option(help="Seconds that a server may take for each thing.", min=0.1)
]
_PATIENCE = 120.0
HoldoutFile = Annotated[
    Path | None,
    typer.Option("--holdout", help="Held-out pictures: an .npz with images and targets."),
]
Data = Annotated[
    Path | None,
    typer.Option(envvar="SERVABLE_DATA", help="The dataset's folder, for its held-out pictures."),
]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(push)
    app.command()(promote)
    app.command()(rollback)


def push(
    candidate: Annotated[Path, typer.Argument(help="A folder that `servable export` wrote.")],
    repository: Folder = None,
    server: Server = _SERVER,
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
    ca: Authority = None,
    timeout: Patience = _PATIENCE,
    json: Json = False,
) -> None:
    """Bring a candidate in: gates, publish, wait, smoke test, label.

    The servers at --server must read the repository. Whatever fails, they go on with what they
    served, and the exit status is 1.
    """
    from servable_client.cli.console import print_json
    from servable_serving.core.lazy_tensorflow import import_tensorflow
    from servable_serving.gates.holdout import find_holdout
    from servable_serving.gates.tolerances import Tolerances
    from servable_serving.release.push import Plan
    from servable_serving.release.push import push as push_candidate
    from servable_serving.release.steps import Steps

    skipped = _skips(skip or [], why or [])
    if dry_run and (no_wait or promote):
        raise typer.BadParameter("--dry-run publishes nothing: leave --no-wait and --promote out")
    name = _name_of(candidate)
    _prepare()

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
    live = None if no_wait or dry_run else _live(server, name, api_key, ca)
    import_tensorflow()  # seconds, which nobody waits who asks wrongly
    labels = _labels(Path(repository or Path("models") / name), name, live, timeout)
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
    model: Model = _MODEL,
    repository: Folder = None,
    server: Server = _SERVER,
    no_wait: NoWait = False,
    api_key: Key = None,
    ca: Authority = None,
    timeout: Patience = _PATIENCE,
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
    model: Model = _MODEL,
    repository: Folder = None,
    server: Server = _SERVER,
    no_wait: NoWait = False,
    api_key: Key = None,
    ca: Authority = None,
    timeout: Patience = _PATIENCE,
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


@contextmanager
def release(
    model: str,
    repository: str | None,
    server: str,
    no_wait: bool,
    api_key: str | None,
    ca: str | None,
    timeout: float = _PATIENCE,
) -> Iterator[Labels]:
    """The labels of a model, as the flags name it; the servers are hung up at the end."""
    from servable_serving.repository.manifest import check_name

    if is_url(repository):
        raise typer.BadParameter(
            "this looks at folders: bring what is behind a URL into one with `servable sync`",
            param_hint="--repository",
        )
    if repository is not None and model == _MODEL:
        model = Path(repository).resolve().name
    check_name(model)
    _prepare()
    with nullcontext() if no_wait else _live(server, model, api_key, ca) as live:
        yield _labels(Path(repository or Path("models") / model), model, live, timeout)


def _labels(path: Path, model: str, live: Live | None, timeout: float) -> Labels:
    from servable_serving.release.deployment import Labels
    from servable_serving.repository.local import Repository

    return Labels(model=model, repository=Repository(path), live=live, timeout=timeout)


def _live(server: str, model: str, api_key: str | None, ca: str | None) -> Live:
    """The servers; an address that is none was asked wrongly, which is exit status 2."""
    from servable_client import InvalidInput
    from servable_serving.release.fleet import Live

    try:
        return Live(server, model=model, api_key=api_key, ca=ca)
    except InvalidInput as error:
        raise asked_wrongly(error) from None


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
        raise asked_wrongly(error) from None
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


def _prepare() -> None:
    """Be told of an end as of an exception, so that nothing is left half done."""
    import signal
    import sys

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("servable: terminated"))
