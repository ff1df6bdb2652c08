"""What `pip install .` without extras installs, by the metadata of the installed distributions."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_OURS = {"servable_client", "servable_serving", "servable_trainer"}

# Runs commands one after the other, each in a fork, without the modules that are refused.
_DRIVER = """
import contextlib, importlib.abc, json, os, sys

refused, commands = set(json.loads(sys.argv[1])), json.loads(sys.argv[2])

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from servable_client.cli.app import main

for number, command in enumerate(commands):
    pid = os.fork()
    if not pid:
        for stream, descriptor in (("out", 1), ("err", 2)):
            os.dup2(os.open(f"{number}.{stream}", os.O_CREAT | os.O_WRONLY), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["servable", *command]
        main()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(f"{number}.status", "w") as file:
        file.write(str(status))
"""


@cache
def distributions() -> frozenset[str]:
    """The distributions that Servable requires without extras, directly or not."""
    found: set[tuple[str, frozenset[str]]] = set()
    left = [Requirement("servable")]
    while left:
        requirement = left.pop()
        wanted = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if wanted in found:
            continue
        found.add(wanted)
        try:
            needed = metadata.requires(requirement.name) or []
        except metadata.PackageNotFoundError:
            continue
        for further in map(Requirement, needed):
            extras = {"", *requirement.extras}
            if further.marker is None or any(further.marker.evaluate({"extra": e}) for e in extras):
                left.append(further)
    return frozenset(name for name, _ in found)


@cache
def optional_modules() -> frozenset[str]:
    """The top-level modules that are installed here, and would not be without extras."""
    return frozenset(
        module
        for module, names in metadata.packages_distributions().items()
        if module not in _OURS and not any(canonicalize_name(n) in distributions() for n in names)
    )


def run_without_extras(
    commands: Mapping[str, Sequence[str]], folder: Path
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Run commands of `servable` as if no extra were installed.

    Args:
        commands: The arguments of each, by any name.
        folder: The working directory.
    """
    subprocess.run(
        [
            sys.executable, "-c", _DRIVER,
            json.dumps(sorted(optional_modules())), json.dumps(list(commands.values())),
        ],
        check=True, cwd=folder, timeout=500,
    )  # fmt: skip
    return {
        name: subprocess.CompletedProcess(
            list(commands[name]),
            int((folder / f"{number}.status").read_text()),
            *((folder / f"{number}.{stream}").read_text() for stream in ("out", "err")),
        )
        for number, name in enumerate(commands)
    }
