"""A fenced log: each write names the sequence it follows. Nothing of tasks.

The server stores a write only where that sequence is still the log's last. A refusal or a missing
answer proves nothing, so after either one the last entry is read from the leader:

- it is what my write was to follow: send again;
- it is my own write: it succeeded;
- it is anything else: another writer came first (`MovedOn`).

Nobody sends a log's next write before the outcome of the one before is known.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from agentflow.bus.streams.jetstream import JetStream, PubAck, Stored
from agentflow.errors import (
    AgentFlowError,
    BusError,
    PayloadTooLarge,
    PermissionDenied,
    WrongSequence,
)

_log = logging.getLogger(__name__)

WRITE_TIMEOUT: Final = 5.0
PAUSE_MIN: Final = 0.02
PAUSE_MAX: Final = 2.0

Entry = TypeVar("Entry")
"""What one message of a log says, decoded."""


class MovedOn(AgentFlowError):
    """Another writer came first; `stored` is what the log ends with now."""

    def __init__(self, stored: Stored | None) -> None:
        super().__init__("another writer came first")
        self.stored = stored


class Write(msgspec.Struct, Generic[Entry], frozen=True, kw_only=True):
    """What to store, and where: in `log` (a filter of subjects), after the sequence `follows`.

    `data` is `entry` encoded, `block` its headers, the fence among them. `is_own` knows it again in
    what the log ends with; `name` and `facts` are for people, should its outcome be unknown.
    """

    log: str
    follows: int
    subject: str
    entry: Entry
    data: bytes
    block: bytes
    is_own: Callable[[Entry], bool]
    name: str
    facts: dict[str, object]


class FencedLogs(Generic[Entry]):
    """The logs of one stream."""

    def __init__(self, js: JetStream, stream: str, decode: Callable[[Stored], Entry]) -> None:
        self._js = js
        self._stream = stream
        self._decode = decode

    async def last(self, log: str) -> Stored | None:
        """What a log ends with, from the leader. Raises BusError."""
        return await self._js.last(self._stream, log)

    async def append(self, write: Write[Entry]) -> tuple[int, Entry]:
        """Store `write`; returns its sequence, and the entry as it stands there.

        Goes on until the outcome is known; bound it with asyncio.timeout where that may take too
        long. Raises MovedOn, PayloadTooLarge, PermissionDenied.
        """
        pause = PAUSE_MIN
        again = False
        while True:
            try:
                ack = await self._js.store(write.subject, write.data, write.block, WRITE_TIMEOUT)
                return ack.seq, write.entry
            except (PayloadTooLarge, PermissionDenied):
                raise
            except WrongSequence:
                pass
            except BusError as error:
                facts = {"action": "write", **write.facts}
                _log.info("%s not confirmed: %s", write.name, error, extra=facts)
            stored = await self._last_patiently(write)
            if stored is not None and write.is_own(entry := self._decode(stored)):
                return stored.sequence, entry
            if (stored.sequence if stored is not None else 0) != write.follows:
                raise MovedOn(stored)
            if again:
                pause = await _pause(pause)
            again = True

    async def _last_patiently(self, write: Write[Entry]) -> Stored | None:
        pause = PAUSE_MIN
        while True:
            try:
                return await self.last(write.log)
            except PermissionDenied:
                raise
            except BusError as error:
                facts = {"action": "read", **write.facts}
                _log.debug("%s: reading the log again: %s", write.name, error, extra=facts)
                pause = await _pause(pause)


async def store_patiently(js: JetStream, subject: str, payload: bytes, block: bytes) -> PubAck:
    """Store a message that may be stored twice without harm; returns when it is.

    Raises PayloadTooLarge, PermissionDenied.
    """
    pause = PAUSE_MIN
    while True:
        try:
            return await js.store(subject, payload, block, WRITE_TIMEOUT)
        except (PayloadTooLarge, PermissionDenied):
            raise
        except BusError as error:
            _log.info("%s is not stored yet: %s", subject, error)
            pause = await _pause(pause)


async def _pause(seconds: float) -> float:
    await asyncio.sleep(seconds * (0.5 + random.random()))
    return min(seconds * 2, PAUSE_MAX)
