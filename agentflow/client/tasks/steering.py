"""Cancel a task, or run a failed one again. Both are writes into its log, and need no master."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, NamedTuple

from agentflow.bus.streams.jetstream import Stored
from agentflow.bus.streams.payloads import Payloads
from agentflow.client.asking import Asking
from agentflow.client.session import Session, orderer
from agentflow.client.tasks.queued import Queue, Queued
from agentflow.client.tasks.submission import Sender, Submission, fitting
from agentflow.errors import (
    BusError,
    InvalidTask,
    PayloadLost,
    TaskError,
    TaskNotFound,
)
from agentflow.protocol import control, limits, subjects
from agentflow.protocol import headers as blocks
from agentflow.protocol import task as tasks
from agentflow.protocol.control import Cancel
from agentflow.protocol.record import EMPTY, PARKED, Last, Record, State
from agentflow.protocol.subjects import Priority
from agentflow.views.result import Result, result_of_record

_log = logging.getLogger(__name__)

DEAD_LETTER_WITHIN: Final = 2.0
OWNER_WITHIN: Final = 1.0
"""Seconds a worker has to end a run and write what it used, before it is fenced."""

_OF_DEAD_LETTERS: Final = frozenset(
    name.lower().encode()
    for name in (
        subjects.REASON,
        subjects.ERROR,
        subjects.SEQUENCE,
        subjects.ATTEMPT,
        subjects.PRIORITY,
        subjects.LANE,
        subjects.FOLLOWS,
        subjects.TRUNCATED,
    )
)
_KIND: Final = subjects.KIND.lower().encode()


class Cancellation(NamedTuple):
    """What became of a task that was to be cancelled; `already`: it ended without that."""

    result: Result
    already: bool


class Steering:
    """Writes of users into logs."""

    def __init__(self, session: Session, sender: Sender, asking: Asking) -> None:
        self._session = session
        self._sender = sender
        self._queue = Queue(session, asking)

    # Cancel.

    async def cancel(self, task_id: str, message_sequence: int = 0) -> Result:
        """End a task; returns the record that ends it, which may be another's.

        `message_sequence` is given where the caller knows that the task is in the queue. Raises
        TaskNotFound.
        """
        return (await self.end(task_id, message_sequence=message_sequence)).result

    async def end(
        self, task_id: str, *, message: str = "", message_sequence: int = 0
    ) -> Cancellation:
        """`cancel`, saying whether the task had ended before. `message` is its identity if known.

        The worker that runs it is asked first, because it alone can keep the usage so far. Where it
        does not do so in time, `cancelled` is written here and fences it.
        """
        before = await self._session.log.read(task_id)
        queued, by = None, orderer()
        if before.record is not None:
            if before.record.terminal:
                return Cancellation(result_of_record(before.record, before.sequence), already=True)
            if before.record.state == State.RUNNING:
                await self._ask_owner(before.record, by)
        else:
            queued = await self._queued(task_id, message, message_sequence)
        last = await self._session.log.cancel(
            task_id, by=by, queued=queued.origin if queued is not None else None
        )
        assert last.record is not None
        if last.record.state == State.CANCELLED and last.record.actor == self._session.log.actor:
            try:
                await self._tidy(last.record, before, queued)
            except BusError as error:
                _log.debug("after cancelling %s: %s", task_id, error)
        result = result_of_record(last.record, last.sequence)
        return Cancellation(result, already=result.state != State.CANCELLED)

    async def _queued(self, task_id: str, message: str, sequence: int) -> Queued | None:
        """Its message; None too where it cannot be read: the record says less then, and ends it."""
        try:
            return await self._queue.find(task_id, message, sequence)
        except BusError as error:
            _log.debug("the message of %s: %s", task_id, error)
            return None

    async def _ask_owner(self, record: Record, by: str) -> None:
        """Return when the worker of a running task has ended it, or does not answer."""
        try:
            await self._session.connection.request(
                subjects.control("worker", record.actor),
                control.encode(Cancel(id=record.id, by=by)),
                timeout=OWNER_WITHIN,
            )
        except BusError as error:
            _log.debug("asking the worker of %s: %s", record.id, error)

    async def _tidy(self, ended: Record, before: Last, queued: Queued | None) -> None:
        record, task_id = before.record, ended.id
        if ended.follows != before.sequence:
            # Somebody claimed it meanwhile, who pays for a run that no longer counts.
            self._session.connection.publish(
                subjects.control("worker"), control.encode(Cancel(id=task_id))
            )
        if record is not None and record.state == State.RUNNING:
            return  # its worker acks the message itself
        if record is not None and record.state in (*PARKED, State.WAITING):
            # The entry of what waits for a batch stays: a range of entries ends with one.
            await self._session.js.purge(subjects.SCHEDULE, f"agentflow.schedule.{task_id}.*")
            return
        if record is not None and record.message:
            queued = await self._queue.find(task_id, record.message)
        if queued is not None:
            await self._session.js.delete(subjects.TASKS, queued.sequence)

    # Retry.

    async def retry(
        self, task_id: str, payload: bytes | None = None, queue: str | None = None
    ) -> tuple[Submission, int]:
        """Continue a failed task; returns what was submitted, and the sequence it follows.

        The payload is the dead letter's and the queue the task's unless they are given. Raises
        TaskNotFound, TaskError.
        """
        last, dead = await self._failed(task_id, patient=payload is None)
        if last.record is not None and last.record.state != State.FAILED:
            raise TaskError(
                f"task {task_id} is {last.record.state}; only a failed one can be retried",
                task_id=task_id,
            )
        if dead is None and (payload is None or last is EMPTY or last.record is None):
            text = f"there is no task {task_id}"
            if last.record is not None:
                text = f"the payload of task {task_id} is no longer kept; submit it anew"
                if last.record.dropped:
                    text = f"{last.record.by} dropped the dead letter of {task_id}; submit it anew"
            raise TaskNotFound(text, task_id=task_id)
        if payload is None and dead is not None and subjects.TRUNCATED in dead.headers:
            raise TaskError(
                f"the message of task {task_id} was too large to be kept whole; submit it anew",
                task_id=task_id,
            )
        submission = _continuation(task_id, last, dead, payload, queue)
        if submission.large is None:
            await self._renew(submission)
        await self._sender.send(submission)
        if dead is not None:
            try:
                gone = not await self._session.js.delete(subjects.DEAD, dead.sequence)
                if gone and last.sequence:
                    last = await self._despite_drop(submission, last)
            except BusError as error:
                # It stays as a copy of a payload; the log says what is true.
                _log.debug("the dead letter of %s stays: %s", task_id, error)
        return submission, last.sequence

    async def _despite_drop(self, submission: Submission, last: Last) -> Last:
        """Continue what was dropped at this very moment: the drop's record came between."""
        now = await self._session.log.read(submission.id)
        if now.record is None or not now.record.dropped or now.record.follows != last.sequence:
            return last
        block = blocks.carried(submission.block, {subjects.FOLLOWS: str(now.sequence)})
        await self._sender.send(submission._replace(block=block))
        return now

    async def _renew(self, submission: Submission) -> None:
        """Let the payload that it refers to live as long as a new one's; raise where it is gone."""
        try:
            reference = tasks.parse_body(submission.payload, {}).payload
        except InvalidTask:
            return  # it will fail again, and say why
        if reference is None:
            return
        if not await Payloads(self._session.js).renew(submission.id, reference):
            raise PayloadLost(
                f"the payload of task {submission.id} is no longer kept; submit it anew",
                task_id=submission.id,
            )

    async def _failed(self, task_id: str, *, patient: bool) -> tuple[Last, Stored | None]:
        """The end of its log, and its dead letter, which is stored just after that."""
        end = time.monotonic() + (DEAD_LETTER_WITHIN if patient else 0.0)
        while True:
            # The letter first: read after the log it could be a later failure's, and be deleted.
            dead = await self._session.js.last(subjects.DEAD, subjects.dead("*", task_id))
            last = await self._session.log.read(task_id)
            kept = dead.headers.get(subjects.SEQUENCE) if dead is not None else None
            # In the end the letter of an earlier failure will do: its payload is the same.
            if last.state != State.FAILED or kept == str(last.sequence) or time.monotonic() > end:
                return last, dead
            await asyncio.sleep(0.05)


