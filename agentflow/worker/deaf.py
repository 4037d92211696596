"""Handlers that do not end although their run is over.

A coroutine is cancelled by an exception, which it may swallow: a bare `except` round a request is
enough. What became of its attempt is then written without it. From there on it is fenced: what it
reports or asks goes nowhere. Nobody can end it, so its slot is lost until it ends by itself, and
its worker says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from agentflow.worker.held import Held, Holding

_log = logging.getLogger(__name__)

TELL_AFTER: Final = 2.0
"""Seconds in which a handler may clean up after its run before anybody is told."""
LEAVE_AFTER: Final = 4.0
"""Seconds after which its attempt ends without it: less than a worker that stops has to write."""
EVERY: Final = 0.5
SHOWN: Final = 5


class LeftBehind(Exception):
    """The handler has ended, long after its attempt."""


class Deaf:
    """Watches the runs of one worker; `leave` goes on with a message without its handler."""

    def __init__(self, holding: Holding, leave: Callable[[Held], None]) -> None:
        self._holding = holding
        self._leave = leave
        self._lost: dict[Held, tuple[str, str, float]] = {}

    def __len__(self) -> int:
        return len(self._lost)

    async def watch(self) -> None:
        """Look after all runs; runs until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            now = time.monotonic()
            for held in self._holding:
                if held.over_at is None or now < held.over_at + TELL_AFTER:
                    continue
                if not held.told:
                    held.told = True
                    self._tell(held, now - held.over_at)
                if now >= held.over_at + LEAVE_AFTER:
                    self._lose(held, now)

    def _tell(self, held: Held, late: float) -> None:
        _log.warning(
            "task %s: its handler (kind %s) does not hear its cancellation, %.0f s after its run "
            "was over (%s); an `except:` round an await does that",
            held.id,
            held.kind,
            late,
            held.ending or "timeout",
            extra=_facts(held),
        )

    def _lose(self, held: Held, now: float) -> None:
        self._lost[held] = (held.id, held.kind, now)
        _log.error(
            "task %s: its handler (kind %s) does not end, and is left behind; its slot is lost "
            "until it ends or the worker is restarted",
            held.id,
            held.kind,
            extra=_facts(held),
        )
        self._leave(held)

    def ended(self, held: Held) -> None:
        """A handler has ended after all: its slot is free again."""
        lost = self._lost.pop(held, None)
        if lost is not None:
            task_id, _, since = lost
            late = time.monotonic() - since
            _log.warning("task %s: its handler has ended, %.1f s late", task_id, late)

    def notes(self) -> list[str]:
        """What a person should know of."""
        notes = []
        late = [held for held in self._holding if held.told]
        if late:
            notes.append(f"the handler of {_named(late)} does not hear its cancellation")
        if self._lost:
            names = [f"{task_id} ({kind})" for task_id, kind, _ in self._lost.values()]
            more = ", ..." if len(names) > SHOWN else ""
            count = f"{len(names)} slot{'s are' if len(names) > 1 else ' is'} lost"
            notes.append(
                f"{count} to handlers that do not hear their cancellation: "
                f"{', '.join(names[:SHOWN])}{more}; restart this worker to have them back"
            )
        return notes


def _named(late: list[Held]) -> str:
    more = ", ..." if len(late) > SHOWN else ""
    return ", ".join(f"{held.id} ({held.kind})" for held in late[:SHOWN]) + more


def _facts(held: Held) -> dict[str, object]:
    attempt = held.run.attempt if held.run is not None else None
    return {"action": "deaf", "task_id": held.id, "attempt": attempt, "kind": held.kind}
