"""Lines as the views draw them: runs of text with a token that names their meaning.

A theme turns tokens into styles, the text renderer forgets them. A line has exactly as many columns
as it was made for: wide characters count two, combining ones none. What a text may contain that
terminals do not agree on is taken out where a line is made (`tame`), whoever wrote it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from agentflow.views import display

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


# What may stand in a line.

# Every character of these ranges takes one column, in every terminal and table of widths.
_NARROW: Final = re.compile(
    "[ -~\xa1-\xac\xae-\u02af\u2010-\u2027\u2030-\u205e\u2190-\u2319\u2500-\u25fc\u2713\u2717"
    "\u2800-\u28ff]*"
)
_BREAKS: Final = re.compile("[\t\n\x0b\x0c]")
_LETTERS: Final = {0x1F1E6 + number: chr(ord("A") + number) for number in range(26)}
"""Two regional indicators are a flag here and two letters there."""
_UNSURE: Final = re.compile(
    # Skin tones and the shapes that a character may take: the next terminal draws them apart.
    "[\U0001f3fb-\U0001f3ff\ufe00-\ufe0f\U000e0100-\U000e01ef"
    # Halves of Korean syllables, which some draw into the one before.
    "\u1160-\u11ff\ud7b0-\ud7ff\u3164\uffa0]"
)
_NEWLY_WIDE: Final = re.compile("[\u2630-\u2637\u268a-\u268f\u4dc0-\u4dff\U0001d300-\U0001d376]")
"""One column until Unicode 15, two since."""
_MARKS: Final = 2
"""Combining marks on a character that are kept: more of them run through the lines around."""
_CACHED: Final = 8192
_SHORT: Final = 512
"""Characters of a text that is worth keeping in a cache."""


def tame(text: str) -> str:
    """`text` as it may stand in a line: no control, nothing whose width terminals differ about.

    Line breaks and tabs become blanks. Emoji lose what joins or colours them, scripts of India the
    vowels that take a column of their own here and none there: a line that is one column too long
    tears the whole screen.
    """
    if text.isascii() and text.isprintable():
        return text
    return _tamed(text) if len(text) <= _SHORT else _tamed.__wrapped__(text)


@lru_cache(_CACHED)
def _tamed(text: str) -> str:
    if _NARROW.fullmatch(text):
        return text
    text = _BREAKS.sub(" ", display.safe(text))
    text = _UNSURE.sub("", unicodedata.normalize("NFC", text.translate(_LETTERS)))
    kept: list[str] = []
    marks = _MARKS
    for char in _NEWLY_WIDE.sub("\ufffd", text):
        category = unicodedata.category(char)
        if category in ("Cf", "Mc"):
            continue
        if category in ("Mn", "Me"):
            marks += 1
            if marks > _MARKS:
                continue
        else:
            marks = 0
        kept.append("\ufffd" if category == "Cn" else char)
    return "".join(kept)


def columns(text: str) -> int:
    """How many columns a text takes."""
    if text.isascii():
        return len(text)
    return _columns(text) if len(text) <= _SHORT else display.columns(text)


@lru_cache(_CACHED)
def _columns(text: str) -> int:
    return len(text) if _NARROW.fullmatch(text) else display.columns(text)


def fit(text: str, width: int) -> str:
    """`text` in at most `width` columns; what was cut ends with an ellipsis."""
    if columns(text) <= width:
        return text
    if width <= 0:
        return ""
    if columns(bare := text.rstrip()) <= width:
        return bare  # only blanks were cut
    if text.isascii():
        return text[: width - 1].rstrip() + "…"
    return display.fit(text, width)


def cell(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly `width` columns, in one line and safe for a terminal."""
    if len(text) > 4 * width + 80:
        text = text[: 4 * width + 80]  # more than can be seen need not be looked at
    if not (text.isascii() and text.isprintable()):
        text = tame(text)
    size = columns(text)
    if size > width:
        text = fit(text, width)
        size = columns(text)
    if size == width:
        return text
    return " " * (width - size) + text if right else text + " " * (width - size)


# Lines.


def line(*runs: Run | str, base: str = "", hits: Iterable[Hit] = ()) -> Line:
    """A line of runs; a bare string has the token `text`."""
    made = tuple((run, "text") if isinstance(run, str) else run for run in runs)
    return Line(made, base, tuple(hits))


