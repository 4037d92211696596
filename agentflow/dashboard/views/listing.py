"""A view of one table that a part of a word narrows: the queues, and the workers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, TypeVar

from agentflow.dashboard.reader.effects import Copy, Effect, Export, Prompt
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.table import Table
from agentflow.dashboard.reader.view import View
from agentflow.dashboard.render.separated import separated

T = TypeVar("T")


class Listing(View, Generic[T]):
    """Filters, copies a command and exports; what is drawn is the business of who inherits."""

    looks_at: ClassVar[str]
    """What of a row the filter looks at."""
    drawn: ClassVar[frozenset[str]]
    """Columns that are pictures, and no part of an export."""

    def __init__(self, table: Table[T]) -> None:
        self._table = table
        self._filter = ""

    @property
    def table(self) -> Table[Any]:
        """Its rows."""
        return self._table

    @abstractmethod
    def command(self, row: T) -> str:
        """The command line for the row under the cursor."""

    @abstractmethod
    def exported(self, scene: Scene) -> Iterable[T]:
        """What an export has, in its order."""

    def wanted(self, words: str) -> bool:
        """Whether the filter lets a row of these words through."""
        return self._filter.lower() in words

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Filter, copy, export."""
        match command:
            case "filter" if not argument:
                return [Prompt("/", "filter_set", self._filter, self.looks_at)]
            case "filter" | "filter_set":
                return self._narrow(argument)
            case "back" if self._filter:
                return self._narrow("")
            case "copy_command" if (row := self._table.item()) is not None:
                return [Copy(self.command(row), "the command")]
            case "export":
                told = [each for each in self._table.columns if each.key not in self.drawn]
                rows = [[each.text(row, scene) for each in told] for row in self.exported(scene)]
                text = separated([[each.key for each in told], *rows], "\t")
                return [Export(self.name, "txt", text)]
        return None

    def _narrow(self, text: str) -> list[Effect]:
        self._filter = text
        self._table.invalidate()
        return []

    def targets(self, scene: Scene, act: str) -> list[str]:
        """The marked rows, else the one under the cursor."""
        return self._table.chosen()
