"""The hints of errors at the command line, where arguments of Python are options."""

from __future__ import annotations

# What hints say to programs, and to users of the command.
_AT_THE_COMMAND_LINE = {
    "`tls=TLS(ca=...)`": "--ca",
    "`api_key=` or `token=`": "--api-key or --token",
    "see `metadata()`": "`servable status` shows them",
    "call `.strip()` on a value read from a file": "give @FILE, which is read without its line end",
    "trust_env=False, or the variable NO_PROXY": "set NO_PROXY",
    # The command has no such option: a secret in its history or environment needs TLS.
    "; on a private network, pass `plaintext_credentials=True`": "",
}


def for_command(hint: str | None) -> str | None:
    """A hint in terms of the command's options."""
    if hint is None:
        return None
    for python, command in _AT_THE_COMMAND_LINE.items():
        hint = hint.replace(python, command)
    return hint
