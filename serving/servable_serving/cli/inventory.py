"""The sub-commands that look at a repository: versions, verify, prune, diff."""

from __future__ import annotations

from dataclasses import asdict
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
)
from servable_serving.cli.options import Data, Folder, HoldoutFile, release

if TYPE_CHECKING:
    from servable_serving.release.deployment import Labels

Offline = Annotated[bool, typer.Option("--offline", help="Ask no server; go by models.config.")]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(versions)
    app.command()(verify)
    app.command()(prune)
    app.command()(diff)


def versions(
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    offline: Offline = False,
    api_key: Key = None,
    ca: CaBundle = None,
    json: Json = False,
) -> None:
    """Show a model's versions: state, labels, accuracy, size, age, and who pushed them.

    Where no server answers, the state is what models.config lists.
    """
    from servable_client.cli.console import print_json, print_table, say
    from servable_serving.release.inventory import versions as entries_of

    with release(model, repository, server, offline, api_key, ca) as labels:
        entries = entries_of(_answering(labels))
        where = labels.repository.path
    if json:
        print_json([asdict(entry) for entry in entries])
        return
    if not entries:
        say(f"there are no versions in {where}")
        return
    print_table(
        ("version", "state", "labels", "accuracy", "size", "created", "git", "pushed by"),
        [
            (
                e.version,
                e.state if e.reason is None else f"{e.state}: {e.reason}",
                ", ".join(e.labels),
                "" if e.accuracy is None else f"{e.accuracy:.4f}",
                f"{e.size / 1e6:.2f} MB",
                (e.created or "")[:16].replace("T", " "),
                (e.git or "")[:7],
                e.by or "",
            )
            for e in entries
        ],
        title=str(where),
    )


def verify(
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    json: Json = False,
) -> None:
    """Hold every file of a model's versions against its checksum; exit status 1 where one fails."""
    from servable_client import ServableError
    from servable_client.cli.console import print_json
    from servable_serving.release.inventory import verify as check_all

    with release(model, repository, DEFAULT_SERVER, True, None, None) as labels:
        found = check_all(labels)
    trouble = [checked for checked in found if checked.trouble]
    if json:
        print_json([asdict(checked) for checked in found])
    else:
        for checked in found:
            typer.echo(f"{checked.what}: {checked.trouble or 'whole'}")
    if trouble:
        raise ServableError(
            f"{len(trouble)} of {len(found)} are not as they should be",
            hint="push that version's candidate again, and `servable promote` the new one",
        )


def prune(
    keep: Annotated[int, typer.Option(help="How many of the highest to keep in any case.", min=1)],
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    offline: Offline = False,
    api_key: Key = None,
    ca: CaBundle = None,
    json: Json = False,
) -> None:
    """Take old versions away for good, never one with a label or one that is served.

    The numbers of what is gone do not come back.
    """
    from servable_client.cli.console import print_json
    from servable_serving.release.inventory import prune as take_away

    with release(model, repository, server, offline, api_key, ca) as labels:
        if labels.live is not None:
            labels.live.check()
        gone = take_away(labels, keep=keep)
        left = labels.repository.versions()
    if json:
        print_json({"pruned": gone, "left": left})
    else:
        typer.echo(
            f"took away {', '.join(map(str, gone)) or 'nothing'}; "
            f"{', '.join(map(str, left)) or 'nothing'} is left"
        )


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A version, or a candidate's folder.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    holdout: HoldoutFile = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show what is different between two versions: figures, settings, and answers."""
    from servable_client.cli.console import print_json, print_table, say
    from servable_serving.core.lazy_tensorflow import import_tensorflow
    from servable_serving.gates.holdout import find_holdout
    from servable_serving.release.diff import compare_answers, differences

    with release(model, repository, DEFAULT_SERVER, True, None, None) as labels:
        first, second = _folder(labels, one), _folder(labels, other)
        model = labels.model
    found = differences(first, second)
    pictures = find_holdout(model, file=holdout, data=data)
    answers = None
    if pictures is not None:
        import_tensorflow()
        answers = compare_answers(first, second, pictures)
    if json:
        print_json(
            {
                "figures": {name: list(pair) for name, pair in found.items()},
                "answers": None if answers is None else asdict(answers),
            }
        )
        return
    if found:
        print_table(
            ("figure", one, other), [(k, _cell(a), _cell(b)) for k, (a, b) in found.items()]
        )
    else:
        say("their manifests tell the same figures")
    if answers is None:
        say(f"no held-out pictures are known for {model}; --holdout names some")
        return
    typer.echo(
        f"{answers.changed} of {answers.pictures} held-out pictures "
        f"({answers.changed / answers.pictures:.2%}) are named otherwise: "
        f"{answers.mended} were wrong and are right, {answers.broken} were right and are wrong"
    )


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _answering(labels: Labels) -> Labels:
    """The labels without their servers, and a word on that, where none answers."""
    from dataclasses import replace

    from servable_client.cli.console import say
    from servable_serving.release.fleet import NoAnswer

    if labels.live is None:
        return labels
    try:
        labels.live.check()
    except NoAnswer:
        say(f"no server answers at {labels.live.server}: the states are those of models.config")
        return replace(labels, live=None)
    return labels


def _folder(labels: Labels, what: str) -> Path:
    """A version's folder, or a candidate's."""
    from servable_client import ServableError
    from servable_serving.repository.manifest import check_candidate

    folder = labels.repository.folders().get(int(what)) if what.isdigit() else Path(what)
    if folder is None or not folder.is_dir():
        raise ServableError(
            f"there is no version {what} in {labels.repository.path}"
            if what.isdigit()
            else f"there is no folder {what}",
            hint="`servable versions` shows them",
        )
    check_candidate(folder)
    return folder
