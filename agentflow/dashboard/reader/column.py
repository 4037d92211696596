"""A column of a table: what it says of an item, how wide it is, and which of them find room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render import lines as widths
from agentflow.dashboard.render.cells import Cell, GridRow
from agentflow.dashboard.render.lines import Hit, Line, Run, cell

T = TypeVar("T")

GAP: Final = 1
"""Columns of characters between two."""


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column. `text` gets an item and the scene; `sort` what to order by (None: cannot).

    Columns of the highest `drop` leave first where the table is too narrow; those of 0 never do.
    One that `grows` takes what is left over, up to `most` columns. Sorting by one that is `falling`
    puts the highest first.
    """

    key: str
    title: str
    width: int
    text: Callable[[T, Scene], str]
    sort: Callable[[T], Any] | None = None
    token: Callable[[T, Scene], str] | None = None
    right: bool = False
    drop: int = 0
    grows: bool = False
    most: int = 1000
    falling: bool = False


def fit(columns: Sequence[Column[T]], width: int) -> list[tuple[Column[T], int]]:
    """The columns that find room in `width`, with the width of each.

    Where even those that never leave are too wide, the widest is made narrower.
    """
    shown = list(columns)
    need = sum(each.width + GAP for each in shown) - GAP
    while len(shown) > 1 and need > width:
        worst = max(each.drop for each in shown)
        if worst == 0:
            break
        # Of several with the same rank the rightmost goes.
        gone = next(each for each in reversed(shown) if each.drop == worst)
        shown.remove(gone)
        need -= gone.width + GAP
    widths = [each.width for each in shown]
    while need > width and max(widths, default=0) > 1:
        widths[widths.index(max(widths))] -= 1
        need -= 1
    spare = width - need
    growing = [at for at, each in enumerate(shown) if each.grows and each.most > widths[at]]
    while spare > 0 and growing:
        share = max(1, spare // len(growing))
        for at in tuple(growing):
            more = min(share, spare, shown[at].most - widths[at])
            widths[at] += more
            spare -= more
            if widths[at] >= shown[at].most:
                growing.remove(at)
            if spare <= 0:
                break
    return list(zip(shown, widths, strict=True))


def cells(columns: Iterable[Column[T]], item: T, scene: Scene) -> list[Cell]:
    """What a table says of an item, a cell a column."""
    return [
        Cell(
            column.text(item, scene),
            column.token(item, scene) if column.token is not None else "text",
        )
        for column in columns
    ]


def row_line(shown: Sequence[tuple[Column[T], int]], row: GridRow, width: int) -> Line:
    head = ("▌" if row.cursor else " ") + ("*" if row.marked else " ")
    base = "cursor" if row.cursor else "marked" if row.marked else ""
    runs = spaced((head, "mark"), fitted_runs(shown, row.cells), width)
    return Line(runs, base, (Hit(0, width, "row", row.key),))


def fitted_runs(shown: Iterable[tuple[Column[T], int]], said: Iterable[Cell]) -> list[Run]:
    return [
        (cell(each.text, room, column.right), each.token)
        for (column, room), each in zip(shown, said, strict=True)
    ]


def spaced(head: Run, texts: Sequence[Run], width: int) -> tuple[Run, ...]:
    """The cells of a line with a blank between them, filled up to the width."""
    last = len(texts) - 1
    runs = [head, *((text + " ", token) for text, token in texts[:last])]
    runs += texts[last:]
    left = width - sum(widths.columns(text) for text, _ in runs)
    if left > 0:
        runs.append((" " * left, "text"))
    return tuple(runs)


def listed(
    columns: Sequence[Column[T]], items: Iterable[T], width: int, scene: Scene, *, command: str = ""
) -> list[Line]:
    """A table that only shows: heading and rows. `command` with the key of the first column: a hit.

    The rows have the width of a table with a cursor, so that columns stand below each other.
    """
    shown = fit(columns, width - 2)
    titles = [(cell(column.title, room, column.right), "heading") for column, room in shown]
    lines = [Line(spaced(("  ", "heading"), titles, width))]
    for item in items:
        said = cells([column for column, _ in shown], item, scene)
        runs = spaced(("  ", "text"), fitted_runs(shown, said), width)
        hits = (Hit(0, width, command, columns[0].text(item, scene)),) if command else ()
        lines.append(Line(runs, "", hits))
    return lines
