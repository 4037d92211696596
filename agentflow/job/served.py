"""Which kinds somebody would run: told before a task waits for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from agentflow.errors import UsageError
from agentflow.handlers.registry import ALL, KINDS, ON_REQUEST
from agentflow.protocol import limits, subjects
from agentflow.protocol.control import Heartbeat

if TYPE_CHECKING:
    from agentflow.bus.wire.message import Message
    from agentflow.client import Client

BY_DEFAULT: Final = frozenset(KINDS) - ON_REQUEST
"""Kinds that a worker runs that is told nothing else."""
_HEAR: Final = limits.HEARTBEAT + 0.5


def kinds_of(named: Iterable[str], own: Collection[str] = ()) -> frozenset[str]:
    """What workers serve that are started with these kinds and these handlers of one's own."""
    served: set[str] = set()
    for kind in named or (own or BY_DEFAULT):
        served |= {*own, *BY_DEFAULT} if kind == ALL else {kind}
    return frozenset(served)


def check(kinds: Mapping[str, int], there: Collection[str]) -> None:
    """Raise UsageError for the first kind that is not there; `kinds` has a line of each."""
    for kind, line in kinds.items():
        if kind not in there:
            hint = (
                f"; name it with --kinds {kind}"
                if kind in ON_REQUEST
                else "; your own handlers come with --app MODULE:APP"
            )
            raise UsageError(
                f"line {line}: no worker of this job runs the kind {kind!r}, "
                f"there are {', '.join(sorted(there))}{hint}. Nothing was submitted."
            )


async def heard(client: Client, queue: str) -> frozenset[str] | None:
    """The kinds of the workers of a queue that are heard; None where none is, or nobody may."""
    kinds: set[str] = set()
    heard = False

    def take(message: Message) -> None:
        nonlocal heard
        try:
            beat = msgspec.json.decode(message.data, type=Heartbeat)
        except msgspec.DecodeError:
            return
        if beat.role == "worker" and queue in beat.queues:
            heard = True
            kinds.update(beat.kinds)

    listening = await client.connection.subscribe(subjects.presence("worker", "*"), take)
    try:
        await asyncio.sleep(_HEAR)
    finally:
        await listening.close()
    return frozenset(kinds) if heard else None
