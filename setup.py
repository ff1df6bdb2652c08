"""What pyproject.toml cannot say: the web page, `serving/web`, goes into the package of a wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPage(build_py):
    """Lays the page where `servable_serving._page` looks for it."""

    def run(self) -> None:
        """Build as ever, and lay it there."""
        super().run()
        if not self.editable_mode:  # there the page is read where it stands
            page = Path(self.build_lib, "servable_serving", "_web")
            shutil.rmtree(page, ignore_errors=True)  # of an earlier build
            shutil.copytree(Path(__file__).parent / "serving" / "web", page)


setup(cmdclass={"build_py": BuildWithPage})
