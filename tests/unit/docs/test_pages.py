"""What the pages refer to exists: files, headings, commands and their options."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from servable_client.cli.app import build

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    page.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "models/*.md", "benchmarks/**/*.md", "serving/**/*.md")
    for page in ROOT.glob(pattern)
)
# Where a page says that the reader is to put their own file.
_SECRETS = "serving/gateway/keys/"
_PATH = re.compile(
    r"(?<![\w./$-])((?:client|serving|trainer|tests|docs|benchmarks|\.ci)/[\w./-]*[\w/])"
)
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def _links(page: Path) -> list[str]:
    """The links of a page to other files, or to a heading."""
    text = _CODE.sub("", (ROOT / page).read_text())
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in links if not re.match(r"https?:|mailto:", link)]


def _commands(page: Path) -> list[list[str]]:
    """The words of each `servable ...` that a page prints, continued lines included."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    return [line.split() for line in re.findall(r"(?:^|[`\s/])servable ([a-z][^`\n|;#)]*)", text)]


def _slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@cache
def _command_line() -> TyperGroup:
    root = typer.main.get_command(build())
    assert isinstance(root, TyperGroup)
    return root


def _leads_somewhere(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = (ROOT / page.parent / file) if file else ROOT / page
    if not target.exists() or not anchor or target.suffix != ".md":
        return target.exists()
    headings = re.findall(r"^#+ (.+)$", _CODE.sub("", target.read_text()), re.MULTILINE)
    return anchor in map(_slug, headings)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert [link for link in _links(page) if not _leads_somewhere(page, link)] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_options_that_a_page_names_exist(page: Path) -> None:
    root = _command_line()
    unknown = []
    for words in _commands(page):
        if words[0] not in root.commands:
            continue  # a sentence that begins with the name
        command = root.commands[words[0]]
        if isinstance(command, TyperGroup) and len(words) > 1:
            command = command.commands.get(words[1], command)
        known = {
            option
            for parameter in command.params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.partition("=")[0].rstrip(".,:") for word in words if word.startswith("--")}
        unknown += [(words[0], option) for option in sorted(used - known - {"--help", "--"})]
    assert unknown == []


def test_there_are_commands_to_check() -> None:
    commands = _commands(Path("README.md"))
    assert ["tune", "--minutes", "30"] in [words[:3] for words in commands]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = {path for path in _PATH.findall((ROOT / page).read_text()) if "NAME" not in path}
    missing = {path for path in named if not (ROOT / path).exists()}
    assert {path for path in missing if not path.startswith(_SECRETS)} == set()
    for file, test in re.findall(r"(tests/[\w/]+\.py)::(\w+)", (ROOT / page).read_text()):
        assert f"def {test}(" in (ROOT / file).read_text()


def test_pages_are_reachable_from_the_readme() -> None:
    reached, todo = {Path("README.md")}, [Path("README.md")]
    while todo:
        page = todo.pop()
        targets = {
            (ROOT / page.parent / link.partition("#")[0]).resolve().relative_to(ROOT)
            for link in _links(page)
        }
        new = targets.intersection(PAGES) - reached
        reached |= new
        todo += new
    assert {page for page in PAGES if page.parts[0] in {"docs", "models", page.name}} <= reached
