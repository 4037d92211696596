"""Whether anything of a paused queue or kind still runs, from what the workers say. Pure.

A worker learns of a pause at once but may have a claim under way, so only heartbeats count that
came a moment after the pause, and one of every worker. A worker that is lost (rules/presence.py)
runs nothing as far as anybody can tell: what it ran is taken up by another, which finds the pause.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from agentflow.protocol.api import GateView
from agentflow.rules.presence import ONE_BEAT, Seen, running_of, said_goodbye

SETTLE: Final = 0.5
"""Seconds in which a claim that was under way at the pause is stored, and counted."""


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


def view(
    gate: GateView,
    workers: Iterable[Seen],
    now: float,
    queue: str | None,
    kind: str | None,
    *,
    paused: float = 0.0,
) -> DrainView:
    """How far it is at `now`, when the pause began at `paused`; seconds of one clock."""
    busy: list[Busy] = []
    silent: list[Busy] = []
    complete = now - paused >= SETTLE + ONE_BEAT
    for seen in workers:
        beat = seen.beat
        if said_goodbye(beat):
            continue
        running = running_of(beat, queue, kind)
        lost = seen.lost(now)
        if running:
            (silent if lost else busy).append(Busy(beat.name, beat.actor, beat.host, running))
        complete = complete and (lost or seen.at - paused >= SETTLE)
    running = sum(each.running for each in busy)
    return DrainView(
        gate=gate, done=complete and not running, running=running, workers=busy, silent=silent
    )
