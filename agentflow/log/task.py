"""The task log: what may be written about a task, and the messages that go with it.

The only writer of progress and results. How a write is fenced, and what an unknown outcome means,
stands in fenced.py; a task whose log another writer continued is `Superseded`: whoever worked on it
must stop, acking nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime

from agentflow.bus.streams.jetstream import JetStream, Stored
from agentflow.bus.wire.message import Message
from agentflow.errors import PayloadTooLarge, Superseded, WrongSequence
from agentflow.log.fenced import FencedLogs, store_patiently
from agentflow.protocol import batches, subjects
from agentflow.protocol import headers as blocks
from agentflow.protocol.record import EMPTY, Failure, Last, Record, State
from agentflow.protocol.record import decode as decode_record
from agentflow.protocol.record import encode as encode_record
from agentflow.rules import records
from agentflow.rules.lifecycle import may_follow
from agentflow.rules.redaction import Redaction


class Overtaken(Superseded):
    """Another writer came first; `last` is what the log ends with now."""

    def __init__(self, last: Last, task_id: str) -> None:
        who = last.record.actor if last.record else "nobody"
        super().__init__(
            f"task {task_id}: the log now ends with {last.state} at {last.sequence}, by {who}",
            task_id=task_id,
        )
        self.last = last


class TaskLog(FencedLogs[Record, Last]):
    """Reads and writes logs as one actor; with a policy it strikes out what that finds."""

    def __init__(self, js: JetStream, actor: str, redaction: Redaction | None = None) -> None:
        super().__init__(js, subjects.RECORDS)
        self.actor = actor
        self.redaction = redaction

    def now(self) -> datetime:
        """The server's time, as well as it is known."""
        return self._js.now()

    async def read(self, task_id: str) -> Last:
        """The last record, from the leader. Raises BusError."""
        return await self._end(subjects.log(task_id))

    async def glance(self, task_id: str) -> Last:
        """The last record of what has not ended, from any replica: for what is fenced anyway."""
        return last_of(await self._js.direct(subjects.RECORDS, subjects.progress(task_id)))

    def append(self, record: Record, data: bytes | None = None) -> Awaitable[Last]:
        """Store `record` after the sequence it `follows`; returns where it stands.

        Goes on until the outcome is known; bound it with asyncio.timeout where that may take too
        long. `data` is the record as JSON where the caller has it. Raises Overtaken,
        PayloadTooLarge, PermissionDenied.
        """
        if data is None:
            if self.redaction is not None:
                record = self.redaction.record(record)
            data = encode_record(record)
        return self._append(record, data, blocks.fence(record.id, record.follows))

    async def append_fitting(self, record: Record) -> Last:
        """`append`, with a text too long for one message cut and marked.

        Raises PayloadTooLarge where cutting the text does not help; TypeError where a value cannot
        be written as JSON.
        """
        if self.redaction is not None:
            record = self.redaction.record(record)
        data = encode_record(record)
        room = self._js.connection.max_payload - 1024
        if len(data) <= room:
            return await self.append(record, data)
        fitting = records.fit(record, room, len(data))
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

    async def publish_schedule(
        self, last: Last, payload: bytes, block: bytes, *, at: datetime | None = None
    ) -> None:
        """Store a parked log's schedule; its subject names the record, so a repeat is harmless.

        `at` where the record does not say when.
        """
        record = last.record
        at = at or (record.resume_at if record else None)
        assert record is not None and at is not None
        headers = {
            "Nats-Schedule": f"@at {_rfc3339(at)}",
            "Nats-Schedule-Target": subjects.due(record.queue, record.priority, record.lane),
            subjects.ID: record.id,
            subjects.FOLLOWS: str(last.sequence),
        }
        await store_patiently(
            self._js,
            subjects.schedule(record.id, last.sequence),
            payload,
            blocks.carried(block, headers),
        )

    async def publish_entry(self, last: Last, payload: bytes, block: bytes) -> None:
        """Store what waits for a batch, once: a second one of the same record is refused."""
        record = last.record
        assert record is not None and record.pool is not None
        subject = batches.entry(record.pool, record.queue, record.id, last.sequence)
        headers = {
            subjects.ID: record.id,
            subjects.FOLLOWS: str(last.sequence),
            subjects.PRIORITY: record.priority,
            "Nats-Expected-Last-Subject-Sequence": "0",
        }
        full = blocks.carried(block, headers)
        while True:
            try:
                await store_patiently(self._js, subject, payload, full, settled=(WrongSequence,))
            except WrongSequence:
                # A refusal proves nothing: the leader says whether it is there.
                if await self._js.last(subjects.BATCH, subject) is None:
                    continue
            return

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
        if record.lane:
            headers[subjects.LANE] = record.lane
        full = blocks.carried(block, headers)
        if len(full) + len(payload) > self._js.connection.max_payload:
            # Without its headers, and perhaps cut, it is not the task that failed.
            full = blocks.encode({**headers, subjects.TRUNCATED: "true"})
            payload = payload[: self._js.connection.max_payload - len(full)]
        await store_patiently(self._js, subjects.dead(record.queue, record.id), payload, full)

    # Continuing and ending from outside.

    async def cancel(
        self,
        task_id: str,
        *,
        reason: str = "cancelled",
        by: str | None = None,
        queued: records.Origin | None = None,
    ) -> Last:
        """End a task that has not ended; returns the last record, which may be another's ending.

        `by` is who asked for it, `queued` what the message of a task without a record says.
        """
        while True:
            last = await self.read(task_id)
            if last.record is not None and last.record.terminal:
                return last
            now = self.now()
            if last.record is not None:
                origin = records.origin_of(last.record)
            else:
                origin = queued or records.Origin(
                    id=task_id, queue="", priority="", message="", submitted=now
                )
            if not may_follow(last.state, State.CANCELLED):
                return last
            record = records.cancelled(
                origin, last, actor=self.actor, now=now, reason=reason, by=by
            )
            try:
                return await self.append(record)
            except Overtaken:
                continue

    async def drop(self, task_id: str, follows: int, *, by: str) -> bool:
        """Say in a failed log that its dead letter is dropped; False where it has gone on, or is
        not there any more. `follows` is the failure that the letter is of."""
        last = await self.read(task_id)
        while last.record is not None and last.record.failed and last.sequence == follows:
            record = records.dropped(last, actor=self.actor, now=self.now(), by=by)
            try:
                await self.append_fitting(record)
            except Overtaken as error:
                last = error.last
                continue
            return True
        return False

    async def lose(self, last: Last, reason: str, text: str) -> Last:
        """Fail a log whose message is gone. Raises Overtaken when it moved on meanwhile."""
        assert last.record is not None
        record = records.failed(
            records.origin_of(last.record),
            last,
            actor=self.actor,
            now=self.now(),
            reason=reason,
            error=Failure(type=reason, message=text),
        )
        return await self.append(record)

    # What a fenced log must know of records.

    def _log_of(self, entry: Record) -> str:
        return subjects.log(entry.id)

    def _stored_at(self, sequence: int, entry: Record) -> Last:
        return Last(sequence, entry)

    def _end_of(self, stored: Stored | None) -> Last:
        return last_of(stored)

    def _is_own(self, end: Last, entry: Record) -> bool:
        return is_own(end, entry)

    def _moved_on(self, end: Last, entry: Record) -> Overtaken:
        return Overtaken(end, entry.id)

    def _describe(self, entry: Record) -> tuple[str, dict[str, object]]:
        facts: dict[str, object] = {"task_id": entry.id, "attempt": entry.attempt}
        return f"task {entry.id}: {entry.state}", facts


def last_of(stored: Stored | None) -> Last:
    """The record that a stored message is, and its sequence."""
    if stored is None:
        return EMPTY
    return Last(stored.sequence, decode_record(stored.data, stored.subject))


def is_own(last: Last, written: Record) -> bool:
    """Whether the log ends with this very write.

    Two messages with one id may reach one worker, so actor and sequence alone do not tell.
    """
    record = last.record
    return (
        record is not None
        and record.actor == written.actor
        and record.follows == written.follows
        and record.message == written.message
        and record.state == written.state
        and record.attempt == written.attempt
    )


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
