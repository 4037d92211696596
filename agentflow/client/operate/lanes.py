"""Lanes: keys of the bucket and subjects of AGENTFLOW_TASKS. Nothing here needs a master."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agentflow.bus.streams import lanes as stream
from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board, read_all
from agentflow.bus.streams.jetstream import JetStream
from agentflow.errors import InvalidTask, NoStream, NotFound
from agentflow.protocol import subjects
from agentflow.rules import lanes
from agentflow.rules.lanes import Lane


class LaneStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as people and programs are shown it.

    `tasks` counts those in workers' hands too; without `listed` nothing new comes into it.
    """

    queue: str
    lane: str
    weight: float
    cap: int
    tasks: int
    listed: bool


async def standing(js: JetStream, queue: str | None = None) -> list[LaneStanding]:
    """The lanes that are listed or hold tasks, of one queue or of all. Raises BusError."""
    listed: dict[tuple[str, str], Lane] = {}
    try:
        async for key, _, value in read_all(js):
            if key.startswith(lanes.PREFIX):
                listed.pop(lanes.parse_key(key), None)
                if (lane := lanes.read(value)) is not None:
                    listed[lanes.parse_key(key)] = lane
        info = await js.stream_info(subjects.TASKS, subjects_filter="agentflow.tasks.>")
    except (NoStream, NotFound):
        return []  # a server that nobody has used
    taken = set(info["config"].get("subjects") or ())
    held: dict[tuple[str, str], int] = {}
    for subject, count in (info["state"].get("subjects") or {}).items():
        try:
            place = subjects.parse_task(subject)[0], subjects.lane_of(subject)
        except InvalidTask:
            continue
        held[place] = held.get(place, 0) + count
    queues = {place[0] for place in [*listed, *held] if place[1] or place in listed}
    return [
        LaneStanding(
            queue=place[0],
            lane=place[1] or subjects.DEFAULT_LANE,
            weight=listed.get(place, lanes.PLAIN).weight,
            cap=listed.get(place, lanes.PLAIN).cap,
            tasks=held.get(place, 0),
            listed=not place[1] or taken.issuperset(subjects.lane_subjects(*place)),
        )
        for place in sorted({*listed, *held, *((each, "") for each in queues)})
        if place[0] in queues and queue in (None, place[0])
    ]


async def set_to(
    js: JetStream,
    queue: str,
    names: Sequence[str],
    *,
    weight: float | None = None,
    cap: int | None = None,
) -> None:
    """List lanes of a queue, or set what is listed; None leaves it as it is, at first plain.

    Raises UsageError, BusError.
    """
    subjects.check_queue(queue)
    wanted = [subjects.check_lane(name) for name in names]
    board = Board(js)

    def change(value: bytes | None) -> bytes:
        before = lanes.read(value) or lanes.PLAIN
        return msgspec.json.encode(
            Lane(
                weight=before.weight if weight is None else weight,
                cap=before.cap if cap is None else cap,
            )
        )

    try:
        for lane in wanted:
            await board.change(lanes.key(queue, lane), change)
    except (NotFound, NoStream):
        await provision.ensure_streams(js)
        for lane in wanted:
            await board.change(lanes.key(queue, lane), change)
    await stream.extend(js, [(queue, lane) for lane in wanted if lane])


async def removed(js: JetStream, queue: str, name: str) -> bool:
    """List a lane no more; whether it was. What is in it runs. Raises UsageError, BusError."""
    lane, there = subjects.check_lane(name), False
    if lane:
        await stream.withdraw(js, subjects.check_queue(queue), lane)

    def gone(value: bytes | None) -> None:
        nonlocal there
        there = value is not None

    await Board(js).change(lanes.key(queue, lane), gone)
    return there
