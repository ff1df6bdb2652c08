"""`AsyncClient` is generated from `Client`."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from servable_client import AsyncClient, Client

ROOT = Path(__file__).parents[3]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "client" / "generate_async.py"))
METHODS = [name for name in vars(Client) if not name.startswith("_")]


def unformatted(code: str) -> str:
    """Code without what ruff may change."""
    return re.sub(r"[\s,]", "", code)


def test_the_file_is_what_the_script_gives() -> None:
    made = SCRIPT["generated"](SCRIPT["SOURCE"].read_text())
    assert unformatted(SCRIPT["TARGET"].read_text()) == unformatted(made), "run `make async`"


@pytest.mark.parametrize("name", METHODS)
def test_each_method_is_awaited(name: str) -> None:
    method = getattr(AsyncClient, name)
    # This one returns an asynchronous iterator.
    assert inspect.iscoroutinefunction(method) is (name != "classify_many")
    ours, others = inspect.signature(method), inspect.signature(getattr(Client, name))
    assert list(ours.parameters) == list(others.parameters)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (">>> client.resolve()", ">>> await client.resolve()"),
        (
            '>>> client.predict({"x": [f(1)]})["y"]',
            '>>> (await client.predict({"x": [f(1)]}))["y"]',
        ),
        (">>> client.signature().inputs", ">>> (await client.signature()).inputs"),
        (
            ">>> [x for answer in client.classify_many(y)]",
            ">>> [x async for answer in client.classify_many(y)]",
        ),
        ("client.resolve()", "client.resolve()"),
    ],
)
def test_examples_are_awaited(line: str, expected: str) -> None:
    assert SCRIPT["generated"](f"{line}\n") == f"{SCRIPT['HEADER']}{expected}\n"
