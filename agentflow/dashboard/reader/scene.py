"""What a view is given to draw and to answer with, and what a view is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from agentflow.dashboard.reader.effects import Effect
from agentflow.dashboard.reader.lately import SECOND
from agentflow.dashboard.render import amounts
from agentflow.dashboard.render.lines import Line
from agentflow.dashboard.store.store import Store
from agentflow.protocol.record import Record
from agentflow.protocol.task import TaskBody

if TYPE_CHECKING:
    from agentflow.dashboard.reader.table import Table

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, as far as a list needs it; `at` is when the task failed."""

    id: str
    queue: str
    kind: str
    reason: str
    error: str
    fingerprint: str
    attempts: int
    at: float
    labels: dict[str, str]
    truncated: bool = False


@dataclass(slots=True)
class Answers:
    """What was asked for beside the feed (`effects.Fetch`), as far as it came."""

    logs: dict[str, list[tuple[int, Record]]] = field(default_factory=dict)
    prompts: dict[str, TaskBody | None] = field(default_factory=dict)
    whys: dict[str, str] = field(default_factory=dict)
    letters: list[Letter] | None = None
    problems: dict[tuple[str, str], str] = field(default_factory=dict)
    """What could not be read and why, by what was asked for and id."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an act: what was asked, what is known of it, and whether that is its end.

    `token` is `ok`, `warn`, `crit` or `dim`; `changed` is when that became known, `at` when it
    began.
    """

    at: float
    command: str
    text: str
    token: str = "dim"
    ended: bool = False
    changed: float = 0.0


@dataclass(slots=True)
class Scene:
    """The world and the moment. `live` is False while another time is looked at.

    `zone` is the reader's; None: that of this machine.
    """

    store: Store
    now: float
    answers: Answers
    receipts: list[Receipt]
    ascii: bool = False
    readonly: bool = False
    live: bool = True
    zone: tzinfo | None = None

    def clock(self, seconds: float | None) -> str:
        """An instant as the reader's time of day."""
        return amounts.clock(seconds, self.zone)

    def lately(self, key: object, make: Callable[[], T], every: float = SECOND) -> T:
        """An answer about the store that is made anew at most so often (seconds)."""
        return self.store.lately.get(key, self.now, self.store.revision, make, every)

    def glyph(self, state: str) -> str:
        """A sign for a state; its word stands beside it, so no sign must be known."""
        return (ASCII_GLYPHS if self.ascii else GLYPHS).get(state, "?")


GLYPHS = {
    "queued": "○",
    "scheduled": "◷",
    "retrying": "◌",
    "running": "●",
    "succeeded": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "busy": "■",
    "idle": "□",
    "draining": "▨",
    "lost": "×",
    "open": "●",
    "paused": "‖",
    "unserved": "▲",
    "crit": "▲",
    "warn": "●",
}
ASCII_GLYPHS = {
    "queued": "o",
    "scheduled": "@",
    "retrying": "~",
    "running": "*",
    "succeeded": "+",
    "failed": "x",
    "cancelled": "-",
    "busy": "#",
    "idle": ".",
    "draining": "%",
    "lost": "X",
    "open": "*",
    "paused": "=",
    "unserved": "!",
    "crit": "!",
    "warn": "*",
}


class Way(NamedTuple):
    """Where `open` leads: a command and its argument."""

    command: str
    argument: str = ""


class View(Protocol):
    """A view: its name, its body, and the commands that only it knows.

    It may have more: `show(argument)` when it is opened, `chosen()` what `open` means,
    `followed()` ids of the tasks whose text is seen, and `wants(scene)`, called before each frame
    for the effects that read what it lacks.
    """

    name: str
    title: str

    @property
    def table(self) -> Table[Any] | None:
        """The table that moving, marking and sorting are about."""

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """The lines between the tabs and the key bar; too few are filled up, too many cut."""

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Carry out a command; None: not mine."""

    def targets(self, scene: Scene, act: str) -> list[str]:
        """What an act would be done to: ids of tasks, names of queues, actors of workers."""
