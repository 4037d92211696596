"""Lines as the model draws them: runs of text with a token that names their meaning.

A theme turns tokens into styles, the text renderer forgets them. A line has exactly as many columns
as it was made for: wide characters count two, combining ones none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from agentflow.rules import display

Run = tuple[str, str]
"""Text and token."""


class Hit(NamedTuple):
    """Columns of a line that can be clicked, and the command that they stand for."""

    begin: int
    end: int
    command: str
    argument: str = ""


class Line(NamedTuple):
    """One line; `base` is the token under all of its runs, e.g. `cursor`."""

    runs: tuple[Run, ...]
    base: str = ""
    hits: tuple[Hit, ...] = ()

    @property
    def text(self) -> str:
        """The line without its tokens."""
        return "".join(text for text, _ in self.runs)


EMPTY: Final = Line(())


def line(*runs: Run | str, base: str = "", hits: Iterable[Hit] = ()) -> Line:
    """A line of runs; a bare string has the token `text`."""
    made = tuple((run, "text") if isinstance(run, str) else run for run in runs)
    return Line(made, base, tuple(hits))


def clip(found: Line, width: int) -> Line:
    """The line with exactly `width` columns: cut with an ellipsis, or filled with blanks."""
    left = width
    runs: list[Run] = []
    for text, token in found.runs:
        columns = display.columns(text)
        if columns > left:
            cut = display.fit(text, left)
            runs.append((cut, token))
            left -= display.columns(cut)
            break
        runs.append((text, token))
        left -= columns
    if left > 0:
        runs.append((" " * left, "text"))
    return Line(tuple(runs), found.base, found.hits)


def cell(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly `width` columns, safe for a terminal."""
    text = display.one_line(text, width)
    blanks = " " * (width - display.columns(text))
    return blanks + text if right else text + blanks


def rule(title: str, width: int, right: str = "", *, glyph: str = "─", token: str = "rule") -> Line:
    """A heading: a rule with a title on its left and a remark on its right."""
    head = f"{glyph} {title} " if title else ""
    tail = f" {right} {glyph}" if right else ""
    room = width - display.columns(head) - display.columns(tail)
    if room < 1:
        head, tail = display.fit(head, max(0, width - 1)), ""
        room = width - display.columns(head)
    runs: list[Run] = []
    if title:
        runs += [(f"{glyph} ", token), (title, "title"), (" ", token)]
        if room <= 0 or (not tail and display.columns(head) < display.columns(title) + 3):
            runs = [(head, "title")]
    runs.append((glyph * max(0, room), token))
    if tail:
        runs += [(f" {right} ", "dim"), (glyph, token)]
    return Line(tuple(runs))


def columns_of(parts: Iterable[Line], width: int, gap: int = 2) -> Line:
    """Lines beside each other, each already clipped, in one of `width` columns."""
    runs: list[Run] = []
    hits: list[Hit] = []
    at = 0
    for part in parts:
        if runs:
            runs.append((" " * gap, "text"))
            at += gap
        hits += [hit._replace(begin=hit.begin + at, end=hit.end + at) for hit in part.hits]
        runs += part.runs
        at += sum(display.columns(text) for text, _ in part.runs)
    return clip(Line(tuple(runs), "", tuple(hits)), width)


def wrap(text: str, width: int) -> list[str]:
    """Text in lines of at most `width` columns, broken at blanks where there are any.

    Line breaks stay, tabs become four blanks, what a terminal would obey is taken out.
    """
    found: list[str] = []
    for raw in display.safe(text).replace("\t", "    ").split("\n"):
        found += _wrapped(raw, max(1, width))
    return found


def _wrapped(text: str, width: int) -> list[str]:
    # By places, not by cutting: a result may be one line of four megabytes.
    found: list[str] = []
    at, last, narrow = 0, len(text), text.isascii()
    while (end := min(last, at + width) if narrow else _fitting(text, at, width)) < last:
        blank = text.rfind(" ", at, end + 1)
        if blank > at and text[at:blank].strip():
            found.append(text[at:blank])
            at = blank + 1
        else:
            found.append(text[at:end])
            at = end
    found.append(text[at:])
    return found


def _fitting(text: str, start: int, width: int) -> int:
    """Where the characters from `start` end that fit into `width` columns; at least one does."""
    used = 0
    for at in range(start, len(text)):
        char = text[at]
        used += 1 if char < "\x80" else display.columns(char)
        if used > width:
            return max(start + 1, at)
    return len(text)
