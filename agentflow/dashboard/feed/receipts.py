"""The receipt of an act: how far it has come, in one line that is written anew as it goes on.

It tells what was accepted and what effect has been seen, with the time of each, names what was not
done and why, and says so when an effect does not come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from agentflow.dashboard.reader.scene import Receipt
from agentflow.dashboard.render.amounts import count, span

EVERY: Final = 0.1
"""Seconds between two changes of a receipt, and two looks for its effect."""
NO_EFFECT: Final = 5.0
"""Seconds after which it is said that no effect has been seen."""
NAMED: Final = 3
RECEIPTS: Final = 200


@dataclass(slots=True)
class Progress:
    """How far an act has come. `failed` and `unsure` say why, by target."""

    total: int
    done: str
    waiting: str = ""
    began: float = field(default_factory=time.monotonic)
    accepted: int = 0
    accepted_after: float = 0.0
    seen: int = 0
    seen_after: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)
    given_up: bool = False

    @property
    def passed(self) -> float:
        """Seconds since it was sent."""
        return time.monotonic() - self.began

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.given_up or self.seen + len(self.failed) >= self.total

    @property
    def late(self) -> bool:
        """Whether its effect should have been seen by now."""
        return not self.ended and self.passed - self.accepted_after > NO_EFFECT

    def text(self) -> str:
        """All of it in a line."""
        parts = [self._reached()] if self.seen or not self.failed else []
        if self.late or (self.given_up and self.seen + len(self.failed) < self.total):
            since = span(self.passed - self.accepted_after)
            parts.append(f"no effect for {since}{f': {self.waiting}' if self.waiting else ''}")
        for problems, said in ((self.failed, "not done"), (self.unsure, "not answered")):
            if problems:
                parts.append(_named(problems, self.total, said))
        return "; ".join(parts)

    def _reached(self) -> str:
        of = "" if self.total == 1 else f"{count(self.seen)} "
        if self.ended and self.seen:
            return f"{of}{self.done} after {span(self.seen_after)}"
        if not self.accepted:
            return "sent"
        if self.total == 1:
            return f"accepted after {span(self.accepted_after)}"
        return (
            f"{count(self.accepted)} of {count(self.total)} accepted after "
            f"{span(self.accepted_after)}, {count(self.seen)} {self.done}"
        )

    def token(self) -> str:
        """How good that is."""
        if self.ended and self.seen == self.total:
            return "ok"
        if self.ended and not self.seen:
            return "crit"
        return "warn" if self.failed or self.unsure or self.late or self.given_up else "dim"


def _named(problems: Mapping[str, str], total: int, said: str) -> str:
    if total == 1:
        return f"{said}: {next(iter(problems.values()))}"
    shown = "; ".join(f"{name}: {text}" for name, text in list(problems.items())[:NAMED])
    more = f"; {len(problems) - NAMED:,} more" if len(problems) > NAMED else ""
    return f"{len(problems):,} {said} ({shown}{more})"


class Ticket:
    """A receipt in its list, written anew while its act goes on."""

    def __init__(
        self,
        receipts: list[Receipt],
        at: float,
        command: str,
        progress: Progress,
        touch: Callable[[], None],
    ) -> None:
        self._receipts = receipts
        self._receipt = Receipt(at, command, "sent")
        self._progress = progress
        self._touch = touch
        self._shown = time.monotonic()
        receipts.append(self._receipt)
        del receipts[:-RECEIPTS]
        touch()

    @property
    def due(self) -> bool:
        """Whether it is time to write it anew."""
        return time.monotonic() - self._shown >= EVERY

    def show(self) -> Receipt:
        """Write it as its act stands."""
        self._shown = time.monotonic()
        progress, old = self._progress, self._receipt
        new = Receipt(
            old.at,
            old.command,
            progress.text(),
            progress.token(),
            progress.ended,
            old.at + progress.passed,
        )
        for at in range(len(self._receipts) - 1, -1, -1):
            if self._receipts[at] is old:
                self._receipts[at] = new
        self._receipt = new
        self._touch()
        return new
