"""The sub-commands that manage a repository: versions, history, verify, prune, diff."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
)
from servable_serving.cli.options import Data, Folder, HoldoutFile, release, remote_at
from servable_serving.core.addresses import is_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable_serving.release.deployment import Deployment
    from servable_serving.release.inventory import Inventory
    from servable_serving.release.replay import Replayed

Offline = Annotated[
    bool, typer.Option("--offline", help="Contact no server; use models.config only.")
]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(versions)
    app.command()(history)
    app.command()(verify)
    app.command()(prune)
    app.command()(diff)


def versions(
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    offline: Offline = False,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    json: Json = False,
) -> None:
    """Show a model's versions: state, labels, accuracy, size, age, and who pushed them.

    If no server answers, and of a repository behind a URL, the state is what models.config lists.
    """
    from servable_client.cli.console import print_json, print_table, say

    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with _inventory_at(model, repository, server, offline, access, reading=True) as inventory:
        entries, where = inventory.versions(), inventory.location
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
        title=where,
    )


def history(
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    version: Annotated[
        int | None, typer.Option(help="Version whose events to show (default: all).")
    ] = None,
    last: Annotated[int, typer.Option(help="Number of the latest events to show.", min=1)] = 20,
    json: Json = False,
) -> None:
    """Show who published, labelled, rejected and deleted which version, when and why.

    Published versions have the figures of their gates. With --json, one object for each event,
    oldest first, with the findings of all gates.
    """
    from servable_client.cli.console import print_json, print_table, say
    from servable_serving.release.events import happened

    with _inventory_at(model, repository, DEFAULT_SERVER, True, Access()) as inventory:
        events = happened(inventory.events(), version=version, last=last)
        where = inventory.location
    if json:
        print_json([asdict(event) for event in events])
        return
    if not events:
        of = "" if version is None else f" of version {version}"
        say(f"the history of {where} has no events{of}")
        return
    print_table(
        ("when (UTC)", "who", "event", "version", "what and why"),
        [
            (
                (event.when or "")[:19].replace("T", " "),
                event.who or "",
                event.what,
                "" if event.version is None else event.version,
                event.told,
            )
            for event in events
        ],
        title=where,
    )


def verify(
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    json: Json = False,
) -> None:
    """Verify the checksums of all files of a model's versions; exit status 1 if one fails.

    A repository behind a URL is downloaded, one version at a time.
    """
    from servable_client import ServableError
    from servable_client.cli.console import print_json

    with _inventory_at(model, repository, DEFAULT_SERVER, True, Access()) as inventory:
        found = inventory.verify()
    trouble = [checked for checked in found if checked.trouble]
    if json:
        print_json([asdict(checked) for checked in found])
    else:
        for checked in found:
            typer.echo(f"{checked.what}: {checked.trouble or 'ok'}")
    if trouble:
        raise ServableError(
            f"{len(trouble)} of {len(found)} checks failed",
            hint="push the candidate of that version again, and `servable promote` the new one",
        )


def prune(
    keep: Annotated[int, typer.Option(help="Number of the highest versions to keep.", min=1)],
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    offline: Offline = False,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    json: Json = False,
) -> None:
    """Delete old versions for good, never one with a label or one that is served.

    The numbers of deleted versions are not reused. Behind a URL, no server is contacted, and a
    version stays that models.config lists.
    """
    from servable_client.cli.console import print_json

    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with _inventory_at(model, repository, server, offline, access) as inventory:
        gone = inventory.prune(keep=keep)
        left = inventory.numbers()
    if json:
        print_json({"pruned": gone, "left": left})
    else:
        typer.echo(
            f"pruned {', '.join(map(str, gone)) or 'nothing'}; "
            f"kept {', '.join(map(str, left)) or 'nothing'}"
        )


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="Version, or folder of a candidate.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another version or folder.")],
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    holdout: HoldoutFile = None,
    data: Data = None,
    requests: Annotated[
        Path | None,
        typer.Option(
            help="Folder or file of requests that --log_requests_to of `servable serve` kept; show "
            "how answers to the latest 1000 differ.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show the differences between two versions: figures, settings, and answers."""
    from servable_client.cli.console import print_json, print_table, say
    from servable_serving.core.lazy_tensorflow import import_tensorflow_runtime
    from servable_serving.gates.holdout import find_holdout
    from servable_serving.release.diff import compare_answers, differences
    from servable_serving.repository.candidate import Candidate

    with (
        _inventory_at(model, repository, DEFAULT_SERVER, True, Access()) as inventory,
        _folder(inventory, one) as first,
        _folder(inventory, other) as second,
    ):
        found = differences(first, second)
        manifest = Candidate(first).manifest
        model = str(manifest["name"])
        images = find_holdout(model, file=holdout, data=data, manifest=manifest)
        answers = None
        if images is not None:
            import_tensorflow_runtime()
            answers = compare_answers(first, second, images)
        replayed = None if requests is None else _replayed(requests, first, second)
    if json:
        print_json(
            {
                "figures": {name: list(pair) for name, pair in found.items()},
                "answers": None if answers is None else asdict(answers),
                "requests": None if replayed is None else asdict(replayed),
            }
        )
        return
    if found:
        print_table(
            ("figure", one, other), [(k, _cell(a), _cell(b)) for k, (a, b) in found.items()]
        )
    else:
        say("manifests are identical")
    if answers is not None:
        typer.echo(
            f"predictions differ on {answers.changed} of {answers.pictures} images "
            f"({answers.changed / answers.pictures:.2%}): {answers.mended} fixed, "
            f"{answers.broken} regressed"
        )
    elif replayed is None:
        say(f"no held-out images for {model}; pass some with --holdout")
    if replayed is not None:
        _show_replayed(replayed, one, other)


