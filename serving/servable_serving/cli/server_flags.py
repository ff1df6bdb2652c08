"""Flags of `servable serve`, read as tensorflow_model_server reads them.

https://github.com/tensorflow/tensorflow/blob/v2.20.0/third_party/xla/xla/tsl/util/command_line_flags.cc
"""

from __future__ import annotations

from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

NO_EFFECT = "Flags of tensorflow_model_server without effect in this server"


class Switch(StrEnum):
    """A flag that is true or false; `--flag` alone makes it true."""

    TRUE = "true"
    FALSE = "false"

    def __bool__(self) -> bool:
        return self is Switch.TRUE

    @classmethod
    def read(cls, text: str) -> Switch:
        """The value of a flag: true or false in any case, 1 or 0.

        Raises:
            typer.BadParameter: It is none of these.
        """
        values = {"true": cls.TRUE, "1": cls.TRUE, "false": cls.FALSE, "0": cls.FALSE}
        if (value := values.get(text.lower())) is None:
            raise typer.BadParameter(f"{text!r} is not true, false, 1 or 0")
        return value


class ServerFlags(TyperCommand):
    """The command line of tensorflow_model_server.

    `--flag` stands for `--flag=true`, and unknown arguments do not end the start.
    """

    allow_extra_args = True
    ignore_unknown_options = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        switches = {
            option
            for parameter in self.params
            if isinstance(parameter.default, Switch)
            for option in parameter.opts
        }
        return super().parse_args(ctx, [f"{a}=true" if a in switches else a for a in args])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List the flags that have an effect, and then those that have none."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                sections.setdefault(panel, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def switch(name: str, *, help: str, **options: Any) -> Any:  # noqa: A002
    """An option whose type is `Switch`."""
    return typer.Option(name, parser=Switch.read, metavar="<true|false>", help=help, **options)


def path(name: str, *, help: str) -> Any:  # noqa: A002
    """An option whose type is `Path | None`; an empty value is none."""
    return typer.Option(
        name, parser=lambda text: Path(text) if text else None, metavar="<path>", help=help
    )


def no_effect(name: str, reason: str, *, is_switch: bool = False) -> Any:
    """An option that is read and checked, and changes nothing.

    Args:
        name: The flag.
        reason: Why.
        is_switch: Whether its type is `Switch`.
    """
    options: dict[str, Any] = {"help": reason, "rich_help_panel": NO_EFFECT, "show_default": False}
    return switch(name, **options) if is_switch else typer.Option(name, **options)


def given_without_effect(ctx: Any) -> list[str]:
    """The flags on the command line that change nothing."""
    return [
        parameter.opts[0]
        for parameter in ctx.command.params
        if getattr(parameter, "rich_help_panel", None) == NO_EFFECT
        and ctx.get_parameter_source(parameter.name).name == "COMMANDLINE"
    ]


def unknown_arguments(ctx: Any) -> list[str]:
    """The arguments that are not flags of the command, each with a flag of a similar name."""
    known = [option for parameter in ctx.command.params for option in parameter.opts]
    said = []
    for argument in ctx.args:
        similar = get_close_matches(argument.partition("=")[0], known, n=1)
        said.append(f"{argument} (did you mean {similar[0]}?)" if similar else argument)
    return said
