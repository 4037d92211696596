"""What a delivered message says, as far as it can be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from agentflow.errors import InvalidTask
from agentflow.protocol import limits, subjects
from agentflow.protocol import task as tasks
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
        follows = 0
        body: TaskBody | None = None
        queue, priority = "", Priority.NORMAL
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
        self.origin = self._origin(task_id, queue, priority, headers)
        self.delivery = Delivery(
            message=delivered.identity,
            follows=follows,
            delivered=delivered.delivered,
            age=now.timestamp() - delivered.stored_ns / 1e9,
            understood=not missing,
            deadly=deadly,
        )

    def _origin(
        self, task_id: str, queue: str, priority: Priority, headers: Mapping[str, str]
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
        )


def _kind(header: str) -> str:
    """A kind fit for the record of what is no task: a header may be megabytes of anything."""
    return header if _KIND.fullmatch(header) else "unknown"
