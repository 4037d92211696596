"""The bucket `agentflow`: small facts that all processes share (pauses, closed pools, the lease).

A `Board` keeps a copy of the whole bucket and follows its changes over the live copies; who asks it
waits for nothing. It is exact enough for gates: what it learns late costs a refused request, never
a wrong record. No live copy tells that the bucket was deleted, purged or made anew (its sequences
begin again then), so `watch` looks at the stream itself now and then. Changes are made by
compare-and-set, so two writers never undo each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Final, Protocol

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.pages import page, sequence_of, subject_of
from agentflow.bus.wire.connection import Subscription
from agentflow.bus.wire.message import Message
from agentflow.errors import BusError, NotFound, WrongSequence
from agentflow.protocol import headers as blocks
from agentflow.protocol import subjects

_log = logging.getLogger(__name__)

_LIVE: Final = len(subjects.LIVE_STATE) - 1
_STORED: Final = len(subjects.kv(""))
OPERATION: Final = "KV-Operation"
"""The header of a message that deletes its key."""
_DELETES: Final = frozenset({"DEL", "PURGE"})
TRIES: Final = 50
WATCH_EVERY: Final = 10.0
"""Seconds after which a deleted bucket is noticed."""

Change = Callable[[bytes | None], bytes | None]
"""From a key's value (None: there is none) to its new value (None: it is to go)."""


class Stored(Protocol):
    """A message of the bucket, however it was read."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def data(self) -> bytes: ...


def value_of(message: Stored | None) -> bytes | None:
    """The value that a key's last message gives it, None where it deletes it or there is none."""
    if message is None or message.headers.get(OPERATION) in _DELETES:
        return None
    return message.data


async def read_all(js: JetStream) -> AsyncIterator[tuple[str, int, bytes | None]]:
    """The bucket, page by page: keys, sequences and values, None of a deleted key.

    Raises BusError.
    """
    sequence = 1
    while True:
        entries = await page(js.connection, subjects.KV_STREAM, sequence, filter=subjects.kv(">"))
        for message in entries.messages:
            sequence = sequence_of(message)
            yield subject_of(message)[_STORED:], sequence, value_of(message)
            sequence += 1
        if not entries.more:
            return


class Board:
    """The bucket as this process knows it."""

    def __init__(self, js: JetStream) -> None:
        self._js = js
        self._values: dict[str, tuple[int, bytes | None]] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._subscription: Subscription | None = None
        self._unhook: Callable[[], None] | None = None
        self._created = ""

    # Reading.

    def get(self, key: str) -> bytes | None:
        """The value of a key, None where there is none."""
        return self._values.get(key, (0, None))[1]

    def items(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Keys that begin so, with their values."""
        for key, (_, value) in list(self._values.items()):
            if value is not None and key.startswith(prefix):
                yield key, value

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call back with a key whenever its value changed; inside the read loop."""
        self._listeners.append(listener)

    # Following.

    async def start(self) -> None:
        """Follow the bucket from now on. Raises BusError where it cannot be read."""
        connection = self._js.connection
        self._subscription = await connection.subscribe(subjects.LIVE_STATE, self._changed)
        self._unhook = connection.on_connect(self.read_again)
        await connection.flush()
        await self._read()
        await self._look()

    async def watch(self) -> None:
        """Forget what is gone with the bucket; runs until cancelled. Raises BusError."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            await self._look()

    async def _look(self) -> None:
        try:
            info = await self._js.stream_info(subjects.KV_STREAM)
        except NotFound:
            created, first = "", 0
        else:
            created, first = info["created"], info["state"]["first_seq"]
        another = created != self._created and bool(self._created)
        self._created = created or self._created
        gone = [
            key
            for key, (sequence, _) in self._values.items()
            if not created or another or sequence < first
        ]
        for key in gone:
            del self._values[key]
            for listener in self._listeners:
                listener(key)
        if created and gone:
            await self._read()

    async def close(self) -> None:
        """Follow it no more; for whoever ends before the connection does."""
        if self._subscription is not None:
            await self._subscription.close()
        if self._unhook is not None:
            self._unhook()

    async def read_again(self) -> None:
        """Read all of it, trying until that is done or the connection is lost."""
        pause = 0.1
        while self._js.connection.connected.is_set():
            try:
                await self._read()
                return
            except BusError as error:
                _log.debug("reading the bucket: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5.0)

    async def _read(self) -> None:
        async for key, sequence, value in read_all(self._js):
            self._take(key, sequence, value)

    def _changed(self, message: Message) -> None:
        self._take(message.subject[_LIVE:], sequence_of(message), value_of(message))

    def _take(self, key: str, sequence: int, value: bytes | None) -> None:
        if sequence <= self._values.get(key, (0, None))[0]:
            return
        self._values[key] = (sequence, value)
        for listener in self._listeners:
            listener(key)

    # Changing.

    async def change(self, key: str, change: Change) -> bytes | None:
        """Set a key to what `change` makes of its value; again when another came between.

        Returns the value it has now. Raises BusError.
        """
        subject = subjects.kv(key)
        for _ in range(TRIES):
            last = await self._js.last(subjects.KV_STREAM, subject)
            present = value_of(last)
            value = change(present)
            if value == present:
                return present
            headers = {"Nats-Expected-Last-Subject-Sequence": str(last.sequence if last else 0)}
            if value is None:
                headers[OPERATION] = "PURGE"
            try:
                await self._js.store(subject, value or b"", blocks.encode(headers))
            except WrongSequence:
                continue
            return value
        raise BusError(f"the key {key} changes faster than it can be written")
