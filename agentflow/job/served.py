"""Which kinds somebody would run: told before a task waits for nobody."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from agentflow.errors import BusError, UsageError
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
    """Raise UsageError for kinds that are not there; `kinds` has a line of each."""
    lacking = [
        f"line {line}: {lack(kind, there)}" for kind, line in kinds.items() if lack(kind, there)
    ]
    if lacking:
        raise UsageError("; ".join(lacking) + ". Nothing was submitted.")


def lack(kind: str, there: Collection[str]) -> str | None:
    """Why nobody would run a kind, as a sentence, None where somebody does."""
    if kind in there:
        return None
    if kind in ON_REQUEST:
        hint = f"; name it with --kinds {kind}"
    elif near := difflib.get_close_matches(kind, there, 1):
        hint = f" (did you mean {near[0]}?)"
    else:
        hint = "; your own handlers come with --app MODULE:APP"
    return (
        f"no worker of this job runs the kind {kind!r}, there are {', '.join(sorted(there))}{hint}"
    )


async def elsewhere(client: Client, queue: str, kinds: Collection[str]) -> frozenset[str] | None:
    """The kinds that the workers of a queue serve; None where nobody knows.

    A master knows at once, and what it has not heard of yet may be there all the same. Without one
    only a kind that no worker has by itself is worth listening for.
    """
    known = await _told(client, queue)
    if BY_DEFAULT.issuperset(kinds) if known is None else known.issuperset(kinds):
        return known
    return await _heard(client, queue)


async def _told(client: Client, queue: str) -> frozenset[str] | None:
    try:
        workers = await client.workers()
    except BusError:
        return None
    serving = [one for one in workers if queue in one.queues and not one.lost]
    return frozenset(kind for one in serving for kind in one.kinds)


async def _heard(client: Client, queue: str) -> frozenset[str] | None:
    """What heartbeats say, None where no worker of the queue speaks or nobody may listen."""
    beats: list[Heartbeat] = []

    def take(message: Message) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            beats.append(msgspec.json.decode(message.data, type=Heartbeat))

    try:
        listening = await client.connection.subscribe(subjects.presence("worker", "*"), take)
    except BusError:
        return None
    try:
        await asyncio.sleep(_HEAR)
    finally:
        await listening.close()
    serving = [beat for beat in beats if queue in beat.queues and beat.kinds]
    return frozenset(kind for beat in serving for kind in beat.kinds) if serving else None
