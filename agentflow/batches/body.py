"""An open row as the body of a create, in a temporary file: all of it may be 200 MB.

In it is who waits by the word of the leader: its log ends with the very record that its entry
belongs to. Who may not start any more is failed here; nobody was asked for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO, Final

import msgspec

from agentflow.batches.entries import Item, pages
from agentflow.batches.place import Place
from agentflow.errors import InvalidTask
from agentflow.log.task import Overtaken
from agentflow.protocol import batches, limits
from agentflow.protocol import task as tasks
from agentflow.protocol.batches import Row
from agentflow.protocol.record import Failure, Last, State
from agentflow.protocol.subjects import Priority
from agentflow.rules import records, starting
from agentflow.rules.starting import Arrival

AT_ONCE: Final = 128
CHUNK: Final = 256 * 1024


class Body:
    """A body: its file, its size, and the entries of its requests in their order."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0
        self.members = array("Q")
        self.traces: list[str | None] = []

    @property
    def count(self) -> int:
        """Requests in it."""
        return len(self.members)

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self.file.write(data)
        self.size += len(data)

    async def pieces(self, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes from one place to another."""
        at = first
        while at < last:
            self.file.seek(at)
            piece = self.file.read(min(CHUNK, last - at))
            at += len(piece)
            yield piece
            await asyncio.sleep(0)


@asynccontextmanager
async def body_of(place: Place, row: Row) -> AsyncIterator[Body]:
    """The body of a row; without a member where nobody waits. Raises BusError, NotYet."""
    with tempfile.TemporaryFile(prefix="agentflow-batch-") as file:
        body = Body(file)
        body.write(b'{"requests":[')
        async for items in pages(place, row.first, row.last):
            for start in range(0, len(items), AT_ONCE):
                part = items[start : start + AT_ONCE]
                for data in await asyncio.gather(*(_request(place, row, item) for item in part)):
                    if data is None:
                        continue
                    sequence, params, trace = data
                    name = batches.custom_id(row.nonce, sequence).encode()
                    comma = b"," if body.count else b""
                    body.write(b'%b\n{"custom_id":"%b","params":%b}' % (comma, name, params))
                    body.members.append(sequence)
                    body.traces.append(trace)
        body.write(b"\n]}")
        yield body


async def _request(place: Place, row: Row, item: Item) -> tuple[int, bytes, str | None] | None:
    """The request of an entry, and its trace; None where its task does not wait (any more)."""
    last = await place.log.read(item.id)
    if not waits(place, last, item.waiting):
        return None
    assert last.record is not None
    try:
        return item.sequence, request_of(place, item, last), last.record.traceparent
    except InvalidTask as problem:
        await give_up(place, last, item, problem.reason, str(problem))
        return None


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


def request_of(place: Place, item: Item, last: Last) -> bytes:
    """What is asked for a task, as JSON. Raises InvalidTask where it may not start any more."""
    record, headers = last.record, item.message.headers
    assert record is not None
    now = place.now()
    body = tasks.parse_body(item.message.data, headers)
    task = tasks.build(body, headers, record.queue, Priority(record.priority), record.id)
    submitted = record.timings.submitted or record.time
    late = starting.too_late(
        task, Arrival(submitted=submitted, attempts=record.attempt, original=False), now
    )
    if late is not None:
        raise InvalidTask(late.text, reason=late.reason)
    if (now - submitted).total_seconds() > limits.HORIZON:
        text = f"the task waited more than {limits.HORIZON // limits.DAY} days"
        raise InvalidTask(text, reason="expired")
    return place.handler.batch_request(task)


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
