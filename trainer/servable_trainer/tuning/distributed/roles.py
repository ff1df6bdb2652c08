"""Who does what when a search has several processes."""

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
    """One process of a search that has several.

    Attributes:
        chief: Whether it hands the trials out; else it runs them.
        address: HOST:PORT where the chief listens.
        name: What a worker is called.
    """

    chief: bool
    address: str
    name: str


def role_from(
    role: str | None = None, address: str | None = None, name: str | None = None
) -> Role | None:
    """The role that is asked for, or that KerasTuner's environment variables say.

    Args:
        role: "chief", "worker", or None for what the environment says.
        address: HOST:PORT where the chief listens.
        name: What a worker is called; its machine and process unless given.

    Returns:
        The role; None for a search in one process.

    Raises:
        TuneError: What is asked for is not whole.
    """
    tuner, host, port = (os.environ.get(variable) or None for variable in _VARIABLES)
    if role is None and address is None:
        if not (tuner or host or port):
            return None
        if not (tuner and host and port):
            missing = [one for one in _VARIABLES if not os.environ.get(one)]
            raise TuneError(f"{' and '.join(missing)} must be set where the others are")
        # KerasTuner's own rule.
        role = "chief" if "chief" in tuner else "worker"
    if address is None and host and port:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if role is None or address is None:
        raise TuneError(
            "a search of several processes needs a role and the chief's address",
            hint="--role chief or --role worker, and --chief HOST:PORT",
        )
    number = address.rpartition(":")[2]
    if not address.rpartition(":")[0] or not number.isdigit() or not 0 < int(number) < 65536:
        raise TuneError(f"{address!r} is not HOST:PORT", hint="--chief 192.0.2.7:8000")
    name = name or tuner or f"{socket.gethostname()}-{os.getpid()}"
    if not _NAME.fullmatch(name):
        raise TuneError(
            f"a worker cannot be called {name!r}",
            hint="up to 64 letters, digits, dots, hyphens and underscores: --worker NAME",
        )
    return Role(chief=role == "chief", address=address, name=name)
