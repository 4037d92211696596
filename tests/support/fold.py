"""What a reader makes of a feed's items, and what the streams themselves say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.pages import page, sequence_of, stored_ns, subject_of
from agentflow.bus.wire.message import Message
from agentflow.protocol import subjects
from agentflow.views import feed
from agentflow.views.row import Row, from_record, from_task, supersedes

I = TypeVar("I", bound=feed.Item)  # noqa: E741 -- the type of an item
WITHIN = 30.0


class Fold:
    """A sink: the rows as they stand, and all other items."""

    def __init__(self, items: Iterable[feed.Item] = ()) -> None:
        self.rows: dict[str, Row] = {}
        self.items: list[feed.Item] = []
        self.told = 0
        """Rows that came, the superseded too."""
        self._changed = asyncio.Event()
        for item in items:
            self(item)

    def __call__(self, item: feed.Item) -> None:
        match item:
            case feed.Rows():
                for row in item.rows:
                    self.told += 1
                    old = self.rows.get(row.id)
                    if supersedes(row, old.sequence if old else None):
                        self.rows[row.id] = row
            case feed.Anew(stream=subjects.RECORDS):
                self.rows.clear()
            case feed.Anew():
                self.rows = {name: row for name, row in self.rows.items() if row.sequence}
        self.items.append(item)
        self._changed.set()

    def all(self, kind: type[I]) -> list[I]:
        """The items of a kind, in their order."""
        return [item for item in self.items if isinstance(item, kind)]

    def last(self, kind: type[I]) -> I | None:
        """The last item of a kind."""
        return next((item for item in reversed(self.items) if isinstance(item, kind)), None)

    async def until(self, check: Callable[[], object]) -> None:
        """Return when `check` holds; it is asked again after each item."""
        async with asyncio.timeout(WITHIN):
            while not check():
                self._changed.clear()
                await self._changed.wait()

    async def states(self, **wanted: int) -> None:
        """Return when so many rows are in these states, and none in others."""
        await self.until(lambda: self.counts() == wanted)

    def counts(self) -> dict[str, int]:
        """How many rows are in each state."""
        found: dict[str, int] = {}
        for row in self.rows.values():
            found[row.state] = found.get(row.state, 0) + 1
        return found


async def stored_rows(js: JetStream) -> dict[str, Row]:
    """The rows that the streams hold, read one after the other from their starts."""
    found: dict[str, Row] = {}
    for message in await messages(js, subjects.RECORDS):
        row = from_record(
            subject_of(message),
            sequence_of(message),
            stored_ns(message) // 1_000_000,
            message.data,
            detailed=True,
        )
        found[row.id] = row
    for message in await messages(js, subjects.TASKS):
        task = from_task(
            subject_of(message),
            sequence_of(message),
            stored_ns(message),
            message.headers,
            message.data,
        )
        if task is not None:
            found.setdefault(task.id, task)
    return found


async def messages(js: JetStream, stream: str) -> list[Message]:
    found: list[Message] = []
    first, more = 1, True
    while more:
        messages, more = await page(js.connection, stream, first)
        found += messages
        first = sequence_of(messages[-1]) + 1 if messages else first
    return found
