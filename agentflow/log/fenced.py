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
from typing import Final, Generic, Protocol, TypeVar

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


class MovedOn(AgentFlowError):
    """Another writer came first; `stored` is what the log ends with now."""

    def __init__(self, stored: Stored | None) -> None:
        super().__init__("another writer came first")
        self.stored = stored


class Fenced(Protocol):
    """What every entry of a fenced log says of itself."""

    @property
    def subject(self) -> str:
        """Where it is stored."""

    @property
    def follows(self) -> int:
        """The sequence that must be the log's last one."""


Entry = TypeVar("Entry", bound=Fenced)


class Form(Protocol[Entry]):
    """What must be known of the entries of one stream."""

    def log(self, entry: Entry) -> str:
        """Its log, as a filter of subjects."""

    def decode(self, stored: Stored) -> Entry:
        """The entry that a stored message is."""

    def is_own(self, present: Entry, written: Entry) -> bool:
        """Whether what the log ends with is this very write."""

    def describe(self, entry: Entry) -> tuple[str, dict[str, object]]:
        """What its write is called, and facts for the program's log."""


class FencedLogs(Generic[Entry]):
    """The logs of one stream."""

    def __init__(self, js: JetStream, stream: str, form: Form[Entry]) -> None:
        self._js = js
        self._stream = stream
        self._form = form

    async def last(self, log: str) -> Stored | None:
        """What a log ends with, from the leader. Raises BusError."""
        return await self._js.last(self._stream, log)

    async def append(self, entry: Entry, data: bytes, block: bytes) -> tuple[int, Entry]:
        """Store `entry`; returns its sequence, and the entry as it stands there.

        `data` is the entry encoded, `block` its headers, the fence among them.

        Goes on until the outcome is known; bound it with asyncio.timeout where that may take too
        long. Raises MovedOn, PayloadTooLarge, PermissionDenied.
        """
        pause = PAUSE_MIN
        again = False
        while True:
            try:
                ack = await self._js.store(entry.subject, data, block, WRITE_TIMEOUT)
                return ack.seq, entry
            except (PayloadTooLarge, PermissionDenied):
                raise
            except WrongSequence:
                pass
            except BusError as error:
                name, facts = self._form.describe(entry)
                facts["action"] = "write"
                _log.info("%s not confirmed: %s", name, error, extra=facts)
            stored = await self._last_patiently(entry)
            if stored is not None:
                present = self._form.decode(stored)
                if self._form.is_own(present, entry):
                    return stored.sequence, present
            if (stored.sequence if stored is not None else 0) != entry.follows:
                raise MovedOn(stored)
            if again:
                pause = await _pause(pause)
            again = True

    async def _last_patiently(self, entry: Entry) -> Stored | None:
        pause = PAUSE_MIN
        while True:
            try:
                return await self.last(self._form.log(entry))
            except PermissionDenied:
                raise
            except BusError as error:
                name, facts = self._form.describe(entry)
                facts["action"] = "read"
                _log.debug("%s: reading the log again: %s", name, error, extra=facts)
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
