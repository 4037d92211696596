"""Lines as plain text: for `--once`, for golden tests, for whoever reads by ear."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agentflow.dashboard.render.lines import Line
from agentflow.dashboard.screen.dashboard import NARROWEST, SHORTEST, Dashboard

UNSEEN: Final = 2
"""Lines of a screen that are left out."""


def text(lines: Iterable[Line]) -> str:
    """Lines without tokens, and without the blanks at their ends."""
    return "\n".join(line.text.rstrip() for line in lines)


def picture(dash: Dashboard, width: int, height: int, now: float) -> str:
    """What the screen would show, without what only somebody who sits there needs: tabs and keys.

    The height is the most that is used: blank lines at the end are left out.
    """
    if width < NARROWEST or height + UNSEEN < SHORTEST:
        return text(dash.frame(width, height, now)).rstrip()
    status, _, *rest, _ = dash.frame(width, height + UNSEEN, now)
    return text(_bare(line) for line in (status, *rest)).rstrip()


def _bare(line: Line) -> Line:
    """The line without a cursor, and without the key that leads to the help."""
    runs = (
        (" " * len(text), token) if token == "mark" else (text, token)
        for text, token in line.runs
        if token != "key" or line.base != "status"
    )
    return line._replace(runs=tuple(runs))
