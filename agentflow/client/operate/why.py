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
from agentflow.client.operate.pauses import Pauses
from agentflow.client.operate.serving import unserved
from agentflow.client.session import Session
from agentflow.client.tasks.lookup import Lookup
from agentflow.errors import BusError, MasterAbsent, NotFound, TaskNotFound
from agentflow.protocol import record, subjects
from agentflow.protocol.api import TaskView
from agentflow.protocol.record import PARKED, State
from agentflow.protocol.subjects import Priority
from agentflow.views.result import Result, of_record, of_view
from agentflow.views.why import Facts, Place, Serving, Why, explain

WINDOW: Final = 300.0
"""Seconds that count as lately."""
SAMPLE: Final = 200
SAMPLE_BYTES: Final = 1024 * 1024
"""Of the tasks that ended lately so many are read, to know how many were of the queue."""


class Questions:
    """Why a task waits."""

    def __init__(self, session: Session, lookup: Lookup, asking: Asking, pauses: Pauses) -> None:
        self._session = session
        self._lookup = lookup
        self._asking = asking
        self._pauses = pauses

    async def why(self, task_id: str) -> Why:
        """The answer. Raises TaskNotFound, AmbiguousId, BusError."""
        facts, message = await self._task(task_id)
        now = self._session.js.now()
        if facts.state in record.TERMINAL:
            return explain(facts, now)
        workers = await self._workers()
        facts = _with(facts, workers=workers)
        waits = facts.state == State.QUEUED or (facts.state in PARKED and facts.due(now))
        if waits:
            sequence = _sequence(message) if facts.state == State.QUEUED else 0
            facts = _with(
                facts,
                gates=await self._pauses.standing(),
                served=not await unserved(self._session.js, facts.queue),
                place=await self._place(facts.queue, facts.priority, sequence),
                per_minute=await self._per_minute(facts.queue, now),
            )
        return explain(facts, now)

    async def _task(self, task_id: str) -> tuple[Facts, str]:
        """The task, and the identity of its message."""
        last = await self._lookup.read(task_id)
        if last.record is not None:
            return _of_result(of_record(last.record, last.sequence)), last.record.message
        try:
            views = await self._asking.get(task_id)
        except MasterAbsent:
            raise TaskNotFound(
                f"task {task_id} has no record: it is unknown, or queued and no worker has seen "
                "it; no master answers, which could tell (agentflow master)",
                task_id=task_id,
            ) from None
        if not views:
            raise TaskNotFound(f"there is no task {task_id}", task_id=task_id)
        view = only(views, task_id)
        return _of_view(view), view.message

    async def _workers(self) -> list[Serving] | None:
        try:
            views = await self._asking.workers()
        except MasterAbsent:
            return None
        return [
            Serving(
                actor=view.actor,
                name=view.name,
                host=view.host,
                queues=view.queues,
                kinds=view.kinds,
                slots=view.slots,
                running=view.running,
                lost=view.lost,
                stopping=view.stopping,
            )
            for view in views
        ]

    async def _place(self, queue: str, priority: str, sequence: int) -> Place | None:
        """How many messages come before the one at `sequence`; 0: where it stands is unknown."""
        try:
            ahead, higher = 0, 0
            for level in Priority:
                pending, read = await self._waiting(queue, level)
                if level == priority:
                    if not sequence:
                        return Place(ahead=max(0, pending - 1), higher=higher, exact=False)
                    if sequence <= read:
                        return Place(taken=True)
                    behind = await self._behind(queue, level, sequence)
                    ahead = max(0, pending - behind)
                    return Place(ahead=ahead, higher=higher)
                higher += pending
        except BusError:
            pass
        return None

    async def _waiting(self, queue: str, priority: str) -> tuple[int, int]:
        """How many messages no worker has yet, and behind which sequence they stand."""
        try:
            info = await self._session.js.consumer_info(
                subjects.TASKS, subjects.consumer(queue, priority)
            )
        except NotFound:
            held = 0
            for subject in subjects.consumer_filters(queue, priority):
                stream = await self._session.js.stream_info(subjects.TASKS, subjects_filter=subject)
                held += sum((stream["state"].get("subjects") or {}).values())
            return held, 0
        return info.get("num_pending", 0), info.get("delivered", {}).get("stream_seq", 0)

    async def _behind(self, queue: str, priority: str, sequence: int) -> int:
        """Messages of the queue and priority at and after a sequence."""
        count = 0
        for subject in subjects.consumer_filters(queue, priority):
            messages, _ = await page(
                self._session.connection,
                subjects.TASKS,
                sequence,
                filter=subject,
                batch=1,
            )
            if messages:
                count += 1 + left_after(messages[0])
        return count

    async def _per_minute(self, queue: str, now: datetime) -> float | None:
        """Tasks of the queue that ended a minute, over the last minutes; None: none did."""
        try:
            ended, _ = await page(
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
        if not ended:
            return None
        first = ended[0]
        of_queue = sum(record.decode(message.data).queue == queue for message in ended)
        share = of_queue / len(ended)
        began = datetime.fromtimestamp(stored_ns(first) / 1e9, UTC)
        over = min(WINDOW, max(1.0, (now - began).total_seconds()))
        return (1 + left_after(first)) * share / over * 60 or None


def _with(facts: Facts, **changes: object) -> Facts:
    return msgspec.structs.replace(facts, **changes)


def _of_result(result: Result) -> Facts:
    return Facts(
        id=result.id,
        state=result.state,
        queue=result.queue,
        priority=result.priority,
        kind=result.kind,
        model=result.model,
        actor=result.actor,
        attempt=result.attempts,
        failures=result.failures,
        submitted=result.timings.submitted,
        started=result.timings.started,
        ended=result.timings.ended or result.updated,
        resume_at=result.resume_at,
        reason=result.reason,
        error=result.error,
    )


def _of_view(view: TaskView) -> Facts:
    return _of_result(of_view(view))


def _sequence(identity: str) -> int:
    text = identity.partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
