"""Dead letters: find, group, retry, drop. All of it works without a master.

AGENTFLOW_DEAD keeps one letter a task: the payload, and headers that say why it failed. Letters are
read page by page in the stream's order, up to the letter that was the last when reading began: a
retried task may fail again, and its new letter is not for this reading.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from agentflow.bus.streams.pages import page, sequence_of, stored_ns, subject_of
from agentflow.bus.wire.message import Message
from agentflow.client.operate.bulk import concurrently
from agentflow.client.session import Session, orderer
from agentflow.client.tasks.steering import Steering
from agentflow.errors import NotFound, TaskError, TaskNotFound, UsageError
from agentflow.log.task import last_of
from agentflow.protocol import subjects
from agentflow.protocol import task as tasks
from agentflow.protocol.headers import number
from agentflow.protocol.record import Failure, Record, State
from agentflow.views import query
from agentflow.views.failures import FailureGroup, FailureGroups, fingerprint
from agentflow.views.row import Row, encode_labels

READ_AT_ONCE: Final = 32
"""Records read together; each may have megabytes."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A failed task as its dead letter shows it, and as its last record does where that was read.

    `sequence` is the letter's place in AGENTFLOW_DEAD, `follows` the failed record's in the log.
    `truncated`: the message was too large to be kept whole and cannot be retried.
    """

    id: str
    sequence: int
    queue: str
    priority: str
    kind: str
    reason: str
    error: Failure
    attempts: int
    labels: dict[str, str]
    time: datetime
    follows: int
    size: int
    truncated: bool
    fingerprint: str = ""
    title: str = ""


class DeadFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters; all conditions must hold. `older_than` counts seconds since the failure."""

    reason: str | None = None
    queue: str | None = None
    label: dict[str, str] = {}
    older_than: float | None = None
    fingerprint: str | None = None
    query: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of one letter: done, or why not. `queue`: where its task waits now."""

    id: str
    done: bool
    text: str = ""
    queue: str = ""


EVERYTHING: Final = DeadFilter()


class DeadLetters:
    """The dead letters of a server."""

    def __init__(self, session: Session, steering: Steering) -> None:
        self._session = session
        self._steering = steering

    # Finding.

    async def letters(
        self, wanted: DeadFilter = EVERYTHING, *, errors: bool = True
    ) -> AsyncGenerator[DeadLetter]:
        """Letters, roughly oldest first; without `errors` only the letters themselves are read."""
        deep = errors or wanted.fingerprint is not None or wanted.query is not None
        means = _means(wanted.query, self._session.js.now().timestamp())
        async for letter in concurrently(
            self._plain(wanted), self._whole if deep else _same, READ_AT_ONCE
        ):
            if wanted.fingerprint not in (None, letter.fingerprint) or not means(letter):
                continue
            yield letter

    async def _plain(self, wanted: DeadFilter) -> AsyncGenerator[DeadLetter]:
        try:
            state = (await self._session.js.stream_info(subjects.DEAD))["state"]
        except NotFound:
            return  # a server that nobody has used yet
        first, last = int(state["first_seq"]), int(state["last_seq"])
        before = None
        if wanted.older_than is not None:
            now = self._session.js.now()
            before = now - timedelta(seconds=wanted.older_than)
        subject = subjects.dead(wanted.queue or "*", "*")
        while first <= last:
            messages, more = await page(
                self._session.connection, subjects.DEAD, first, filter=subject
            )
            for message in messages:
                first = sequence_of(message)
                if first > last:
                    return
                letter = _letter(message)
                if before is not None and letter.time > before:
                    return  # those behind it are younger still
                if _fits(letter, wanted):
                    yield letter
            if not more or not messages:
                return
            first += 1

    async def _whole(self, letter: DeadLetter) -> DeadLetter:
        """The letter with its error as the record has it, for showing."""
        last = last_of(await self._session.js.direct(subjects.RECORDS, subjects.result(letter.id)))
        error, labels = letter.error, letter.labels
        if last.record is not None and last.sequence == letter.follows:
            error = last.record.error or error
            labels = last.record.labels or labels
        return msgspec.structs.replace(
            letter, error=error, labels=labels, fingerprint=fingerprint(letter.reason, error).key
        )

    async def find(self, task_id: str) -> tuple[DeadLetter, Record | None, bytes]:
        """A task's letter, its last record, and the payload. Raises TaskNotFound."""
        subject = subjects.dead("*", subjects.check_id(task_id))
        try:
            stored = await self._session.js.last(subjects.DEAD, subject)
        except NotFound:
            stored = None
        if stored is None:
            raise TaskNotFound(f"task {task_id} has no dead letter", task_id=task_id)
        letter = _read(stored.subject, stored.sequence, stored.time, stored.headers, stored.data)
        last = last_of(await self._session.js.last(subjects.RECORDS, subjects.log(task_id)))
        return await self._whole(letter), last.record, stored.data

    async def groups(self, wanted: DeadFilter = EVERYTHING) -> list[FailureGroup]:
        """Letters by fingerprint, the most frequent first."""
        groups = FailureGroups()
        async for letter in self.letters(wanted):
            groups.add(letter, letter.error)
        return groups.ranked()

    # Doing.

    async def retry(self, wanted: DeadFilter) -> AsyncGenerator[Outcome]:
        """Run the tasks of all such letters again; each keeps its history. See Client.retry."""

        async def again(letter: DeadLetter) -> Outcome:
            return await self.retry_one(letter.id)

        async for outcome in concurrently(self.letters(wanted, errors=False), again):
            yield outcome

    async def retry_one(self, task_id: str) -> Outcome:
        """Run one failed task again."""
        try:
            submission, _ = await self._steering.retry(task_id)
        except TaskError as error:
            return Outcome(task_id, False, str(error))
        return Outcome(task_id, True, queue=submission.queue)

    async def drop(self, wanted: DeadFilter) -> AsyncGenerator[Outcome]:
        """Delete all such letters; the tasks stay failed, and cannot be retried any more."""
        async for outcome in concurrently(self.letters(wanted, errors=False), self._drop):
            yield outcome

    async def drop_one(self, task_id: str) -> Outcome:
        """Delete one task's letter."""
        try:
            letter, _, _ = await self.find(task_id)
        except TaskNotFound as error:
            return Outcome(task_id, False, str(error))
        return await self._drop(letter)

    async def _drop(self, letter: DeadLetter) -> Outcome:
        # By its sequence: a letter of a later failure is another one.
        if await self._session.js.delete(subjects.DEAD, letter.sequence):
            # After it: who retries the task meanwhile has taken the letter, and continues the log.
            if letter.follows:
                await self._session.log.drop(letter.id, letter.follows, by=orderer())
            return Outcome(letter.id, True)
        return Outcome(letter.id, False, f"the dead letter of task {letter.id} was gone already")


