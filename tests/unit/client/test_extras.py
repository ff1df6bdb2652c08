"""The table of modules and extras, compared with the code and with the distribution."""

from __future__ import annotations

import ast
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.base_install import distributions
from tests.conftest import ROOT

from servable_client._extras import MODULES, extra_of

_OURS = {"servable_client", "servable_serving", "servable_trainer"}
# Used only if a program has imported it.
_OF_PROGRAMS = {"opentelemetry"}
# Their distributions are dependencies of one that is listed.
_INDIRECT = {"h5py", "keras", "markupsafe", "requests"}


def _imported() -> set[str]:
    """The top-level modules that any code of the packages imports."""
    found = set()
    for package in ("client", "serving", "trainer"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.partition(".")[0])
    return found


def test_what_has_no_wheel_for_every_platform_is_optional() -> None:
    # pip would build them from source on Alpine Linux, without the headers that this needs.
    assert not {"pycurl", "ml-dtypes"} & distributions()


def test_every_optional_import_has_an_extra() -> None:
    by_module = metadata.packages_distributions()
    optional = {
        module
        for module in _imported() - set(sys.stdlib_module_names) - _OURS - _OF_PROGRAMS
        if not any(canonicalize_name(n) in distributions() for n in by_module.get(module, []))
    }
    assert optional <= set(MODULES)


@pytest.mark.parametrize("module", sorted(set(MODULES) - _INDIRECT))
def test_the_extra_of_a_module_installs_it(module: str) -> None:
    names = {canonicalize_name(name) for name in metadata.packages_distributions()[module]}
    required = {
        canonicalize_name(requirement.name)
        for requirement in map(Requirement, metadata.requires("servable") or [])
        if requirement.marker is not None
        and requirement.marker.evaluate({"extra": MODULES[module]})
    }
    assert names & required or any(n.startswith("tensorflow") for n in names)


@pytest.mark.parametrize(
    ("module", "importers", "extra"),
    [
        ("fsspec", ["servable_serving.repository.store"], "remote"),
        ("tensorflow", ["servable_serving.core.lazy_tensorflow"], "serving"),
        ("tensorflow", ["servable_trainer.cli.tune", "servable_serving.core"], "trainer"),
        ("pythonjsonlogger", ["servable_serving.cli.serve"], "serving"),
        ("pythonjsonlogger", ["servable_serving.cli.server_flags"], "remote"),
        ("a_module_of_a_user", ["servable_trainer.cli.tune"], None),
    ],
)
def test_one_extra_is_enough_for_a_command(
    module: str, importers: list[str], extra: str | None
) -> None:
    assert extra_of(module, importers) == extra
