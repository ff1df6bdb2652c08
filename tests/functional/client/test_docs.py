"""Every docstring example of the SDK, and every recipe of its page, against a server."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import NAME, ROOT
from tests.functional.client.conftest import as_file

import servable_client
from servable_client import AsyncClient, Client

if TYPE_CHECKING:
    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset

PAGE = (ROOT / "docs" / "client.md").read_text()
RECIPES = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(servable_client.__path__, "servable_client.")
    if module.name != "servable_client.__main__" and ".cli" not in module.name
]
EXAMPLES = [
    test
    for module in [servable_client, *MODULES]
    for test in doctest.DocTestFinder(exclude_empty=True).find(module)
    if test.examples
]


@pytest.fixture
def folder(tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples read."""
    monkeypatch.chdir(tmp_path)
    pictures = dataset.test
    (tmp_path / "boot.png").write_bytes(as_file(pictures.images[0]))
    shirt = next(i for i in range(100) if dataset.labels[pictures.targets[i]] == "Shirt")
    Image.fromarray(pictures.images[shirt]).save(tmp_path / "shirt.png")
    (tmp_path / "notes.txt").write_text("milk, eggs")
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda test: test.name)
def test_an_example(
    example: doctest.DocTest,
    folder: Path,
    server: RunningServer,
    dataset: Dataset,
    certificates: Any,
) -> None:
    shutil.copy(certificates.ca, folder / "ca.pem")
    config = (
        f'model_config_list {{ config {{ name: "{NAME}" base_path: "{server.base_path}" '
        'model_platform: "tensorflow" } }'
    )
    (folder / "models.config").write_text(config)
    output: list[str] = []
    with Client(server.grpc, model=NAME) as client:
        example.globs = {
            **vars(servable_client),
            **{name: getattr(servable_client, name) for name in servable_client.__all__},
            "asyncio": asyncio,
            "client": client,
            "images": dataset.test.images[:3],
            "np": np,
            "Path": Path,
            "png": (folder / "boot.png").read_bytes(),
            "server": server.grpc,
        }
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        if not example.name.startswith("servable_client._async_client.AsyncClient."):
            runner.run(example, out=output.append)
        else:
            with asyncio.Runner() as loop:
                asynchronous = loop.run(opened(server.grpc))
                example.globs |= {"client": asynchronous, "run": loop.run, "collect": collect}
                runner.run(awaited(example), out=output.append)
                loop.run(asynchronous.close())
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


async def opened(server: str) -> AsyncClient:
    return AsyncClient(server, model=NAME)


async def collect(answers: Any) -> list[Any]:
    return [answer async for answer in answers]


def awaited(example: doctest.DocTest) -> doctest.DocTest:
    """Rewrite an example with `await`, as in notebooks, so that doctest runs it."""

    class Waits(ast.NodeTransformer):
        def visit_Await(self, node: ast.Await) -> ast.AST:
            return ast.Call(ast.Name("run", ast.Load()), [self.visit(node.value)], [])

        def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
            self.generic_visit(node)
            if node.is_async:
                gathered = ast.Call(ast.Name("collect", ast.Load()), [node.iter], [])
                node.iter = ast.Call(ast.Name("run", ast.Load()), [gathered], [])
                node.is_async = 0
            return node

    for line in example.examples:
        tree = Waits().visit(ast.parse(line.source))
        line.source = ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    return example


def test_every_public_name_has_an_example() -> None:
    named = {test.name.rpartition(".")[2] for test in EXAMPLES}
    leaves = {name for name in servable_client.__all__ if "Error" not in name}
    classes = {
        name
        for name in leaves
        if isinstance(getattr(servable_client, name), type)
        and not issubclass(getattr(servable_client, name), servable_client.ServableError)
    }
    assert classes - {"Client"} <= named
    names = {test.name for test in EXAMPLES}
    for kind in (Client, AsyncClient):
        for name in vars(kind):
            if not name.startswith("_"):
                assert f"{kind.__module__}.{kind.__name__}.{name}" in names


@pytest.mark.parametrize("index", range(len(RECIPES)))
def test_a_recipe(index: int, folder: Path, server: RunningServer) -> None:
    kind, code = RECIPES[index]
    code = (
        code.replace("localhost:8500", f"127.0.0.1:{server.port}")
        .replace("localhost:8501", f"127.0.0.1:{server.rest_port}")
        .replace("Client(model=", f"Client({server.grpc!r}, model=")
    )
    command = [sys.executable, "-W", "error", "-c", code]
    if kind == "sh":
        if shutil.which("curl") is None:
            pytest.skip("there is no curl here")
        command = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    # The server has no labels, which the client says once.
    said = "no version of fashion_mnist has the label stable: " if "split=" in code else ""
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(said), done.stderr
    assert done.stderr.count("\n") == (1 if said else 0), done.stderr
    assert done.stdout.strip()
    if "shoes" not in code:
        assert "error" not in re.sub(r'"error_(code|message)"', "", done.stdout)
    if kind == "python" and "boot.png" in code and "shoes" not in code:
        assert "Ankle boot" in done.stdout or done.stdout.split() == ["1", "1"]


def test_the_page_lists_each_error() -> None:
    for name in servable_client.__all__:
        kind = getattr(servable_client, name)
        if isinstance(kind, type) and issubclass(kind, servable_client.ServableError):
            assert name in PAGE
