"""Does anybody serve a queue? Answered without a master, in one round trip.

A worker waits at its queues' consumers, or holds messages from them. Where nobody waits and
messages are held, the workers may be busy or dead; then any worker's word decides.
"""

from __future__ import annotations

import asyncio
from typing import Final

from agentflow.bus.streams.jetstream import JetStream, Json
from agentflow.errors import BusError, NotFound
from agentflow.protocol import control, subjects
from agentflow.protocol.control import Holds
from agentflow.protocol.subjects import Priority
from agentflow.rules.routes.gates import queue_key

SECOND_LOOK: Final = 0.1
ANSWER_WITHIN: Final = 0.5


async def unserved(js: JetStream, queue: str) -> bool:
    """Whether no worker serves the queue. Raises BusError.

    Nobody pulls from a paused queue; whether somebody serves it, any worker's word decides.
    """
    subjects.check_queue(queue)
    found = await _consumers(js, queue)
    if found and not _attended(found):
        # A worker asks anew after each message; it may have been between two requests.
        await asyncio.sleep(SECOND_LOOK)
        found = await _consumers(js, queue)
    if any(info.get("num_waiting") for info in found):
        return False
    if any(info.get("num_ack_pending") for info in found):
        return not await _any_worker(js)
    if found and await _is_paused(js, queue):
        return not await _any_worker(js)
    return True


async def _is_paused(js: JetStream, queue: str) -> bool:
    try:
        stored = await js.last(subjects.KV_STREAM, subjects.kv(queue_key(queue)))
    except BusError:
        return False  # a user who may not read the bucket is told what the consumers say
    return stored is not None and "KV-Operation" not in stored.headers


def _attended(found: list[Json]) -> bool:
    return any(info.get("num_waiting") or info.get("num_ack_pending") for info in found)


async def _consumers(js: JetStream, queue: str) -> list[Json]:
    answers = await asyncio.gather(
        *(
            js.consumer_info(subjects.TASKS, subjects.consumer(queue, priority))
            for priority in Priority
        ),
        return_exceptions=True,
    )
    found = []
    for answer in answers:
        if isinstance(answer, BaseException):
            if not isinstance(answer, NotFound):
                raise answer
        else:
            found.append(answer)
    return found


async def _any_worker(js: JetStream) -> bool:
    try:
        await js.connection.request(
            subjects.control("worker"), control.encode(Holds(message="")), timeout=ANSWER_WITHIN
        )
    except BusError:
        return False
    return True
