"""Whether anything of a paused queue or kind still runs, from what the workers say. Pure.

A worker learns of a pause at once but may have a claim under way, so only heartbeats count that
came a moment after the pause, and one of every worker. A worker that has fallen silent runs nothing
as far as anybody can tell: what it ran is taken up by another, which finds the pause.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from agentflow.protocol import limits
from agentflow.protocol.api import GateView
from agentflow.protocol.control import Heartbeat

SETTLE: Final = 0.5
"""Seconds in which a claim that was under way at the pause is stored, and counted."""
LISTEN: Final = limits.HEARTBEAT + 0.5
"""Seconds in which every worker that lives has said so."""


class Heard(msgspec.Struct, frozen=True):
    """A worker's last heartbeat, and how many seconds after the pause (or before) it came."""

    at: float
    beat: Heartbeat


class Busy(msgspec.Struct, frozen=True):
    """A worker that runs tasks of what is drained."""

    name: str
    actor: str
    host: str
    running: int


class DrainView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a drain is. `done`: nothing runs, and nothing will until the pause is lifted.

    `waiting` is what lies in a drained queue, parked tasks included; None where no master tells.
    """

    gate: GateView
    done: bool = False
    running: int = 0
    workers: list[Busy] = []
    silent: list[Busy] = []
    waiting: int | None = None


def running_of(beat: Heartbeat, queue: str | None, kind: str | None) -> int:
    """How many tasks of a queue, or of a kind, a worker runs."""
    if not beat.work and beat.running:
        # An older worker: it names 200 tasks at most, and the rest may be anything.
        named = sum(queue == task.queue or kind == task.kind for task in beat.tasks)
        return named + max(0, beat.running - len(beat.tasks))
    return sum(
        count
        for each, kinds in beat.work.items()
        for one, count in kinds.items()
        if queue == each or kind == one
    )


def view(
    gate: GateView, heard: Iterable[Heard], now: float, queue: str | None, kind: str | None
) -> DrainView:
    """How far it is, `now` seconds after the pause."""
    busy: list[Busy] = []
    silent: list[Busy] = []
    complete = now >= SETTLE + LISTEN
    for each in heard:
        beat = each.beat
        if beat.interval_s <= 0:
            continue  # it said goodbye
        found = Busy(beat.name, beat.actor, beat.host, running_of(beat, queue, kind))
        if now - each.at > limits.LOST_AFTER:
            silent += [found] if found.running else []
            continue
        busy += [found] if found.running else []
        complete = complete and each.at >= SETTLE
    running = sum(each.running for each in busy)
    return DrainView(
        gate=gate, done=complete and not running, running=running, workers=busy, silent=silent
    )
