"""The task log: fenced writes and leader reads. The only writer of progress and results.

Every write names the sequence it follows, and the server stores it only where that is still the
last of `agentflow.*.<id>`. A refusal or a missing answer proves nothing, so after either one the
last record is read from the leader:

- it is what my write was to follow: send again;
- it is my own write: it succeeded;
- it is anything else: I am superseded (`Superseded`), and must stop, acking nothing.

Nobody sends a task's next write before the outcome of the one before is known.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime
from typing import Final

from agentflow.bus.streams.jetstream import JetStream, PubAck, Stored
from agentflow.bus.wire.message import Message
from agentflow.errors import (
    BusError,
    PayloadTooLarge,
    PermissionDenied,
    Superseded,
    WrongSequence,
)
from agentflow.protocol import headers as blocks
from agentflow.protocol import record as records
from agentflow.protocol import subjects
from agentflow.protocol.record import EMPTY, Last, Record, State
from agentflow.rules import records as entries
from agentflow.rules.lifecycle import may_follow

_log = logging.getLogger(__name__)

WRITE_TIMEOUT: Final = 5.0
PAUSE_MIN: Final = 0.02
PAUSE_MAX: Final = 2.0


class Overtaken(Superseded):
    """Another writer came first; `last` is what the log ends with now."""

    def __init__(self, last: Last, task_id: str) -> None:
        who = last.record.actor if last.record else "nobody"
        super().__init__(
            f"task {task_id}: the log now ends with {last.state} at {last.sequence}, by {who}",
            task_id=task_id,
        )
        self.last = last


class TaskLog:
    """Reads and writes logs as one actor."""

    def __init__(self, js: JetStream, actor: str) -> None:
        self._js = js
        self.actor = actor

    def now(self) -> datetime:
        """The server's time, as well as it is known."""
        return self._js.now()

    # Reading.

    async def read(self, task_id: str) -> Last:
        """The last record, from the leader. Raises BusError."""
        found = await self._js.last(subjects.RECORDS, subjects.log(task_id))
        return last_of(found)

    async def _read_patiently(self, task_id: str) -> Last:
        pause = PAUSE_MIN
        while True:
            try:
                return await self.read(task_id)
            except PermissionDenied:
                raise
            except BusError as error:
                facts = {"action": "read", "task_id": task_id}
                _log.debug("reading the log of %s: %s", task_id, error, extra=facts)
                pause = await _pause(pause)

    # Writing.

    async def append(self, record: Record, data: bytes | None = None) -> Last:
        """Store `record` after the sequence it `follows`; returns where it stands.

        Goes on until the outcome is known; bound it with asyncio.timeout where that may take too
        long. `data` is the record as JSON where the caller has it. Raises Overtaken,
        PayloadTooLarge, PermissionDenied.
        """
        if data is None:
            data = records.encode(record)
        block = blocks.fence(record.id, record.follows)
        pause = PAUSE_MIN
        again = False
        while True:
            try:
                ack = await self._js.store(record.subject, data, block, WRITE_TIMEOUT)
                return Last(ack.seq, record)
            except (PayloadTooLarge, PermissionDenied):
                raise
            except WrongSequence:
                pass
            except BusError as error:
                facts = {"action": "write", "task_id": record.id, "attempt": record.attempt}
                _log.info(
                    "task %s: %s not confirmed: %s", record.id, record.state, error, extra=facts
                )
            last = await self._read_patiently(record.id)
            if is_own(last, record):
                return last
            if last.sequence != record.follows:
                raise Overtaken(last, record.id)
            if again:
                pause = await _pause(pause)
            again = True

    async def append_fitting(self, record: Record) -> Last:
        """`append`, with a text too long for one message cut and marked.

        Raises PayloadTooLarge where cutting the text does not help; TypeError where a value cannot
        be written as JSON.
        """
        data = records.encode(record)
        room = self._js.connection.max_payload - 1024
        if len(data) <= room:
            return await self.append(record, data)
        fitting = entries.fit(record, room, len(data))
        if fitting is None:
            raise PayloadTooLarge(
                f"task {record.id}: the result has {len(data):,} bytes, the server takes {room:,}"
            )
        return await self.append(fitting)

    # Parking and failing: a record, and the message that goes with it.

    async def park(self, record: Record, message: Message) -> Last:
        """Write a scheduled or retrying record, then its schedule; both are stored on return."""
        last = await self.append(record)
        await self.publish_schedule(last, message.data, message.block)
        return last

    async def publish_schedule(self, last: Last, payload: bytes, block: bytes) -> None:
        """Store a parked log's schedule; its subject names the record, so a repeat is harmless."""
        record = last.record
        assert record is not None and record.resume_at is not None
        headers = {
            "Nats-Schedule": f"@at {_rfc3339(record.resume_at)}",
            "Nats-Schedule-Target": subjects.due(record.queue, record.priority),
            subjects.ID: record.id,
            subjects.FOLLOWS: str(last.sequence),
        }
        await self._store_patiently(
            subjects.schedule(record.id, last.sequence), payload, blocks.carried(block, headers)
        )

    async def fail(self, record: Record, message: Message) -> Last:
        """Write a failed record, then its dead letter; both are stored on return."""
        last = await self.append(record)
        await self.publish_dead(last, message.data, message.block)
        return last

    async def publish_dead(self, last: Last, payload: bytes, block: bytes) -> None:
        """Store the dead letter of a failed log."""
        record = last.record
        assert record is not None
        headers = {
            subjects.ID: record.id,
            subjects.REASON: record.reason or "failed",
            subjects.ERROR: (record.error.message if record.error else "")[:200],
            subjects.SEQUENCE: str(last.sequence),
            subjects.PRIORITY: record.priority,
            subjects.KIND: record.kind,
            subjects.ATTEMPT: str(record.attempt),
        }
        full = blocks.carried(block, headers)
        if len(full) + len(payload) > self._js.connection.max_payload:
            # Without its headers, and perhaps cut, it is not the task that failed.
            full = blocks.encode({**headers, subjects.TRUNCATED: "true"})
            payload = payload[: self._js.connection.max_payload - len(full)]
        await self._store_patiently(subjects.dead(record.queue, record.id), payload, full)

    async def _store_patiently(self, subject: str, payload: bytes, block: bytes) -> PubAck:
        pause = PAUSE_MIN
        while True:
            try:
                return await self._js.store(subject, payload, block, WRITE_TIMEOUT)
            except (PayloadTooLarge, PermissionDenied):
                raise
            except BusError as error:
                _log.info("%s is not stored yet: %s", subject, error)
                pause = await _pause(pause)

    # Continuing and ending from outside.

    async def cancel(self, task_id: str, *, reason: str = "cancelled") -> Last:
        """End a task that has not ended; returns the last record, which may be another's ending."""
        while True:
            last = await self.read(task_id)
            if last.record is not None and last.record.terminal:
                return last
            now = self.now()
            if last.record is not None:
                origin = entries.origin_of(last.record)
            else:
                origin = entries.Origin(
                    id=task_id, queue="", priority="", message="", submitted=now
                )
            if not may_follow(last.state, State.CANCELLED):
                return last
            record = entries.cancelled(last, origin, actor=self.actor, now=now, reason=reason)
            try:
                return await self.append(record)
            except Overtaken:
                continue

    async def lose(self, last: Last, reason: str, text: str) -> Last:
        """Fail a log whose message is gone. Raises Overtaken when it moved on meanwhile."""
        assert last.record is not None
        record = entries.failed(
            entries.origin_of(last.record),
            last,
            actor=self.actor,
            now=self.now(),
            reason=reason,
            error=records.Failure(type=reason, message=text),
        )
        return await self.append(record)


def last_of(found: Stored | None) -> Last:
    """The entry a stored message is."""
    if found is None:
        return EMPTY
    return Last(found.sequence, records.decode(found.data, found.subject))


def is_own(last: Last, record: Record) -> bool:
    """Whether the log ends with this very write.

    Two messages with one id may reach one worker, so actor and sequence alone do not tell.
    """
    found = last.record
    return (
        found is not None
        and found.actor == record.actor
        and found.follows == record.follows
        and found.message == record.message
        and found.state == record.state
        and found.attempt == record.attempt
    )


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _pause(seconds: float) -> float:
    await asyncio.sleep(seconds * (0.5 + random.random()))
    return min(seconds * 2, PAUSE_MAX)
