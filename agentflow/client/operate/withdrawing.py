"""Withdraw: take back what waits of a job, so that nobody pays for it. Needs no master.

What runs, or waits for a batch, is left to end: a body that is being built may have it. The
schedules are looked through first: one that comes due meanwhile is then found in its queue. Each
message is judged by the log of its task (rules/withdrawal.py), and what is written there is fenced,
so a worker that claims the task at the same moment wins or is refused; either way the log says what
is true.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Final, NamedTuple

from agentflow.bus.streams.jetstream import Stored
from agentflow.bus.streams.pages import page, sequence_of, stored_ns, subject_of
from agentflow.bus.wire.message import Message
from agentflow.client.operate.bulk import concurrently
from agentflow.client.operate.jobs import Jobs
from agentflow.client.session import Session
from agentflow.errors import BusError, NotFound
from agentflow.log.task import Overtaken
from agentflow.protocol import control, jobs, subjects
from agentflow.protocol import task as tasks
from agentflow.protocol.control import Held, Holds
from agentflow.protocol.headers import number, sourced
from agentflow.protocol.identity import identity_sequence, message_identity
from agentflow.protocol.record import PARKED, Failure, Last, Record, State
from agentflow.protocol.subjects import Priority
from agentflow.rules import origins, records, withdrawal
from agentflow.rules.withdrawal import Step

_log = logging.getLogger(__name__)

OWNER_ASKED: Final = 3
"""Times; it may be reconnecting."""
OWNER_WITHIN: Final = 1.0
_TARGET: Final = "Nats-Schedule-Target"
_TEXT: Final = "withdrawn before it was done; the same job goes on with it"


class Withdrawn(NamedTuple):
    """One task, and what was done: REMOVE, FAIL and KEEP took it back, ASK means that it runs.

    `sequence` is that of the message in AGENTFLOW_TASKS, 0 of a schedule.
    """

    id: str
    step: Step
    sequence: int


class _Waiting(NamedTuple):
    """A message of a task that nobody has begun."""

    id: str
    stream: str
    sequence: int
    identity: str
    follows: int
    sourced: bool
    queue: str
    priority: str
    lane: str
    message: Message


class Withdrawing:
    """Takes back tasks of jobs."""

    def __init__(self, session: Session, jobs: Jobs) -> None:
        self._session = session
        self._jobs = jobs

    async def job(
        self, job: str, *, reason: str = withdrawal.REASON, in_hand: bool = True
    ) -> AsyncGenerator[Withdrawn]:
        """Withdraw all of a job that waits; yields each task that is concerned.

        A worker may have in hand what nobody has begun, and would begin it later: then its log must
        say so. `in_hand` is False where no worker is left that could. Raises BusError.
        """

        async def withdraw(waiting: _Waiting) -> Withdrawn:
            step = await self._withdraw(waiting, reason, in_hand)
            sequence = waiting.sequence if waiting.stream == subjects.TASKS else 0
            return Withdrawn(waiting.id, step, sequence)

        removed: list[int] = []
        try:
            async for withdrawn in concurrently(self._messages(job), withdraw):
                if withdrawn.step in (Step.REMOVE, Step.KEEP):
                    removed.append(withdrawn.sequence)
                if withdrawn.step != Step.LEAVE:
                    yield withdrawn
        finally:
            await self._note(job, removed)

    async def count(self, job: str, most: int) -> int:
        """How many messages of a job wait, or are in workers' hands; at most `most` are counted."""
        counted = 0
        async for _ in self._messages(job):
            counted += 1
            if counted == most:
                break
        return counted

    async def one(self, task_id: str, *, reason: str = withdrawal.REASON) -> bool:
        """Withdraw a task that has a record, wherever it waits; whether its log has ended.

        False where it runs, or waits for a batch. The payload of one whose schedule has fired
        already stays in its queue, and is dropped there. Raises BusError.
        """
        while True:
            last = await self._session.log.read(task_id)
            record = last.record
            if record is None or record.terminal:
                return record is not None
            if not record.readable or record.state == State.WAITING:
                return False
            if record.state == State.RUNNING and await self._lives(record):
                return False
            stored = await self._payload(last)
            message = None
            if stored is not None:
                message = Message(stored.subject, "", stored.data, stored.block)
            try:
                await self._fail(records.origin_of(record), last, message, reason)
            except Overtaken:
                continue
            if stored is not None:
                await self._delete(_stream_of(stored), stored.sequence)
            return True

    async def _note(self, job: str, removed: list[int]) -> None:
        """Say which messages are gone on purpose: no record names them."""
        known = await self._jobs.get(job) if removed else None
        if known is not None:
            await self._jobs.keep(jobs.with_withdrawn(known, removed))

    # Finding.

    async def _messages(self, job: str) -> AsyncGenerator[_Waiting]:
        for stream, filter in (
            (subjects.SCHEDULE, "agentflow.schedule.>"),
            (subjects.TASKS, "agentflow.tasks.>"),
        ):
            async for message in self._read(stream, filter):
                labels = tasks.labels_of(message.headers, message.data)
                if labels.get(jobs.LABEL) == job and subjects.ID in message.headers:
                    yield _waiting(stream, message)

    async def _read(self, stream: str, filter: str) -> AsyncGenerator[Message]:
        first = 1
        try:
            last = int((await self._session.js.stream_info(stream))["state"]["last_seq"])
        except NotFound:
            return  # a server that nobody has used yet
        while first <= last:
            messages, more = await page(self._session.connection, stream, first, filter=filter)
            for message in messages:
                first = sequence_of(message)
                yield message
            if not more or not messages:
                return
            first += 1

    async def _payload(self, last: Last) -> Stored | None:
        record = last.record
        assert record is not None
        js = self._session.js
        if record.state in PARKED:
            return await js.last(subjects.SCHEDULE, subjects.schedule(record.id, last.sequence))
        sequence = identity_sequence(record.message)
        stored = await js.get(subjects.TASKS, sequence) if sequence else None
        # A stream made anew gives sequences again: another task's message must not be deleted.
        return stored if stored is not None and _id_of(stored.headers) == record.id else None

    # Withdrawing.

    async def _withdraw(self, waiting: _Waiting, reason: str, in_hand: bool) -> Step:
        while True:
            last = await self._session.log.read(waiting.id)
            step = withdrawal.step(waiting.identity, waiting.follows, last, sourced=waiting.sourced)
            if step == Step.REMOVE:
                # What a worker has in hand keeps its message until the log says that it has ended.
                if not in_hand or not await self._delivered(waiting):
                    await self._delete(waiting.stream, waiting.sequence)
                    # Once more: until it was gone a worker could still get it.
                    if not in_hand or not await self._delivered(waiting):
                        return step
                step = Step.FAIL
            if step == Step.ASK:
                assert last.record is not None
                if await self._lives(last.record):
                    return step
                step = Step.FAIL
            try:
                await self._carry_out(step, waiting, last, reason)
            except Overtaken:
                continue
            return step

    async def _carry_out(self, step: Step, waiting: _Waiting, last: Last, reason: str) -> None:
        if step == Step.LEAVE:
            return
        if step == Step.KEEP:
            letter = waiting.message
            await self._session.log.publish_dead(last, letter.data, letter.block)
        if step == Step.FAIL:
            await self._fail(_origin(waiting, last), last, waiting.message, reason)
        await self._delete(waiting.stream, waiting.sequence)

    async def _fail(
        self, origin: records.Origin, last: Last, message: Message | None, reason: str
    ) -> None:
        log = self._session.log
        record = records.failed(
            origin,
            last,
            actor=log.actor,
            now=log.now(),
            reason=reason,
            error=Failure(type=reason, message=_TEXT),
        )
        if message is None:
            await log.append(record)
        else:
            await log.fail(record, message)

    async def _delivered(self, waiting: _Waiting) -> bool:
        """Whether a worker got the message, be it long ago."""
        name = subjects.consumer(waiting.queue, waiting.priority, waiting.lane)
        try:
            info = await self._session.js.consumer_info(subjects.TASKS, name)
        except NotFound:
            return False
        return int(info.get("delivered", {}).get("stream_seq", 0)) >= waiting.sequence

    async def _delete(self, stream: str, sequence: int) -> None:
        """Tidy; left undone it costs a delivery, no more."""
        try:
            await self._session.js.delete(stream, sequence)
        except BusError as error:
            _log.debug("message %d of %s stays: %s", sequence, stream, error)

    async def _lives(self, record: Record) -> bool:
        """Whether the worker that runs a task says that it does."""
        for _ in range(OWNER_ASKED):
            try:
                answer = await self._session.connection.request(
                    subjects.control("worker", record.actor),
                    control.encode(Holds(message=record.message)),
                    timeout=OWNER_WITHIN,
                )
            except BusError:
                continue
            held = control.decode(answer.data)
            return isinstance(held, Held) and held.holds
        return False


