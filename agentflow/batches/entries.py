"""What waits for a batch, read page by page. From any replica: whoever decides asks the leader.

A range of the table ends with an entry that is stored, so a reader knows whether it has seen all.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from agentflow.batches.place import Place
from agentflow.bus.streams.pages import page, sequence_of, stored_ns, subject_of
from agentflow.bus.wire.message import Message
from agentflow.errors import AgentFlowError, InvalidTask
from agentflow.protocol import batches, subjects
from agentflow.protocol import task as tasks

PAGE_BYTES = 4 * 1024 * 1024
PAGE_MESSAGES = 2_000


class NotYet(AgentFlowError):
    """A replica does not show all of a range yet, or the API not all results: again later."""


class Item(msgspec.Struct, frozen=True):
    """One entry: its place, its task, the sequence of the record it belongs to, and the message."""

    sequence: int
    id: str
    waiting: int
    message: Message

    @property
    def stored(self) -> float:
        """Unix time."""
        return stored_ns(self.message) / 1e9

    @property
    def refers(self) -> bool:
        """Whether its task says more than its message holds, as far as its headers tell."""
        return "payload" in self.message.headers.get(subjects.NEEDS, "")

    @property
    def size(self) -> int:
        """Bytes of what it asks."""
        data = self.message.data
        if not self.refers:
            return len(data)
        with contextlib.suppress(InvalidTask):
            if (payload := tasks.parse_body(data, self.message.headers).payload) is not None:
                return len(data) + payload.size
        return len(data)

    @property
    def priority(self) -> str:
        """Of the task."""
        return self.message.headers.get(subjects.PRIORITY, "normal")


async def pages(place: Place, first: int, last: int | None = None) -> AsyncIterator[list[Item]]:
    """The entries from `first` to `last`, or to the end of what is there. Raises BusError, NotYet.

    Entries of other places lie between them.
    """
    at = first
    while last is None or at <= last:
        got = await page(
            place.js.connection,
            subjects.BATCH,
            at,
            filter=place.entries,
            batch=PAGE_MESSAGES,
            max_bytes=PAGE_BYTES,
        )
        items = []
        for message in got.messages:
            at = sequence_of(message) + 1
            entry = batches.parse_entry(subject_of(message))
            if entry is not None and (last is None or at - 1 <= last):
                items.append(Item(at - 1, entry.id, entry.waiting, message))
        if items:
            yield items
        if not got.more or not got.messages:
            break
    if last is not None and at <= last:
        raise NotYet(f"entry {last} of {place.key} is not shown yet")


async def entry_at(place: Place, sequence: int) -> Item | None:
    """The entry at a sequence; None where it is gone. Raises BusError."""
    got = await page(place.js.connection, subjects.BATCH, sequence, filter=place.entries, batch=1)
    for message in got.messages:
        entry = batches.parse_entry(subject_of(message))
        if entry is not None and sequence_of(message) == sequence:
            return Item(sequence, entry.id, entry.waiting, message)
    return None