def _replayed(requests: Path, first: Path, second: Path) -> Replayed:
    """The answers of two versions to requests that were kept."""
    from servable_serving.core.lazy_tensorflow import import_tensorflow_runtime
    from servable_serving.gates.inspected_version import InspectedVersion
    from servable_serving.release.replay import kept_requests, replay

    import_tensorflow_runtime()
    from servable_serving.server.lifecycle.warmup import read_records

    found = kept_requests(requests, read_records)
    with InspectedVersion(first) as version, InspectedVersion(second) as another:
        return replay(version, another, found)


def _show_replayed(replayed: Replayed, one: str, other: str) -> None:
    from servable_client.cli.console import print_table

    share = f" ({replayed.differ / replayed.rows:.2%})" if replayed.rows else ""
    typer.echo(
        f"answers differ in {replayed.differ} of {replayed.rows} rows{share} of "
        f"{replayed.requests} requests; the largest difference of an output is "
        f"{replayed.largest:.3g}"
    )
    for name, failed, milliseconds in zip(
        (one, other), replayed.failed, replayed.milliseconds, strict=True
    ):
        took = "" if milliseconds is None else f"; {milliseconds:.2f} ms a request (median)"
        typer.echo(f"{name} refuses {failed} of them{took}")
    if replayed.examples:
        print_table(
            ("request", "row", one, other),
            [(e.request, e.row, e.one, e.other) for e in replayed.examples],
            title="the first rows that differ",
        )


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def _inventory_at(
    model: str,
    repository: str | None,
    server: str,
    offline: bool,
    access: Access,
    *,
    reading: bool = False,
) -> Iterator[Inventory]:
    """The inventory that the flags name; when only reading, servers need not answer."""
    from servable_serving.release.inventory import FolderInventory

    if is_url(repository):
        from servable_serving.release.remote_inventory import RemoteInventory

        yield RemoteInventory(remote_at(repository), model)
        return
    with release(model, repository, server, offline, access) as deployment:
        yield FolderInventory(_answering(deployment) if reading else deployment)


def _answering(deployment: Deployment) -> Deployment:
    """The deployment; without its servers, and with a message, if none answers."""
    from dataclasses import replace

    from servable_client.cli.console import say
    from servable_serving.release.server_group import NoAnswer

    if deployment.servers is None:
        return deployment
    try:
        deployment.servers.check()
    except NoAnswer:
        say(
            f"no server answers at {deployment.servers.address}: "
            "the states are those of models.config"
        )
        return replace(deployment, servers=None)
    return deployment


@contextmanager
def _folder(inventory: Inventory, what: str) -> Iterator[Path]:
    """A version's folder, or a candidate's."""
    from servable_client import ServableError
    from servable_serving.repository.candidate import check_candidate

    if what.isdigit():
        with inventory.folder(int(what)) as folder:
            check_candidate(folder)
            yield folder
        return
    if not Path(what).is_dir():
        raise ServableError(
            f"{what} is not a folder", hint="give the number of a version, or a candidate's folder"
        )
    check_candidate(Path(what))
    yield Path(what)