def _id_of(headers: Mapping[str, str]) -> str:
    return headers.get(subjects.ID, "")


def _stream_of(stored: Stored) -> str:
    return subjects.TASKS if stored.subject.startswith("agentflow.tasks.") else subjects.SCHEDULE


def _waiting(stream: str, message: Message) -> _Waiting:
    headers, sequence = message.headers, sequence_of(message)
    tokens = headers.get(_TARGET, subject_of(message)).split(".")
    return _Waiting(
        id=_id_of(headers),
        stream=stream,
        sequence=sequence,
        identity=message_identity(sequence, stored_ns(message)),
        follows=number(headers.get(subjects.FOLLOWS)) or 0,
        sourced=stream == subjects.SCHEDULE or sourced(message.block, subjects.SCHEDULE),
        queue=tokens[2],
        priority=tokens[3] if len(tokens) > 3 else Priority.NORMAL,
        lane=tokens[4] if len(tokens) > 4 else "",
        message=message,
    )


def _origin(waiting: _Waiting, last: Last) -> records.Origin:
    if last.record is not None:
        return records.origin_of(last.record)
    message = waiting.message
    return origins.of_message(
        waiting.id,
        waiting.identity,
        stored_ns(message),
        subjects.task(waiting.queue, waiting.priority, waiting.lane),
        message.headers,
        message.data,
    )
