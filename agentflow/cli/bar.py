"""The progress bar of a job, and below it what its tasks wait for. Imports rich: load it late."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

_ROOM: Final = 3
"""Columns left free: a terminal writes ^C behind the last line, and where that is full it goes to
the next one, so that what is drawn again is drawn elsewhere."""
_NARROW: Final = 100
"""Columns below which the tokens are left out: the counts must not be cut."""


class Bar(Progress):
    """One bar, and a line under it."""

    def __init__(self, total: int, mark: str, fields: dict[str, Any]) -> None:
        self.line = ""
        console = Console(stderr=True)
        tokens = "" if console.width < _NARROW else "{task.fields[tokens]} tok "
        super().__init__(
            TextColumn(mark + "{task.completed:>,}/{task.total:,}"),
            BarColumn(bar_width=None),
            TextColumn(
                "[green]{task.fields[succeeded]} ok[/] [red]{task.fields[failed]} failed[/]"
            ),
            TextColumn("{task.fields[running]} running"),
            TextColumn(tokens + "{task.fields[cost]}"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
            refresh_per_second=8,
        )
        self._whole = self.add_task("", total=total, **fields)

    def show(self, done: int, fields: dict[str, Any]) -> None:
        """How far it is."""
        self.update(self._whole, completed=done, **fields)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar and the line."""
        yield from (_Narrower(each) for each in super().get_renderables())
        if self.line:
            yield _Narrower(Text(self.line, style="yellow", overflow="fold"))


class _Narrower:
    """Something, with room behind it that holds nothing, not even blanks."""

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._inner, options.update_width(options.max_width - _ROOM))
