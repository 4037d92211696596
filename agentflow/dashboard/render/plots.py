"""Charts of characters: areas of braille dots, two values a column and four steps a line. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from agentflow.dashboard.render.lines import Line, cell, clip, line

_LEFT: Final = (0x40, 0x04, 0x02, 0x01)
_RIGHT: Final = (0x80, 0x20, 0x10, 0x08)
_LABEL: Final = 6


def ceiling(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 ... above a value, for the top of an axis."""
    if value <= 0:
        return 1.0
    step = 1.0
    while step < value:
        step *= 10
    while step >= 10 * value:
        step /= 10
    return next(
        each for each in (step / 10, step / 5, step / 2, step) if each >= value or each == step
    )


def area(values: Sequence[float], top: float, rows: int) -> list[str]:
    """The area under the values in `rows` lines, half as many columns as there are values.

    What is more than nothing has a dot at least.
    """
    steps = rows * 4
    heights = [
        min(steps, max(1, round(value / top * steps))) if value > 0 and top > 0 else 0
        for value in values
    ]
    if len(heights) % 2:
        heights.insert(0, 0)
    lines = []
    for row in range(rows - 1, -1, -1):
        text = ""
        for at in range(0, len(heights), 2):
            dots = 0
            for height, bits in ((heights[at], _LEFT), (heights[at + 1], _RIGHT)):
                dots |= sum(bits[: min(4, max(0, height - 4 * row))])
            text += chr(0x2800 + dots) if dots else " "
        lines.append(text)
    return lines


def chart(
    title: str,
    now: str,
    values: Sequence[float],
    width: int,
    rows: int,
    *,
    label: Callable[[float], str],
    token: str = "spark",
) -> list[Line]:
    """A chart with its title, the present value, and an axis: `rows` lines and one above them.

    The newest values that find room are drawn, at the right.
    """
    room = max(2, width - _LABEL - 1)
    shown = list(values)[-2 * room :]
    highest = max(shown, default=0.0)
    top = ceiling(highest)
    drawn = area(shown, top, rows)
    lines = [clip(line((f" {title}  ", "dim"), (now, "bold")), width)]
    for at, text in enumerate(drawn):
        name = label(0) if at == rows - 1 else label(top) if at == 0 and highest > 0 else ""
        axis = "┤" if name else "│"
        lines.append(
            clip(line((cell(name, _LABEL - 1, True), "dim"), (axis, "rule"), (text, token)), width)
        )
    return lines
