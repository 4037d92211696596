"""What a view is given to draw and to answer with: a picture and the moment that it is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import TypeVar

from agentflow.dashboard.reader.lately import SECOND, Lately
from agentflow.dashboard.reader.tokens import Texts
from agentflow.dashboard.render import amounts
from agentflow.dashboard.store.store import Store
from agentflow.protocol.record import Record
from agentflow.protocol.task import TaskBody

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
    """The world and the moment, as one viewer sees them. `live` is False at another time.

    `texts` are those that the viewer follows; `recent` are answers about this picture that need not
    be new ten times a second. `zone` is the viewer's; None: that of this machine.
    """

    store: Store
    now: float
    answers: Answers
    receipts: list[Receipt]
    texts: Texts = field(default_factory=Texts)
    recent: Lately = field(default_factory=Lately)
    ascii: bool = False
    readonly: bool = False
    live: bool = True
    zone: tzinfo | None = None

    def clock(self, seconds: float | None) -> str:
        """An instant as the reader's time of day."""
        return amounts.clock(seconds, self.zone)

    def zone_name(self, seconds: float) -> str:
        """What the zone of all times of day is called."""
        return datetime.fromtimestamp(seconds, UTC).astimezone(self.zone).tzname() or ""

    def lately(self, key: object, make: Callable[[], T], every: float = SECOND) -> T:
        """An answer about the store that is made anew at most so often (seconds)."""
        return self.recent.get(key, self.now, self.store.revision, make, every)

    def glyph(self, state: str) -> str:
        """A sign for a state; its word stands beside it, so no sign must be known."""
        return (ASCII_GLYPHS if self.ascii else GLYPHS).get(state, "?")


GLYPHS = {
    "queued": "○",
    "scheduled": "◷",
    "retrying": "◌",
    "waiting": "◒",
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
    "waiting": "=",
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
