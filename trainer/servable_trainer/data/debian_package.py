"""Files of a Debian package, without installing it and without root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from servable_trainer.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence


def copy_from_package(package: str, folder: Path, names: Sequence[str], target: Path) -> None:
    """Copy files of a package: `apt-get download` and `dpkg-deb -x`, neither of which needs root.

    Args:
        package: The package's name.
        folder: The absolute directory that the package would put the files into.
        names: The files' names.
        target: An existing directory to copy them to.

    Raises:
        DatasetError: This is not a Debian system, or the package cannot be downloaded.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DatasetError(f"{package} cannot be downloaded: this is not a Debian system")
    with tempfile.TemporaryDirectory() as work:
        lists = Path(work) / "lists"
        (lists / "partial").mkdir(parents=True)
        # Package lists of our own: those of the machine may be missing, old, or root's alone.
        options = ["-qq", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={work}/cache"]
        if os.geteuid() == 0:
            options += ["-o", "APT::Sandbox::User=root"]  # or apt warns that _apt cannot write
        _run("apt-get", *options, "update", cwd=work)
        _run("apt-get", *options, "download", package, cwd=work)
        archive = next(Path(work).glob("*.deb"), None)
        if archive is None:
            raise DatasetError(f"apt-get did not download {package}")
        _run("dpkg-deb", "-x", str(archive), "unpacked", cwd=work)
        for name in names:
            shutil.copy(Path(work) / "unpacked" / folder.relative_to("/") / name, target / name)


def _run(*command: str, cwd: str) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DatasetError(f"{command[0]} failed: {reason}")
