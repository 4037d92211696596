"""The past, from the records themselves: time travel needs no recording, as far as they are kept.

A place in the past is a sequence of AGENTFLOW_RECORDS. Pages come from any replica: for display.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime

import msgspec

from agentflow.bus.streams.pages import PAGE_MESSAGES, page, sequence_of, subject_of
from agentflow.bus.streams.rows import in_slices
from agentflow.bus.wire.message import Message
from agentflow.client.live.following import record_row
from agentflow.client.session import Session
from agentflow.client.tasks.watching import Event, record_event
from agentflow.errors import NotFound
from agentflow.protocol import record as records
from agentflow.protocol import subjects
from agentflow.protocol.record import Record
from agentflow.views.row import Row


class Span(msgspec.Struct, frozen=True):
    """The first and the last record that are kept, and when they were stored."""

    first: int
    last: int
    first_at: datetime
    last_at: datetime


class History:
    """Reads the records of the past. All raise BusError."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def span(self) -> Span | None:
        """What is kept, None where that is nothing."""
        try:
            state = (await self._session.js.stream_info(subjects.RECORDS))["state"]
        except NotFound:
            return None
        if not state["messages"]:
            return None
        return Span(
            int(state["first_seq"]),
            int(state["last_seq"]),
            msgspec.convert(state["first_ts"], datetime, strict=False),
            msgspec.convert(state["last_ts"], datetime, strict=False),
        )

    async def locate(self, at: datetime) -> int:
        """The sequence of the first record stored at or after an instant.

        Where there is none it is the one that the next record will have.
        """
        messages, _ = await page(self._session.connection, subjects.RECORDS, 0, batch=1, since=at)
        if messages:
            return sequence_of(messages[0])
        span = await self.span()
        return span.last + 1 if span is not None else 1

    async def rows(self, first: int, count: int) -> list[Row]:
        """Detailed rows of at most `count` records from `first` on, in their order.

        Every record makes one: of a task there may be several. `updated` is when it was stored.
        """
        rows: list[Row] = []
        more = True
        while more and len(rows) < count:
            messages, more = await page(
                self._session.connection,
                subjects.RECORDS,
                first,
                batch=min(PAGE_MESSAGES, count - len(rows)),
            )
            async for part in in_slices(messages):
                for message in part:
                    first = sequence_of(message)
                    rows.append(record_row(first, message))
            first += 1
        return rows

    async def events(self, after: int, until: int) -> AsyncGenerator[Event]:
        """The records behind a sequence, up to another and with it, as events."""
        more = True
        while more and after < until:
            messages, more = await page(self._session.connection, subjects.RECORDS, after + 1)
            for message in messages:
                after = sequence_of(message)
                if after > until:
                    return
                subject = subject_of(message)
                record = records.decode(message.data, subject)
                yield record_event(subjects.record_id(subject), record, after)

    async def log(self, task_id: str) -> list[tuple[int, Record]]:
        """A task's whole log as it is kept, in order, with the sequences."""
        filter = subjects.log(subjects.check_id(task_id))
        entries: list[Message] = []
        first, more = 1, True
        while more:
            messages, more = await page(
                self._session.connection, subjects.RECORDS, first, filter=filter
            )
            if not messages:
                break
            entries += messages
            first = sequence_of(messages[-1]) + 1
        return [
            (sequence_of(message), records.decode(message.data, subject_of(message)))
            for message in entries
        ]
