"""docs/architecture.md draws what is: states as the table has them, layers and folders as they are.

The files that documents and docstrings name are there too.
"""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from agentflow.protocol.record import State
from agentflow.rules.lifecycle import FOLLOWERS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
EMPTY = "none"
"""What the drawing calls an empty log."""
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
SOURCES = [
    path for folder in ("agentflow", "bench", "tui") for path in ROOT.glob(f"{folder}/**/*.py")
]


def section(title: str) -> str:
    return PAGE[PAGE.index(f"\n## {title}\n") :].split("\n## ", 2)[1]


# The drawing of the states.


class Drawing:
    """A mermaid flowchart: its arrows, those of a frame spread over all that is in it."""

    def __init__(self, text: str) -> None:
        self.frames: dict[str, set[str]] = {}
        self.arrows: set[tuple[str, str]] = set()
        self.writers: dict[str, set[str]] = {}
        inside: list[str] = []
        for line in map(str.strip, text.splitlines()):
            if match := re.fullmatch(r"subgraph (\w+)(?: \[.*\])?", line):
                inside.append(match[1])
                self.frames[match[1]] = set()
            elif line == "end":
                inside.pop()
            elif match := re.fullmatch(r'(\w+) -- "(.+)" --> (\w+)', line):
                for source in self._within(match[1]):
                    for target in self._within(match[3]):
                        self.arrows.add((source, target))
                        self.writers.setdefault(target, set()).update(
                            re.findall(r"\b(?:worker|master|client)\b", match[2])
                        )
            elif match := re.fullmatch(r"(\w+)(?:\(\[.*\]\))?", line):
                for frame in inside:
                    self.frames[frame].add(match[1])
            else:
                assert line == "flowchart LR", f"not understood: {line}"

    def _within(self, name: str) -> set[str]:
        return self.frames.get(name, {name})


@cache
def drawing() -> Drawing:
    return Drawing(section("The states of a task").split("```mermaid\n")[1].split("```")[0])


def rows(page: str, title: str) -> dict[str, list[str]]:
    """A table's rows by their first cell, without quotes."""
    lines = page[page.index(title) :].split("\n\n")[0].splitlines()[2:]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {first.strip("`"): rest for first, *rest in cells}


def test_an_arrow_is_drawn_where_the_table_allows_a_record_to_follow() -> None:
    allowed = {
        (EMPTY if last is None else str(last), str(following))
        for last, followers in FOLLOWERS.items()
        for following in followers
    }
    assert drawing().arrows == allowed


def test_who_writes_a_state_is_told_as_the_protocol_tells_it() -> None:
    protocol = rows(PROTOCOL, "| state | subject | meaning | written by |")
    table = rows(PAGE, "| state | its record says | written by |")
    for state in State:
        writers = set(protocol[state][2].split(", "))
        assert drawing().writers[state] == writers, state
        assert set(re.findall(r"\b(?:worker|master|client)\b", table[state][1])) == writers, state


# Layers and folders.


def test_the_layers_are_those_that_the_check_holds() -> None:
    drawn = section("The folders").split("```\n")[3].splitlines()
    at = {name: number for number, line in enumerate(drawn) for name in line.split(" · ")}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (
        [re.findall(r"[\w.]+", layer) for layer in contract["layers"]]
        for contract in contracts["contracts"]
        if contract["name"] == "An import points only downwards"
    )
    held = [[name.removeprefix("agentflow.") for name in layer] for layer in layers]
    assert {name for layer in held for name in layer} == at.keys()
    for upper, lower in pairwise(held):
        assert max(at[name] for name in upper) < min(at[name] for name in lower), (upper, lower)


def test_every_folder_is_told() -> None:
    lines = section("The folders").split("```\n")[1].splitlines()
    told = {match[1] for line in lines if (match := re.match(r"  (\w+(?:/|\.py))  ", line))}
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "agentflow").iterdir()
        if path.name[0] not in "_." and path.name != "py.typed"
    }
    assert told == there


# Files that are named.


@cache
def endings() -> set[str]:
    """Every file's path from any of its folders on, as a text may name it."""
    paths = (path.relative_to(ROOT).parts for path in _files(ROOT))
    return {"/".join(parts[at:]) for parts in paths for at in range(len(parts))}


def _files(folder: Path) -> list[Path]:
    files: list[Path] = []
    for path in folder.iterdir():
        if path.is_dir():
            files += [] if path.name[0] == "." or path.name == "node_modules" else _files(path)
        else:
            files.append(path)
    return files


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda path: str(path.name))
def test_the_files_that_a_document_names_are_there(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"`([\w./-]+\.(?:py|md))(?:::\w+)?`", text))
    assert named - endings() == set()
    links = {link for link in re.findall(r"\]\(([^)#: ]+)(?:#[^)]*)?\)", text) if "/" in link}
    assert {link for link in links if not (page.parent / link).exists()} == set()


def test_the_files_that_docstrings_name_are_there() -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    gone = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, kinds)
        for name in re.findall(r"[\w./-]+\.(?:py|md)\b", ast.get_docstring(node) or "")
        if name not in endings()
    }
    assert gone == set()


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda path: str(path.name))
def test_what_a_document_imports_is_there(page: Path) -> None:
    for module, names in re.findall(
        r"^from (agentflow[\w.]*) import (.+)$", page.read_text(), re.M
    ):
        loaded = __import__(module, fromlist=["*"])
        for name in re.findall(r"\w+", names):
            if not hasattr(loaded, name):
                __import__(f"{module}.{name}")