async def _same(letter: DeadLetter) -> DeadLetter:
    return letter


def _means(text: str | None, now: float) -> Callable[[DeadLetter], bool]:
    """The test of a query. Raises UsageError."""
    if not text:
        return lambda letter: True
    try:
        wanted = query.parse(text)
    except query.QueryError as error:
        raise UsageError(f"the query {text[:80]!r}: {error}") from None
    return lambda letter: wanted.wants(_row(letter), now)


def _row(letter: DeadLetter) -> Row:
    """A letter as the failed task that it is of."""
    failed = int(letter.time.timestamp() * 1000)
    return Row(
        id=letter.id,
        sequence=letter.follows,
        state=State.FAILED,
        queue=letter.queue,
        updated=failed,
        priority=letter.priority,
        kind=letter.kind,
        labels=encode_labels(letter.labels),
        title=letter.title,
        attempt=letter.attempts,
        ended=failed,
        reason=letter.reason,
        error=f"{letter.error.type}: {letter.error.message}",
        fingerprint=letter.fingerprint,
    )


def _fits(letter: DeadLetter, wanted: DeadFilter) -> bool:
    return (wanted.reason is None or letter.reason == wanted.reason) and all(
        letter.labels.get(name) == value for name, value in wanted.label.items()
    )


def _letter(message: Message) -> DeadLetter:
    time = datetime.fromtimestamp(stored_ns(message) / 1e9, UTC)
    return _read(subject_of(message), sequence_of(message), time, message.headers, message.data)


def _read(
    subject: str, sequence: int, time: datetime, headers: Mapping[str, str], payload: bytes
) -> DeadLetter:
    queue, task_id = subjects.parse_dead(subject)
    reason = headers.get(subjects.REASON, "failed")
    error = Failure(type=reason, message=headers.get(subjects.ERROR, ""))
    return DeadLetter(
        id=task_id,
        sequence=sequence,
        queue=queue,
        priority=headers.get(subjects.PRIORITY, "normal"),
        kind=headers.get(subjects.KIND, "unknown"),
        reason=reason,
        error=error,
        attempts=number(headers.get(subjects.ATTEMPT)) or 0,
        labels=tasks.labels_of(headers, payload),
        time=time,
        follows=number(headers.get(subjects.SEQUENCE)) or 0,
        size=len(payload),
        truncated=subjects.TRUNCATED in headers,
        fingerprint=fingerprint(reason, error).key,
        title=tasks.title_of(headers.get(subjects.TITLE)),
    )
