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
    """A column. `right`: numbers, which end below each other. `sorts`: it can be sorted by."""

    key: str
    title: str
    right: bool = False
    sorts: bool = False


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
