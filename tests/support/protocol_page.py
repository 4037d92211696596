"""docs/protocol.md taken apart: its blocks, its sections, its tables."""

from __future__ import annotations

import re

from tests.support import tools
from tests.support.pages import Block, blocks

__all__ = ["BLOCKS", "Block", "blocks"]

PAGE = tools.ROOT / "docs" / "protocol.md"
WORKER = tools.ROOT / "examples" / "worker_without_agentflow.py"


BLOCKS = blocks(PAGE)


def section(title: str) -> str:
    """The text below a heading, up to the next one of its rank."""
    text = PAGE.read_text(encoding="utf-8")
    begins = re.search(rf"^(#+) {re.escape(title)}\n", text, re.M)
    assert begins is not None, title
    ends = re.compile(rf"^#{{1,{len(begins[1])}}} ", re.M).search(text, begins.end())
    return prose(text[begins.end() : ends.start() if ends else None])


def prose(text: str) -> str:
    """A text without its blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def rows(title: str) -> list[list[str]]:
    """The rows of all tables below a heading, without their heads."""
    found: list[list[str]] = []
    for table in re.findall(r"(?:^\|.*\n)+", section(title), re.M):
        for line in table.splitlines()[2:]:
            found.append([cell.strip() for cell in line[1:-1].split("|")])
    return found


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def first_names(title: str) -> list[str]:
    return [name for row in rows(title) for name in re.findall(r"`([^`]+)`", row[0])]
