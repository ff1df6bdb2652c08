"""When the `__init__` of a package runs."""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from servable_serving.core.lazy_package import defer_init

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "package_with_a_costly_init"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package that has a module, and has not been initialized."""
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "__init__.py").write_text(f"from {NAME}.part import value\n__version__ = '1.2'\n")
    (folder / "part.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    defer_init(NAME)
    yield sys.modules[NAME]
    for name in [name for name in sys.modules if name.startswith(NAME)]:
        del sys.modules[name]


def initialized(package: ModuleType) -> bool:
    return "value" in vars(package)


def test_its_modules_are_imported_without_it(package: ModuleType) -> None:
    assert importlib.import_module(f"{NAME}.part").value == 3
    assert importlib.import_module(NAME) is package
    assert not initialized(package)


def test_the_first_use_runs_it(package: ModuleType) -> None:
    assert package.value == 3
    assert importlib.import_module(NAME) is package
    assert type(package) is ModuleType


def test_threads_wait_until_it_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{NAME}_in_threads"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "part.py").write_text(
        "import threading\nbegan, go = threading.Event(), threading.Event()\n"
    )
    (folder / "__init__.py").write_text(
        f"from {name}.part import began, go\nbegan.set()\nassert go.wait(60)\nvalue = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    defer_init(name)
    part = importlib.import_module(f"{name}.part")
    package = sys.modules[name]
    try:
        with ThreadPoolExecutor() as pool:
            first = pool.submit(lambda: package.value)
            assert part.began.wait(60)
            second = pool.submit(lambda: package.value)
            with pytest.raises(TimeoutError):
                second.result(0.05)
            part.go.set()
            assert (first.result(60), second.result(60)) == (3, 3)
    finally:
        part.go.set()
        del sys.modules[name], sys.modules[f"{name}.part"]


def test_a_failure_leaves_it_to_the_next_use(package: ModuleType) -> None:
    init = Path(str(package.__file__))
    good = init.read_text()
    init.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        _ = package.value
    init.write_text(good)
    importlib.invalidate_caches()
    assert package.value == 3


def test_a_version_is_a_use(package: ModuleType) -> None:
    assert package.__version__ == "1.2"
    assert initialized(package)


def test_what_inspection_asks_for_is_none(package: ModuleType) -> None:
    assert not hasattr(package, "__wrapped__")
    assert not initialized(package)


def test_a_name_that_it_has_not(package: ModuleType) -> None:
    with pytest.raises(AttributeError):
        _ = package.nothing
    assert initialized(package)


def test_a_package_that_is_not_there() -> None:
    with pytest.raises(ModuleNotFoundError):
        defer_init("no_such_package_anywhere")
    assert "no_such_package_anywhere" not in sys.modules
