"""The lanes that AGENTFLOW_TASKS takes tasks for: subjects of the stream, added and taken away.

A stream's subjects are changed as a whole, so of two who change them at once one could undo the
other: who has changed them looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from agentflow.bus.streams.bucket import read_all
from agentflow.bus.streams.jetstream import JetStream, Json
from agentflow.errors import BusError, UsageError
from agentflow.protocol import subjects
from agentflow.rules import lanes

_TRIES: Final = 20


async def extend(js: JetStream, added: Iterable[tuple[str, str]]) -> None:
    """Take tasks for these lanes, queue and name. Raises BusError."""
    wanted = [subject for queue, lane in added for subject in subjects.lane_subjects(queue, lane)]
    await _change(
        js, lambda present: [*present, *(each for each in wanted if each not in set(present))]
    )


async def withdraw(js: JetStream, queue: str, lane: str) -> None:
    """Take no more tasks for a lane. Raises BusError."""
    gone = set(subjects.lane_subjects(queue, lane))
    await _change(js, lambda present: [subject for subject in present if subject not in gone])


async def check(js: JetStream, subject: str) -> None:
    """Raise UsageError where a task subject is refused because its lane is not listed."""
    lane, queue = subjects.lane_of(subject), subjects.queue_of(subject)
    if not lane:
        return
    try:
        info = await js.stream_info(subjects.TASKS)
    except BusError:
        return  # what is wrong is more than the lane
    if subject not in (info["config"].get("subjects") or ()):
        raise UsageError(
            f"queue {queue} has no lane {lane}, so its tasks are refused; "
            f"`agentflow lane set {queue} {lane}` lists it"
        )


async def restore(js: JetStream) -> None:
    """Take tasks for every lane that the bucket lists. Raises BusError."""
    listed: dict[tuple[str, str], None] = {}
    async for key, _, value in read_all(js):
        if key.startswith(lanes.PREFIX):
            listed.pop(lanes.parse_key(key), None)
            if value is not None:
                listed[lanes.parse_key(key)] = None
    named = [(queue, lane) for queue, lane in listed if lane]
    if named:
        await extend(js, named)


async def _change(js: JetStream, change: Callable[[list[str]], list[str]]) -> None:
    for _ in range(_TRIES):
        config: Json = (await js.stream_info(subjects.TASKS))["config"]
        present: list[str] = config.get("subjects") or []
        wanted = change(present)
        if wanted == present:
            return
        await js.api(f"STREAM.UPDATE.{subjects.TASKS}", {**config, "subjects": wanted})
    raise BusError(f"the subjects of {subjects.TASKS} change faster than they can be written")
