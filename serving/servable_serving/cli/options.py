"""Options that several sub-commands share."""

from __future__ import annotations

import re
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeGuard

import typer

from servable_client.cli.options import DEFAULT_MODEL, usage_error

if TYPE_CHECKING:
    from collections.abc import Iterator

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
StepTimeout = Annotated[
    float, typer.Option(help="Seconds that a server may take for each thing.", min=0.1)
]
STEP_TIMEOUT = 120.0
HoldoutFile = Annotated[
    Path | None,
    typer.Option("--holdout", help="Held-out pictures: an .npz with images and targets."),
]
Data = Annotated[
    Path | None,
    typer.Option(envvar="SERVABLE_DATA", help="The dataset's folder, for its held-out pictures."),
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
    api_key: str | None,
    ca: str | None,
    timeout: float = STEP_TIMEOUT,
) -> Iterator[Labels]:
    """The labels of a model, as the flags name it; the servers are hung up at the end."""
    from servable_serving.repository.manifest import check_name

    if is_url(repository):
        raise typer.BadParameter(
            "this looks at folders: bring what is behind a URL into one with `servable sync`",
            param_hint="--repository",
        )
    if repository is not None and model == DEFAULT_MODEL:
        model = Path(repository).resolve().name
    check_name(model)
    exit_on_signals()
    with nullcontext() if no_wait else servers_at(server, model, api_key, ca) as live:
        yield deployment_of(Path(repository or Path("models") / model), model, live, timeout)


def deployment_of(path: Path, model: str, live: Live | None, timeout: float) -> Labels:
    """A model's repository together with the servers that read it."""
    from servable_serving.release.deployment import Labels
    from servable_serving.repository.local import Repository

    return Labels(model=model, repository=Repository(path), live=live, timeout=timeout)


def servers_at(server: str, model: str, api_key: str | None, ca: str | None) -> Live:
    """The servers; an address that is none was asked wrongly, which is exit status 2."""
    from servable_client import InvalidInput
    from servable_serving.release.fleet import Live

    try:
        return Live(server, model=model, api_key=api_key, ca=ca)
    except InvalidInput as error:
        raise usage_error(error) from None


def exit_on_signals() -> None:
    """Be told of an end as of an exception, so that nothing is left half done."""
    import signal
    import sys

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("servable: terminated"))


def is_url(repository: str | None) -> TypeGuard[str]:
    """Whether a repository is behind a URL, and not a folder."""
    return repository is not None and "://" in repository


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
