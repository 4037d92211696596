"""The message of a task that no worker has seen, where it waits in AGENTFLOW_TASKS."""

from __future__ import annotations

from typing import NamedTuple

from agentflow.bus.streams.jetstream import Stored
from agentflow.bus.streams.pages import page, sequence_of, stored_ns, subject_of
from agentflow.client.asking import Asking
from agentflow.client.session import Session
from agentflow.errors import MasterAbsent, NotFound, TaskNotFound
from agentflow.protocol import subjects, task
from agentflow.protocol.identity import identity_sequence, message_identity, parse_message
from agentflow.rules import origins
from agentflow.rules.records import Origin


class Queued(NamedTuple):
    """Where a message stands, and what a record of its task says."""

    sequence: int
    origin: Origin


class Queue:
    """Looks for messages in the queues."""

    def __init__(self, session: Session, asking: Asking) -> None:
        self._session = session
        self._asking = asking

    async def find(self, task_id: str, message: str = "", sequence: int = 0) -> Queued | None:
        """The message of a task; by its identity or place where they are known.

        Else a master is asked, and where none answers the queues are read through. None where the
        message is gone. Raises TaskNotFound where a master knows no such task, BusError.
        """
        if not message and not sequence:
            try:
                message = await self._told(task_id)
            except MasterAbsent:
                return await self._read_through(task_id)
        sequence = sequence or identity_sequence(message)
        stored = await self._session.js.get(subjects.TASKS, sequence) if sequence else None
        # A stream made anew gives sequences again: that may be another task's message.
        if stored is None or not (
            stored.headers.get(subjects.ID) == task_id or _has_identity(stored, message)
        ):
            return None
        whole = round(stored.time.replace(microsecond=0).timestamp())
        ns = (whole * 1_000_000 + stored.time.microsecond) * 1000
        if _has_identity(stored, message):
            ns = (parse_message(message) or (0, ns))[1]
        identity = message_identity(sequence, ns)
        return Queued(
            sequence,
            origins.of_message(task_id, identity, ns, stored.subject, stored.headers, stored.data),
        )

    async def _told(self, task_id: str) -> str:
        for view in await self._asking.get(task_id):
            if view.id == task_id:
                return view.message
        raise TaskNotFound(f"there is no task {task_id}", task_id=task_id)

    async def _read_through(self, task_id: str) -> Queued | None:
        js = self._session.js
        try:
            last = int((await js.stream_info(subjects.TASKS))["state"]["last_seq"])
        except NotFound:
            return None
        first, more = 1, True
        while more and first <= last:
            messages, more = await page(js.connection, subjects.TASKS, first)
            for message in messages:
                sequence, ns, subject = (
                    sequence_of(message),
                    stored_ns(message),
                    subject_of(message),
                )
                headers, data = message.headers, message.data
                queue = subjects.queue_of(subject)
                if task.identified(headers, data, queue, sequence, ns) == (task_id, 0):
                    identity = message_identity(sequence, ns)
                    origin = origins.of_message(task_id, identity, ns, subject, headers, data)
                    return Queued(sequence, origin)
            if not messages:
                return None
            first = sequence_of(messages[-1]) + 1
        return None


def _has_identity(queued: Stored, identity: str) -> bool:
    """Whether a stored message has this identity; its time is known to microseconds only."""
    parsed = parse_message(identity)
    if parsed is None:
        return False
    whole = queued.time.replace(microsecond=0).timestamp()
    microseconds = round(whole) * 1_000_000 + queued.time.microsecond
    return parsed[1] // 1000 == microseconds
