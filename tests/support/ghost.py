"""A worker that claimed a task and will never be heard of again."""

from __future__ import annotations

from typing import Any, Final

from agentflow.protocol.record import EMPTY, Last, Record, State
from agentflow.rules import records as entries
from tests.support.observer import Observer

GHOST: Final = "ghost-1-abcdef"
TASK: Final = {"prompt": "x", "kind": "gate", "id": "it"}


async def claimed_by_ghost(observer: Observer, task: dict[str, Any] | None = None) -> Last:
    """Submit a task and claim it as a worker that will never answer."""
    ack = await observer.submit(task or TASK)
    origin = await observer.origin("it", ack, kind="gate")
    log = observer.log_as(GHOST)
    return await log.append(entries.claimed(origin, EMPTY, actor=GHOST, now=log.now()))


def follower(observer: Observer, ghost: Last, state: str, **changes: Any) -> Record:
    assert ghost.record is not None
    log = observer.log_as(GHOST)
    origin = entries.origin_of(ghost.record)
    return entries.follow(origin, ghost, State(state), actor=GHOST, now=log.now(), **changes)
