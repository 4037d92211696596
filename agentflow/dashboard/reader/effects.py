"""What a key asks the outside to do. The model never does it itself; the app does, and tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Quit:
    """End the dashboard."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Ask for a line of text, beginning with `value`; the answer comes as the command `answer`."""

    label: str
    answer: str
    value: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Choose:
    """Let the person choose one of some commands: (command, argument, title)."""

    title: str
    options: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """Put text into the clipboard."""

    text: str
    what: str


@dataclass(frozen=True, slots=True)
class Export:
    """Write text to a file whose name begins so."""

    stem: str
    suffix: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """Show text in the person's pager."""

    text: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read what the feed does not tell: the answer is folded in when it is there.

    `log`: the whole log of a task and its prompt; `why`: why it waits; `letters`: the dead letters.
    """

    what: Literal["log", "why", "letters"]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Confirm:
    """Show what would be done to what, and do it when the person says so (see acts.py)."""

    act: str
    targets: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submit:
    """Open the form for a new task."""


@dataclass(frozen=True, slots=True)
class Travel:
    """Go to another time: `to` seconds since 1970, a `step` of records, a `leap` of seconds from
    where one is or is on the way to, or `live` again.
    """

    to: float | None = None
    step: int = 0
    live: bool = False
    leap: float = 0.0


Effect = Quit | Prompt | Choose | Copy | Export | Page | Fetch | Confirm | Submit | Travel
