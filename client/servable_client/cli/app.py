"""The command `servable`, whose sub-commands come from the installed packages."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points, version
from traceback import walk_tb
from typing import Annotated

import typer

from servable_client._errors import ServableError
from servable_client._extras import extra_of, how_to_install
from servable_client.cli.console import console, print_error


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"servable {version('servable')}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show version and exit."
        ),
    ] = False,
) -> None:
    """From a tuned Keras CNN to a TensorFlow Serving endpoint that people can rely on."""


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for part in sorted(entry_points(group="servable.commands"), key=lambda part: part.name):
        part.load()(app)
    return app


def main() -> None:
    """Run the command; exit status 0, 1 for a failure, 2 for a usage error."""
    try:
        build()()
    except ServableError as error:
        print_error(error)
        sys.exit(1)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = extra_of(module, _running(error))
        if extra is None:
            raise
        print_error(
            ServableError(
                f"this command requires {module}, which is not installed",
                hint=how_to_install(extra),
            )
        )
        sys.exit(1)
    finally:
        # A progress bar that Ctrl-C interrupted leaves the cursor hidden.
        if "rich" in sys.modules and sys.stderr.isatty():
            console().show_cursor()


def _running(error: BaseException) -> list[str]:
    """The modules whose code was running when an error was raised."""
    return [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
