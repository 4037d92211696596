"""A text that is read: scrolled, followed, wrapped or not, and searched. Lines come from its owner.

`less` is the example: moving up leaves the end, and only the end itself or `f` goes back to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentflow.dashboard.render.lines import EMPTY, Line, Run, clip
from agentflow.views import display, pattern
from agentflow.views.pattern import Pattern

SIDE: Final = 8
"""Columns of one step to the side."""

Sheet = Sequence["str | Line"]
"""The lines of a text; a bare string has the token `text`."""


class Pane:
    """One text's window. `follow`: it stays at the end while the text grows."""

    def __init__(self, *, follow: bool = False) -> None:
        self.top = 0
        self.left = 0
        self.follow = follow
        self.wrap = True
        self.height = 1
        self.count = 0
        self.matches: list[int] = []
        """Lines in which the search finds something."""
        self.pattern: Pattern | None = None
        self.said = ""
        """Which match was gone to, of how many."""
        self._at = -1
        """The line of the match that was gone to."""

    # Moving.

    def move(self, lines: int) -> None:
        """Scroll by lines."""
        if lines < 0:
            self.follow = False
        self.top = min(self._last, max(0, self.top + lines))

    def end(self, sign: int) -> None:
        """To the beginning, or to the end and on with it."""
        self.follow = sign > 0
        self.top = self._last if sign > 0 else 0

    def side(self, sign: int) -> None:
        """To the left or right, where lines are not wrapped."""
        self.left = max(0, self.left + sign * SIDE)

    @property
    def _last(self) -> int:
        return max(0, self.count - self.height)

    # Searching.

    def search(self, text: str) -> None:
        """Look for a pattern, or for the text itself where it is none; "": no more."""
        self._at, self.said = -1, ""
        if not text:
            self.pattern = None
            return
        try:
            self.pattern = pattern.compile(text)
        except pattern.PatternError:
            self.pattern = pattern.compile(text[: pattern.MOST], literal=True)

    def next(self, step: int, sheet: Sheet) -> None:
        """Go to the next match or the one before; `said` tells which it is."""
        if self.pattern is None:
            return
        find = self.pattern.found
        self.matches = [at for at, line in enumerate(sheet) if find(plain(line))]
        if not self.matches:
            self.said = "not found"
            return
        here = self._at if self._at >= 0 else self.top - (step > 0)
        later = [at for at in self.matches if (at > here if step > 0 else at < here)]
        if step > 0:
            self._at = later[0] if later else self.matches[0]
        else:
            self._at = later[-1] if later else self.matches[-1]
        self.follow = False
        self.count = len(sheet)
        self.top = min(self._last, max(0, self._at - self.height // 3))
        self.said = f"{self.matches.index(self._at) + 1}/{len(self.matches)}"

    # Drawing.

    def lines(self, sheet: Sheet, width: int, height: int) -> list[Line]:
        """What is seen: exactly `height` lines of `width` columns."""
        self.height, self.count = max(1, height), len(sheet)
        self.top = self._last if self.follow else min(self.top, self._last)
        shown = [self._drawn(line, width) for line in sheet[self.top : self.top + self.height]]
        blank = clip(EMPTY, width)
        return (shown + [blank] * height)[:height]

    def _drawn(self, source: str | Line, width: int) -> Line:
        line = Line(((source, "text"),)) if isinstance(source, str) else source
        if self.left and not self.wrap:
            line = _shifted(line, self.left)
        return clip(marked(line, self.pattern), width)


def plain(line: str | Line) -> str:
    """A line's text."""
    return line if isinstance(line, str) else line.text


def marked(line: Line, wanted: Pattern | None) -> Line:
    """The line with what a search finds in it as runs of the token `match`."""
    if wanted is None or not wanted.found(line.text):
        return line
    spans = list(wanted.spans(line.text))
    runs: list[Run] = []
    at = 0
    for text, token in line.runs:
        inside = 0
        for begin, end in spans:
            begin, end = max(begin - at, inside), min(end - at, len(text))
            if begin >= end:
                continue
            runs += [(text[inside:begin], token), (text[begin:end], "match")]
            inside = end
        runs.append((text[inside:], token))
        at += len(text)
    return line._replace(runs=tuple(run for run in runs if run[0]))


def _shifted(line: Line, columns: int) -> Line:
    runs: list[Run] = []
    for text, token in line.runs:
        while text and columns > 0:
            columns -= display.columns(text[0])
            text = text[1:]
        if text:
            runs.append((text, token))
    return line._replace(runs=tuple(runs), hits=())
