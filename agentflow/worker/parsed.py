"""What a delivered message says, as far as it can be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from agentflow.errors import IdReused, InvalidTask
from agentflow.protocol import headers as blocks
from agentflow.protocol import limits, subjects
from agentflow.protocol import task as tasks
from agentflow.protocol.asked import NOTHING, Asked, asked, differences
from agentflow.protocol.record import Record
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Defaults, Task, TaskBody
from agentflow.rules.claim import Delivery
from agentflow.rules.records import Origin
from agentflow.worker.held import Held

_KIND: Final = re.compile(limits.KIND_PATTERN)


class Parsed:
    """A held message: a task, or the reason why it is none."""

    __slots__ = ("delivery", "held", "origin", "problem", "task")

    def __init__(
        self, held: Held, now: datetime, defaults: Mapping[str, Defaults], *, deadly: bool
    ) -> None:
        delivered = held.delivered
        headers = delivered.message.headers
        self.held = held
        self.problem: InvalidTask | None = None
        self.task: Task | None = None
        body: TaskBody | None = None
        follows, queue, priority = 0, "", Priority.NORMAL
        missing = tasks.missing_abilities(headers)
        try:
            queue, priority = subjects.parse_task(delivered.message.subject)
            follows = tasks.follows(headers)
            if not deadly and not missing:
                body = tasks.parse_body(delivered.message.data, headers)
            tasks.given_id(headers, body)
        except InvalidTask as error:
            self.problem = error
        task_id = tasks.task_id(headers, body, queue, delivered.sequence, delivered.stored_ns)
        if body is not None and self.problem is None:
            try:
                self.task = tasks.build(body, headers, queue, priority, task_id, defaults)
            except InvalidTask as error:
                self.problem = error
        ask = asked(self.task) if self.task is not None else NOTHING
        named = tasks.title(body, headers)
        self.origin = self._origin(task_id, queue, priority, headers, ask, named)
        self.delivery = Delivery(
            message=delivered.identity,
            follows=follows,
            delivered=delivered.delivered,
            age=now.timestamp() - delivered.stored_ns / 1e9,
            understood=not missing,
            deadly=deadly,
            sourced=follows > 0 and blocks.sourced(delivered.message.block, subjects.SCHEDULE),
            # Unread is not another.
            asked=None if deadly else ask,
            stored=self.origin.submitted,
        )

    def disown(self, record: Record) -> None:
        """Have it fail by the id that its place gives it: its own is that of another request."""
        origin, delivered = self.origin, self.held.delivered
        told = differences(record.asked or NOTHING, origin.asked or NOTHING)
        self.problem = IdReused(origin.id, told)
        self.task = None
        place = (origin.queue, delivered.sequence, delivered.stored_ns)
        self.origin = msgspec.structs.replace(origin, id=tasks.derived_id(*place))
        self.delivery = msgspec.structs.replace(self.delivery, asked=None)

    def _origin(
        self,
        task_id: str,
        queue: str,
        priority: Priority,
        headers: Mapping[str, str],
        ask: Asked,
        title: str,
    ) -> Origin:
        delivered, task = self.held.delivered, self.task
        return Origin(
            id=task_id,
            queue=queue,
            priority=priority,
            message=delivered.identity,
            submitted=datetime.fromtimestamp(delivered.stored_ns / 1e9, UTC),
            kind=task.kind if task else _kind(headers.get(subjects.KIND, "")),
            labels=task.labels if task else {},
            model=task.model if task else None,
            title=title,
            asked=ask,
            lane=subjects.lane_of(delivered.message.subject),
        )


def _kind(header: str) -> str:
    """A kind fit for the record of what is no task: a header may be megabytes of anything."""
    return header if _KIND.fullmatch(header) else "unknown"
