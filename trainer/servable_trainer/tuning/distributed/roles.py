"""The role of a process in a distributed search."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass

from servable_trainer.tuning.trials import TuneError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


@dataclass(frozen=True, kw_only=True)
class Role:
    """The role of one process in a distributed search.

    Attributes:
        chief: Whether it is the chief, which distributes the trials, or a worker, which runs them.
        address: HOST:PORT of the chief.
        name: The worker's name.
    """

    chief: bool
    address: str
    name: str


def role_from(
    role: str | None = None, address: str | None = None, name: str | None = None
) -> Role | None:
    """The role from the command line, or from KerasTuner's environment variables.

    Args:
        role: "chief", "worker", or None to read the environment.
        address: HOST:PORT of the chief.
        name: The worker's name; default: host name and process ID.

    Returns:
        The role; None for a search in one process.

    Raises:
        TuneError: It is incomplete or invalid.
    """
    tuner, host, port = (os.environ.get(variable) or None for variable in _VARIABLES)
    if role is None and address is None:
        if not (tuner or host or port):
            return None
        if not (tuner and host and port):
            missing = [one for one in _VARIABLES if not os.environ.get(one)]
            raise TuneError(
                f"{' and '.join(missing)} must be set too: the three variables go together"
            )
        # KerasTuner's own rule.
        role = "chief" if "chief" in tuner else "worker"
    if address is None and host and port:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if role is None or address is None:
        raise TuneError(
            "a distributed search needs a role and the chief's address",
            hint="--role chief or --role worker, and --chief HOST:PORT",
        )
    number = address.rpartition(":")[2]
    if not address.rpartition(":")[0] or not number.isdigit() or not 0 < int(number) < 65536:
        raise TuneError(
            f"invalid address {address!r} (expected HOST:PORT)", hint="--chief 192.0.2.7:8000"
        )
    name = name or tuner or f"{socket.gethostname()}-{os.getpid()}"
    if not _NAME.fullmatch(name):
        raise TuneError(
            f"invalid worker name {name!r}",
            hint="up to 64 letters, digits, dots, hyphens and underscores: --worker NAME",
        )
    return Role(chief=role == "chief", address=address, name=name)
