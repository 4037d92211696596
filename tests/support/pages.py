"""The pages of the documentation, and their blocks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.support.tools import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


class Block(NamedTuple):
    """A fenced block: its language, what follows that, the line it begins at, its text."""

    language: str
    note: str
    line: int
    text: str
    section: str


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    found: list[Block] = []
    section, open_at, info, lines = "", 0, "", list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if open_at:
                language, _, note = info.partition(" ")
                found.append(Block(language, note, open_at, "\n".join(lines) + "\n", section))
                open_at = 0
            else:
                open_at, info, lines = number, line[3:], []
        elif open_at:
            lines.append(line)
        elif line.startswith("#"):
            section = line.lstrip("# ")
    assert not open_at, f"the block of line {open_at} does not end"
    return found