def clip(whole: Line, width: int) -> Line:
    """The line with exactly `width` columns: cut with an ellipsis, or filled with blanks."""
    left = width
    runs: list[Run] = []
    for text, token in whole.runs:
        if len(text) > 4 * left + 80:
            text = text[: 4 * left + 80]
        text = tame(text)
        size = columns(text)
        if size > left:
            text = fit(text, left)
            size = columns(text)
            if text:
                runs.append((text, token))
            left -= size
            break
        runs.append((text, token))
        left -= size
    if left > 0:
        runs.append((" " * left, "text"))
    hits = whole.hits
    if hits and hits[-1].end > width:
        hits = tuple(hit._replace(end=min(hit.end, width)) for hit in hits if hit.begin < width)
    return Line(tuple(runs), whole.base, hits)


def dimmed(bright: Line) -> Line:
    """The line as something that is no longer sure."""
    return bright._replace(runs=tuple((text, "dim") for text, _ in bright.runs))


def size_of(whole: Line) -> int:
    """How many columns a line has."""
    return sum(columns(text) for text, _ in whole.runs)


def rule(title: str, width: int, right: str = "", *, glyph: str = "─", token: str = "rule") -> Line:
    """A heading: a rule with a title on its left and a remark on its right.

    Where there is no room for both the remark goes, then the end of the title.
    """
    title, right = tame(title), tame(right)
    room = width - columns(title) - 4
    if room < 0:
        title = fit(title, max(0, width - 4))
        room = max(0, width - columns(title) - 4)
    runs: list[Run] = [(f"{glyph} ", token), (title, "title"), (" ", token)] if title else []
    if not title:
        room = width - 1
    room += 1
    tail = columns(right) + 3
    if right and tail < room:
        runs += [(glyph * (room - tail), token), (f" {right} ", "dim"), (glyph, token)]
    else:
        runs.append((glyph * room, token))
    return clip(Line(tuple(runs)), width)


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
        at += size_of(part)
    return clip(Line(tuple(runs), "", tuple(hits)), width)


def fitted(parts: Iterable[Line], width: int, gap: int = 3) -> Line:
    """As many of the parts, the most wanted first, as find room beside each other."""
    shown: list[Line] = []
    left = width
    for part in parts:
        size = size_of(part) + (gap if shown else 0)
        if size <= left:
            shown.append(part)
            left -= size
    return columns_of(shown, width, gap)


# Text of several lines.


def wrap(text: str, width: int) -> list[str]:
    """Text in lines of at most `width` columns, broken at blanks where there are any.

    Line breaks stay, tabs become four blanks, what a terminal would obey is taken out.
    """
    lines: list[str] = []
    for raw in display.safe(text).replace("\t", "    ").split("\n"):
        lines += _wrapped(tame(raw), max(1, width))
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    # By places, not by cutting: a result may be one line of four megabytes.
    lines: list[str] = []
    at, last, narrow = 0, len(text), text.isascii()
    while (end := min(last, at + width) if narrow else _fitting(text, at, width)) < last:
        blank = text.rfind(" ", at, end + 1)
        if blank > at and text[at:blank].strip():
            lines.append(text[at:blank])
            at = blank + 1
        else:
            lines.append(text[at:end])
            at = end
    lines.append(text[at:])
    return lines


def _fitting(text: str, start: int, width: int) -> int:
    """Where the characters from `start` end that fit into `width` columns; at least one does."""
    used = 0
    for at in range(start, len(text)):
        char = text[at]
        used += 1 if char < "\x80" else display.columns(char)
        if used > width:
            return max(start + 1, at)
    return len(text)


# Terminals that know ASCII only.

_ASCII: Final = str.maketrans(
    {
        **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
        **dict.fromkeys("▏▎▍▌▋▊▉", "|"),
        **dict(zip("─│┤├└┌┐┘╌·…‖×", "-|||`.,'-..=x", strict=True)),
        **dict(zip("▲▼◀▶›‹↑↓←→▾▸", "^v<>><^v<>v>", strict=True)),
        **dict(zip("●○◌◷◐✓✗⊘■□▨◧▪", "*o~@%+x-#.%=.", strict=True)),
        **dict(zip("“”‘’–—", "\"\"''--", strict=True)),
    }
)
_FOREIGN: Final = re.compile("[^ -~]")


def in_ascii(whole: Line) -> Line:
    """The line in ASCII, column by column; letters that ASCII lacks become question marks."""
    runs = tuple(
        (text if text.isascii() else _ascii_text(text), token) for text, token in whole.runs
    )
    return whole._replace(runs=runs)


@lru_cache(_CACHED)
def _ascii_text(text: str) -> str:
    return _FOREIGN.sub(_ascii_char, text.translate(_ASCII))


def _ascii_char(match: re.Match[str]) -> str:
    char = match.group()
    if "\u2800" <= char <= "\u28ff":  # dots of a chart: the more, the darker
        return " .:;+*##@"[(ord(char) - 0x2800).bit_count()]
    return "?" * display.columns(char)