def _continuation(
    task_id: str, last: Last, dead: Stored | None, payload: bytes | None, wanted: str | None
) -> Submission:
    headers = dead.headers if dead is not None else {}
    if last.record is not None and last.record.queue:
        queue, priority, lane = last.record.queue, last.record.priority, last.record.lane
    else:
        assert dead is not None
        queue = subjects.queue_of(dead.subject)
        priority = headers.get(subjects.PRIORITY, Priority.NORMAL)
        lane = headers.get(subjects.LANE, "")
    if priority not in set(Priority):
        priority = Priority.NORMAL
    extra = {subjects.ID: task_id}
    if last.sequence:
        extra[subjects.FOLLOWS] = str(last.sequence)
    if wanted and wanted != queue:
        queue, lane = wanted, ""  # lanes are a queue's own
    block = _own_headers(dead.block) if dead is not None else b""
    data = payload if payload is not None else dead.data if dead is not None else b""
    large: bytes | None = None
    if len(data) > limits.TASK_BYTES:
        data, _, large = fitting(data)
        needs = headers.get(subjects.NEEDS)
        extra[subjects.NEEDS] = f"{needs},payload" if needs else "payload"
    return Submission(
        task_id,
        queue,
        subjects.task(queue, priority, lane),
        data,
        blocks.carried(block, extra),
        large,
    )


def _own_headers(block: bytes) -> bytes:
    """The block of a dead letter without what it says of the failure, byte for byte."""
    kept = []
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() in _OF_DEAD_LETTERS:
            continue
        # The dead letter's word for a task that could not be read.
        if name.strip().lower() == _KIND and value.strip() == b"unknown":
            continue
        kept.append(line)
    return b"\r\n".join(kept)
