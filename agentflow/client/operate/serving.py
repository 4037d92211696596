"""Does anybody serve a queue? Answered without a master, in one round trip.

A worker waits at its queues' consumers, or holds messages from them. Where nobody waits and
messages are held, the workers may be busy or dead; then any worker's word decides.
"""

from __future__ import annotations

import asyncio
from typing import Final

from agentflow.bus.streams.bucket import value_of
from agentflow.bus.streams.jetstream import JetStream, Json
from agentflow.errors import BusError, NotFound
from agentflow.protocol import control, subjects
from agentflow.protocol.control import Holds
from agentflow.protocol.subjects import Priority
from agentflow.rules import presence
from agentflow.rules.routes.gates import queue_key

SECOND_LOOK: Final = 0.1
ANSWER_WITHIN: Final = 0.5


async def unserved(js: JetStream, queue: str) -> bool:
    """Whether no worker serves the queue. Raises BusError."""
    subjects.check_queue(queue)
    consumers = await _consumers(js, queue)
    if consumers and not (_pulls(consumers) or _in_hand(consumers)):
        # A worker asks anew after each message; it may have been between two requests.
        await asyncio.sleep(SECOND_LOOK)
        consumers = await _consumers(js, queue)
    pulls, in_hand = _pulls(consumers), _in_hand(consumers)
    paused = bool(consumers) and not (pulls or in_hand) and await _is_paused(js, queue)
    served = presence.attended(pulls=pulls, in_hand=in_hand, paused=paused)
    return not (await any_worker(js) if served is None else served)


async def any_worker(js: JetStream) -> bool:
    """Whether any worker at all answers."""
    try:
        await js.connection.request(
            subjects.control("worker"), control.encode(Holds(message="")), timeout=ANSWER_WITHIN
        )
    except BusError:
        return False
    return True


async def _is_paused(js: JetStream, queue: str) -> bool:
    try:
        last = await js.last(subjects.KV_STREAM, subjects.kv(queue_key(queue)))
    except BusError:
        return False  # a user who may not read the bucket is told what the consumers say
    return value_of(last) is not None


def _pulls(consumers: list[Json]) -> int:
    return sum(info.get("num_waiting", 0) for info in consumers)


def _in_hand(consumers: list[Json]) -> int:
    return sum(info.get("num_ack_pending", 0) for info in consumers)


async def _consumers(js: JetStream, queue: str) -> list[Json]:
    answers = await asyncio.gather(
        *(
            js.consumer_info(subjects.TASKS, subjects.consumer(queue, priority))
            for priority in Priority
        ),
        return_exceptions=True,
    )
    consumers = []
    for answer in answers:
        if isinstance(answer, BaseException):
            if not isinstance(answer, NotFound):
                raise answer
        else:
            consumers.append(answer)
    return consumers
