"""A table as data: headings and rows of cells. The terminal fits them into columns of characters, a
page makes a table of them.
"""

from __future__ import annotations

import msgspec


class Cell(msgspec.Struct, frozen=True, gc=False):
    """What a table says in one place; `token` names its meaning, as in a line's run."""

    text: str
    token: str = "text"


class Heading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A column. `right`: numbers, which end below each other. `sorts`: it can be sorted by, and
    `falling`: the highest first.

    `width` are characters; where there is no room those of the highest `drop` leave first and those
    of 0 never; one that `grows` takes what is left over, up to `most`.
    """

    key: str
    title: str
    right: bool = False
    sorts: bool = False
    falling: bool = False
    width: int = 0
    drop: int = 0
    grows: bool = False
    most: int = 1000


class GridRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row and whether it is under the cursor or marked; `key` is what commands name it by."""

    key: str
    cells: list[Cell]
    cursor: bool = False
    marked: bool = False


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Rows from the place `first` on, of `total`; `sort` is the key of the column they go by."""

    headings: list[Heading]
    rows: list[GridRow]
    first: int
    total: int
    sort: str
    reverse: bool
