"""The progress bar of a job, and below it what its tasks wait for. Imports rich: load it late."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text


class Bar(Progress):
    """One bar, and a line under it."""

    def __init__(self, total: int, mark: str, fields: dict[str, Any]) -> None:
        self.line = ""
        super().__init__(
            TextColumn(mark + "{task.completed:>,}/{task.total:,}"),
            BarColumn(bar_width=None),
            TextColumn(
                "[green]{task.fields[succeeded]} ok[/] [red]{task.fields[failed]} failed[/]"
            ),
            TextColumn("{task.fields[running]} running"),
            TextColumn("{task.fields[tokens]} tok {task.fields[cost]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            expand=True,
            refresh_per_second=8,
        )
        self._whole = self.add_task("", total=total, **fields)

    def show(self, done: int, fields: dict[str, Any]) -> None:
        """How far it is."""
        self.update(self._whole, completed=done, **fields)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar and the line."""
        yield from super().get_renderables()
        if self.line:
            yield Text(self.line, style="yellow", overflow="fold")
