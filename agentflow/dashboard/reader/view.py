"""What a view is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from agentflow.dashboard.reader.effects import Effect
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.table import Table
from agentflow.dashboard.render.lines import Line


class Way(NamedTuple):
    """Where something leads: a command and its argument."""

    command: str
    argument: str = ""


class View(ABC):
    """A view: its name, its body, and the commands that only it knows.

    Only `body` must be there; what else a view does not have is answered here.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @property
    def table(self) -> Table[Any] | None:
        """The table that moving, marking and sorting are about; None: there is none."""
        return None

    @abstractmethod
    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """The lines between the tabs and the key bar; too few are filled up, too many cut."""

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Carry out a command; None: not mine."""
        return None

    def targets(self, scene: Scene, act: str) -> list[str]:
        """What an act would be done to: ids of tasks, names of queues, actors of workers."""
        return []

    def show(self, argument: str) -> None:
        """It is opened, and what of it is to be seen."""
        return

    def chosen(self) -> Way | None:
        """Where `open` leads; None: to the task under the cursor."""
        return None

    def followed(self) -> list[str]:
        """Ids of the tasks whose text is seen."""
        return []

    def wants(self, scene: Scene) -> list[Effect]:
        """Called before each frame: what is to be read that the view lacks."""
        return []

    def close(self) -> None:
        """Its viewer is gone: watch no store any more."""
        return
