"""An open row as the body of a create, in a temporary file: all of it may be 200 MB.

In it is who waits by the word of the leader: its log ends with the very record that its entry
belongs to. Who may not start any more is failed here; nobody was asked for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import IO, Final

import msgspec

from agentflow.batches.asked import broken, task_of, whole
from agentflow.batches.entries import Item, pages
from agentflow.batches.money import Reserve, standing
from agentflow.batches.place import Place
from agentflow.errors import InvalidTask
from agentflow.log.task import Overtaken
from agentflow.protocol import batches, limits
from agentflow.protocol.batches import Row
from agentflow.protocol.record import Failure, Last, Record, State
from agentflow.protocol.task import Task
from agentflow.rules import records, starting
from agentflow.rules.starting import Arrival

AT_ONCE: Final = 128
CHUNK: Final = 256 * 1024


class Body:
    """A body: its file, its size, and the entries of its requests in their order.

    `left` are those whose budgets have no room.
    """

    def __init__(self, file: IO[bytes], money: Reserve) -> None:
        self.file = file
        self.money = money
        self.size = 0
        self.members = array("Q")
        self.left = array("Q")
        self.traces: list[str | None] = []

    @property
    def count(self) -> int:
        """Requests in it."""
        return len(self.members)

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self.file.write(data)
        self.size += len(data)

    def add(self, nonce: str, asked: _Asked) -> None:
        """Add a request, where there is money for it."""
        if not asked.fits:
            self.left.append(asked.sequence)
            return
        name = batches.custom_id(nonce, asked.sequence).encode()
        comma = b"," if self.count else b""
        self.write(b'%b\n{"custom_id":"%b","params":%b}' % (comma, name, asked.params))
        self.members.append(asked.sequence)
        self.traces.append(asked.trace)

    async def pieces(self, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes from one place to another."""
        at = first
        while at < last:
            self.file.seek(at)
            piece = self.file.read(min(CHUNK, last - at))
            at += len(piece)
            yield piece
            await asyncio.sleep(0)


class _Asked(msgspec.Struct):
    """A request as it goes into a body, and its trace. `fits`: there is money for it."""

    sequence: int
    params: bytes
    fits: bool
    trace: str | None


@asynccontextmanager
async def body_of(place: Place, row: Row) -> AsyncIterator[Body]:
    """The body of a row; without a member where nobody waits. Raises BusError, NotYet."""
    money = Reserve(place, row.nonce, await standing(place))
    with tempfile.TemporaryFile(prefix="agentflow-batch-") as file:
        body = Body(file, money)
        body.write(b'{"requests":[')
        async for items in pages(place, row.first, row.last):
            for part in _parts(items):
                requests = (_request(place, money, item) for item in part)
                for asked in await asyncio.gather(*requests):
                    if asked is not None:
                        body.add(row.nonce, asked)
        body.write(b"\n]}")
        yield body


def _parts(items: list[Item]) -> Iterator[list[Item]]:
    """So many at once; what may have 32 MB besides its message, alone."""
    part: list[Item] = []
    for item in items:
        if part and (item.refers or len(part) == AT_ONCE):
            yield part
            part = []
        part.append(item)
        if item.refers:
            yield part
            part = []
    if part:
        yield part


async def _request(place: Place, money: Reserve, item: Item) -> _Asked | None:
    """The request of an entry; None where its task does not wait for it (any more)."""
    last = await place.log.read(item.id)
    if not waits(place, last, item.waiting):
        await _mend(place, last, item)
        return None
    assert last.record is not None
    try:
        task = task_of(place, item)
        check_time(place, task, last.record)
        said = await broken(place, task, last)
        task = await whole(place, task)
        params = place.handler.batch_request(task, said)
        return _Asked(item.sequence, params, money.admit(task, said), last.record.traceparent)
    except InvalidTask as problem:
        await give_up(place, last, item, problem.reason, str(problem))
        return None


async def _mend(place: Place, last: Last, item: Item) -> None:
    """Store the entry of one that waits anew, where whoever wrote so died before it did."""
    record = last.record
    if record is not None and record.follows == item.waiting and record.state == State.WAITING:
        await place.log.publish_entry(last, item.message.data, item.message.block)


def waits(place: Place, last: Last, waiting: int) -> bool:
    """Whether a log ends with the record that an entry of this place belongs to."""
    record = last.record
    return (
        record is not None
        and last.sequence == waiting
        and record.state == State.WAITING
        and record.pool == place.pool
        and record.queue == place.queue
    )


def check_time(place: Place, task: Task, record: Record) -> None:
    """Raise InvalidTask where a task may not start any more."""
    now = place.now()
    submitted = record.timings.submitted or record.time
    late = starting.too_late(
        task, Arrival(submitted=submitted, attempts=record.attempt, original=False), now
    )
    if late is not None:
        raise InvalidTask(late.text, reason=late.reason)
    if (now - submitted).total_seconds() > limits.HORIZON:
        text = f"the task waited more than {limits.HORIZON // limits.DAY} days"
        raise InvalidTask(text, reason="expired")


async def give_up(place: Place, last: Last, item: Item, reason: str, text: str) -> None:
    """Fail a task that waits here, with its dead letter; who went on is left alone."""
    assert last.record is not None
    failure = Failure(type=reason, message=text[: limits.ERROR_TEXT])
    record = records.failed(
        records.origin_of(last.record),
        last,
        actor=place.log.actor,
        now=place.now(),
        reason=reason,
        error=failure,
    )
    record = msgspec.structs.replace(record, pool=place.pool)
    with contextlib.suppress(Overtaken):
        await place.log.fail(record, item.message)
        place.ended(record, None)


async def wait_anew(place: Place, last: Last, item: Item) -> None:
    """Let a task that waits here, and is in no body, wait for the next one."""
    assert last.record is not None
    record = records.into_batch(
        records.origin_of(last.record),
        last,
        actor=place.log.actor,
        now=place.now(),
        pool=place.pool,
    )
    with contextlib.suppress(Overtaken):
        stored = await place.log.append(record)
        await place.log.publish_entry(stored, item.message.data, item.message.block)
