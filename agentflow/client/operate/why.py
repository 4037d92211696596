"""`why`: gather what is known of a task, for views/why.py to explain.

A task with a record needs no master. Of one that no worker has seen only a master knows where its
message is.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from agentflow.bus.streams.pages import left_after, page, stored_ns
from agentflow.client.asking import Asking, only
from agentflow.client.operate.batches import Batches
from agentflow.client.operate.limits import first_waiting
from agentflow.client.operate.pauses import Pauses
from agentflow.client.operate.serving import unserved
from agentflow.client.session import Session
from agentflow.client.tasks.lookup import Lookup
from agentflow.errors import BusError, MasterAbsent, NotFound, TaskNotFound
from agentflow.protocol import record, subjects
from agentflow.protocol.api import WorkerView
from agentflow.protocol.identity import identity_sequence
from agentflow.protocol.record import PARKED, State
from agentflow.protocol.subjects import Priority
from agentflow.views.result import Result, result_of_record
from agentflow.views.why import Position, Situation, Why, explain

WINDOW: Final = 300.0
"""Seconds that count as lately."""
SAMPLE: Final = 200
SAMPLE_BYTES: Final = 1024 * 1024
"""Of the tasks that ended lately so many are read, to know how many were of the queue."""


class Questions:
    """Why a task waits."""

    def __init__(
        self,
        session: Session,
        lookup: Lookup,
        asking: Asking,
        pauses: Pauses,
        batches: Batches,
    ) -> None:
        self._session = session
        self._lookup = lookup
        self._asking = asking
        self._pauses = pauses
        self._batches = batches

    async def why(self, task_id: str) -> Why:
        """The answer. Raises TaskNotFound, AmbiguousId, BusError."""
        task = await self._task(task_id)
        now = self._session.js.now()
        if task.state in record.TERMINAL:
            return explain(Situation(task=task), now)
        if task.state == State.WAITING:
            batch = await self._batches.of_task(task.id, task.sequence)
            gates = await self._pauses.standing()
            return explain(Situation(task=task, batch=batch, gates=gates), now)
        situation = Situation(task=task, workers=await self._workers())
        waits = task.state == State.QUEUED or (task.state in PARKED and situation.due(now))
        if waits:
            sequence = identity_sequence(task.message) if task.state == State.QUEUED else 0
            lane = task.lane or await self._lane(sequence)
            position = await self._position(task.queue, task.priority, lane, sequence)
            in_hand = position is None or position.taken or not position.exact
            situation = msgspec.structs.replace(
                situation,
                gates=await self._pauses.standing(),
                served=not await unserved(self._session.js, task.queue),
                position=position,
                lane=lane,
                lanes=await self._lanes(task.queue),
                waiting=await first_waiting(self._session.connection, task.id) if in_hand else None,
                per_minute=await self._per_minute(task.queue, now),
            )
        return explain(situation, now)

    async def _task(self, task_id: str) -> Result:
        last = await self._lookup.read(task_id)
        if last.record is not None:
            return result_of_record(last.record, last.sequence)
        try:
            tasks = await self._asking.get(task_id)
        except MasterAbsent:
            raise TaskNotFound(
                f"task {task_id} has no record: it is unknown, or queued and no worker has seen "
                "it; no master answers, which could tell (agentflow master)",
                task_id=task_id,
            ) from None
        if not tasks:
            raise TaskNotFound(f"there is no task {task_id}", task_id=task_id)
        return only(tasks, task_id)

    async def _workers(self) -> list[WorkerView] | None:
        try:
            return await self._asking.workers()
        except MasterAbsent:
            return None

    async def _lane(self, sequence: int) -> str:
        """The lane of the task message at `sequence`."""
        stored = await self._session.js.get(subjects.TASKS, sequence) if sequence else None
        return subjects.lane_of(stored.subject) if stored is not None else ""

    async def _lanes(self, queue: str) -> int:
        """How many lanes of a queue have tasks; the default one is one."""
        try:
            info = await self._session.js.stream_info(
                subjects.TASKS, subjects_filter=f"agentflow.tasks.{queue}.*.*"
            )
        except BusError:
            return 1
        lanes = {subjects.lane_of(subject) for subject in info["state"].get("subjects") or ()}
        return len(lanes) + 1

    async def _position(
        self, queue: str, priority: str, lane: str, sequence: int
    ) -> Position | None:
        """How many messages come before the one at `sequence`; 0: where it stands is unknown."""
        try:
            ahead, higher = 0, 0
            for level in Priority:
                pending, read = await self._waiting(queue, level, lane)
                if level == priority:
                    if not sequence:
                        return Position(ahead=max(0, pending - 1), higher=higher, exact=False)
                    if sequence <= read:
                        return Position(taken=True)
                    behind = await self._behind(queue, level, lane, sequence)
                    ahead = max(0, pending - behind)
                    return Position(ahead=ahead, higher=higher)
                higher += pending
        except BusError:
            pass
        return None

    async def _waiting(self, queue: str, priority: str, lane: str) -> tuple[int, int]:
        """How many messages no worker has yet, and behind which sequence they stand."""
        try:
            info = await self._session.js.consumer_info(
                subjects.TASKS, subjects.consumer(queue, priority, lane)
            )
        except NotFound:
            held = 0
            for subject in subjects.consumer_filters(queue, priority, lane):
                stream = await self._session.js.stream_info(subjects.TASKS, subjects_filter=subject)
                held += sum((stream["state"].get("subjects") or {}).values())
            return held, 0
        return info.get("num_pending", 0), info.get("delivered", {}).get("stream_seq", 0)

    async def _behind(self, queue: str, priority: str, lane: str, sequence: int) -> int:
        """Messages of the queue, priority and lane at and after a sequence."""
        count = 0
        for subject in subjects.consumer_filters(queue, priority, lane):
            first = await page(
                self._session.connection,
                subjects.TASKS,
                sequence,
                filter=subject,
                batch=1,
            )
            if first.messages:
                count += 1 + left_after(first.messages[0])
        return count

    async def _per_minute(self, queue: str, now: datetime) -> float | None:
        """Tasks of the queue that ended a minute, over the last minutes; None: none did."""
        try:
            sample = await page(
                self._session.connection,
                subjects.RECORDS,
                0,
                filter="agentflow.results.>",
                batch=SAMPLE,
                max_bytes=SAMPLE_BYTES,
                since=now - timedelta(seconds=WINDOW),
            )
        except BusError:
            return None
        if not sample.messages:
            return None
        first = sample.messages[0]
        of_queue = sum(record.decode(message.data).queue == queue for message in sample.messages)
        share = of_queue / len(sample.messages)
        began = datetime.fromtimestamp(stored_ns(first) / 1e9, UTC)
        over = min(WINDOW, max(1.0, (now - began).total_seconds()))
        return (1 + left_after(first)) * share / over * 60 or None
