"""Options that several sub-commands share."""

from __future__ import annotations

import re
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servable_client.cli.options import DEFAULT_MODEL, Access, usage_error
from servable_serving.core.addresses import is_url
from servable_serving.core.signals import exit_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable_serving.release.deployment import Deployment
    from servable_serving.release.push import Target
    from servable_serving.release.server_group import ServerGroup
    from servable_serving.repository.remote import Remote

Folder = Annotated[
    str | None,
    typer.Option(
        help="Folder of the model's versions (default: models/MODEL), or URL of a model "
        "repository, e.g. s3://bucket/models."
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not contact or wait for a server.")]
StepTimeout = Annotated[float, typer.Option(help="Timeout per step, in seconds.", min=0.1)]
Mirror = Annotated[
    str,
    typer.Option(envvar="SERVABLE_MIRROR", help="URL of the mirror of `servable gateway-metrics`."),
]
MIRROR = "http://127.0.0.1:9146"
STEP_TIMEOUT = 120.0
HoldoutFile = Annotated[
    Path | None,
    typer.Option(
        "--holdout",
        metavar="FILE|DIR",
        help="Held-out set: an .npz file with images and targets, or with targets and an array per "
        "input; or images, DIR/CLASS/*.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(envvar="SERVABLE_DATA", help="Folder of the dataset, for its held-out images."),
]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_SECONDS = 7 * 86_400


@contextmanager
def release(
    model: str,
    repository: str | None,
    server: str,
    no_wait: bool,
    access: Access,
    timeout: float = STEP_TIMEOUT,
) -> Iterator[Deployment]:
    """The deployment that the flags name; the connections are closed at the end.

    Raises:
        FolderError: There is no such folder.
    """
    from servable_serving.core.errors import FolderError
    from servable_serving.repository.manifest import check_name

    if repository is not None and model == DEFAULT_MODEL:
        model = Path(repository).resolve().name
    check_name(model)
    path = Path(repository or Path("models") / model)
    if not path.is_dir():
        raise FolderError(
            f"there is no folder {path}",
            hint="--repository names the folder of the model's versions; `servable push` creates "
            "it with the first one",
        )
    exit_on_signals()
    with nullcontext() if no_wait else servers_at(server, model, access) as servers:
        yield deployment_of(path, model, servers, timeout)


@contextmanager
def release_target(
    model: str,
    repository: str | None,
    server: str,
    no_wait: bool,
    access: Access,
    timeout: float = STEP_TIMEOUT,
) -> Iterator[Target]:
    """The target that the flags name: a folder, or a repository behind a URL."""
    from servable_serving.release.folder_target import FolderTarget

    exit_on_signals()
    if is_url(repository):
        yield remote_target(repository, model)
        return
    with release(model, repository, server, no_wait, access, timeout) as deployment:
        yield FolderTarget(deployment)


def remote_target(url: str, model: str) -> Target:
    """A target behind a URL; an invalid URL is a usage error."""
    from servable_serving.release.remote_target import RemoteTarget

    return RemoteTarget(remote_at(url), model)


def remote_at(url: str) -> Remote:
    """A repository behind a URL; an invalid URL is a usage error."""
    from servable_client import InvalidInput
    from servable_serving.repository.remote import Remote

    try:
        return Remote(url)
    except InvalidInput as error:
        raise usage_error(error, param_hint="--repository") from None


def deployment_of(
    path: Path, model: str, servers: ServerGroup | None, timeout: float
) -> Deployment:
    """A model's repository together with the servers that read it."""
    from servable_serving.release.deployment import Deployment
    from servable_serving.repository.local import Repository

    return Deployment(model=model, repository=Repository(path), servers=servers, timeout=timeout)


def servers_at(server: str, model: str, access: Access) -> ServerGroup:
    """The servers at an address; an invalid address is a usage error."""
    from servable_client import InvalidInput
    from servable_serving.release.server_group import ServerGroup

    try:
        return ServerGroup(server, model=model, **access.arguments())
    except InvalidInput as error:
        raise usage_error(error) from None


def percent(text: str) -> float:
    """`10%` or `0.1`, in percent."""
    try:
        found = float(text[:-1]) if text.endswith("%") else float(text) * 100
    except ValueError:
        found = -1.0
    if not 0 < found <= 100:
        raise typer.BadParameter(f"{text!r} is not a valid share; give 10% or 0.1")
    return round(found, 2)


def fraction(text: str) -> float:
    """`1%` or `0.01`, from 0 to 1."""
    return 0.0 if text in {"0", "0%"} else percent(text) / 100


def duration(text: str) -> float:
    """`500ms`, `90s`, `10m`, `1h` or a number of seconds, in seconds."""
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise typer.BadParameter(
            f"{text!r} is not a valid duration; give 500ms, 90s, 10m or 1h, a week at most"
        )
    return seconds
