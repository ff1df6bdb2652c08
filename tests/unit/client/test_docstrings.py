"""What the docstrings of the public names must say."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import servable_client
from servable_client import AsyncClient, Client

CLASSES: list[Any] = [
    value
    for name in servable_client.__all__
    if isinstance(value := getattr(servable_client, name), type)
]
MEMBERS = [
    (kind, name)
    for kind in CLASSES
    for name, value in vars(kind).items()
    if not name.startswith("_")
    and (inspect.isfunction(value) or isinstance(value, property | cached_property))
]
SECONDS = {"timeout", "elapsed", "initial", "maximum", "retry_after"}


def described(doc: str, *sections: str) -> dict[str, str]:
    """The entries of sections such as `Args`, by name."""
    found: dict[str, str] = {}
    for section in sections:
        match = re.search(rf"^{section}:\n((?:    .*\n|\n)+)", doc + "\n", re.MULTILINE)
        entries = re.split(r"^    (\w+): ", match[1], flags=re.MULTILINE)[1:] if match else []
        found |= dict(zip(entries[::2], entries[1::2], strict=True))
    return found


def doc_of(thing: Any) -> str:
    doc = inspect.getdoc(thing)
    assert doc, f"{thing!r} has no docstring"
    return doc


def arguments_of(function: Any) -> set[str]:
    return {name for name in inspect.signature(function).parameters if name != "self"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_class_describes_its_arguments_and_attributes(kind: Any) -> None:
    doc = doc_of(kind)
    entries = described(doc, "Args", "Attributes")
    if dataclasses.is_dataclass(kind):
        wanted = {field.name for field in dataclasses.fields(kind)}
    elif kind in (Client, servable_client.Split):
        wanted = arguments_of(kind)
    else:
        wanted = {*getattr(kind, "_fields", ())}
    assert wanted <= set(entries)
    for name in SECONDS & set(entries):
        assert "second" in entries[name].lower(), name


@pytest.mark.parametrize(("kind", "name"), MEMBERS, ids=str)
def test_a_method_describes_its_arguments(kind: Any, name: str) -> None:
    member = vars(kind)[name]
    function = member.fget if isinstance(member, property) else member
    entries = described(doc_of(function), "Args")
    if inspect.isfunction(member):
        text = doc_of(function)
        assert not [name for name in arguments_of(member) - set(entries) if f"`{name}`" not in text]
    for argument in SECONDS & set(entries):
        assert "second" in entries[argument]
    if kind in (Client, AsyncClient) and name != "close":
        assert "Raises:" in doc_of(function)


def test_attributes_of_errors_are_described() -> None:
    error = servable_client.ServableError("late")
    entries = described(doc_of(servable_client.ServableError), "Attributes")
    assert {name for name in dir(error) if not name.startswith("_")} - set(entries) <= {
        "add_note", "args", "with_traceback",
    }  # fmt: skip
    assert "Seconds" in entries["retry_after"]


def test_arrays_are_described_with_dtype_and_shape() -> None:
    entries = described(doc_of(servable_client.Classification), "Attributes")
    assert "float32 [C]" in entries["probabilities"]
    assert "bytes" in described(doc_of(servable_client.Prediction), "Attributes")["outputs"]
    for kind in (Client, AsyncClient):
        assert "uint8" in described(doc_of(kind.classify), "Args")["picture"]
        assert "dtype" in described(doc_of(kind.predict), "Args")["inputs"]


@pytest.mark.parametrize("name", ["Example", "Picture"])
def test_an_alias_is_described(name: str) -> None:
    module = sys.modules[f"servable_client.types.{'examples' if name == 'Example' else 'images'}"]
    body = ast.parse(Path(str(module.__file__)).read_text()).body
    place = next(
        index
        for index, node in enumerate(body)
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == name
    )
    text = body[place + 1]
    assert isinstance(text, ast.Expr)
    assert isinstance(text.value, ast.Constant)
    assert isinstance(text.value.value, str)
