"""A fenced log: each write names the sequence it follows. Nothing of tasks.

The server stores a write only where that sequence is still the log's last. A refusal or a missing
answer proves nothing, so after either one the last entry is read from the leader:

- it is what my write was to follow: send again;
- it is my own write: it succeeded;
- it is anything else: another writer came first, and the log has moved on.

Nobody sends a log's next write before the outcome of the one before is known.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
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


class _Entry(Protocol):
    """Where it is stored, and the sequence that must be its log's last one."""

    @property
    def subject(self) -> str: ...
    @property
    def follows(self) -> int: ...


class _End(Protocol):
    """What a log ends with: 0 where it is empty."""

    @property
    def sequence(self) -> int: ...


Entry = TypeVar("Entry", bound=_Entry)
End = TypeVar("End", bound=_End)


class FencedLogs(ABC, Generic[Entry, End]):
    """The logs of one stream; what their entries are, a subclass says."""

    def __init__(self, js: JetStream, stream: str) -> None:
        self._js = js
        self._stream = stream

    @abstractmethod
    def _log_of(self, entry: Entry) -> str:
        """Its log, as a filter of subjects."""

    @abstractmethod
    def _stored_at(self, sequence: int, entry: Entry) -> End:
        """The end of a log that `entry` was just appended to."""

    @abstractmethod
    def _end_of(self, stored: Stored | None) -> End:
        """The end of a log, as it was read."""

    @abstractmethod
    def _is_own(self, end: End, entry: Entry) -> bool:
        """Whether the log ends with this very write."""

    @abstractmethod
    def _moved_on(self, end: End, entry: Entry) -> AgentFlowError:
        """What is raised where another writer came first."""

    @abstractmethod
    def _describe(self, entry: Entry) -> tuple[str, dict[str, object]]:
        """What its write is called, and facts for the program's log."""

    async def _append(self, entry: Entry, data: bytes, block: bytes) -> End:
        """Store `entry`, encoded as `data`, with `block` as headers, the fence among them.

        Goes on until the outcome is known; bound it with asyncio.timeout where that may take too
        long. Raises what `_moved_on` says, PayloadTooLarge, PermissionDenied.
        """
        pause = PAUSE_MIN
        again = False
        while True:
            try:
                ack = await self._js.store(entry.subject, data, block, WRITE_TIMEOUT)
                return self._stored_at(ack.seq, entry)
            except (PayloadTooLarge, PermissionDenied):
                raise
            except WrongSequence:
                pass
            except BusError as error:
                name, facts = self._describe(entry)
                facts["action"] = "write"
                _log.info("%s not confirmed: %s", name, error, extra=facts)
            end = await self._end_patiently(entry)
            if self._is_own(end, entry):
                return end
            if end.sequence != entry.follows:
                raise self._moved_on(end, entry)
            if again:
                pause = await _pause(pause)
            again = True

    async def _end(self, log: str) -> End:
        """What a log ends with, from the leader. Raises BusError."""
        return self._end_of(await self._js.last(self._stream, log))

    async def _end_patiently(self, entry: Entry) -> End:
        pause = PAUSE_MIN
        while True:
            try:
                return await self._end(self._log_of(entry))
            except PermissionDenied:
                raise
            except BusError as error:
                name, facts = self._describe(entry)
                facts["action"] = "read"
                _log.debug("%s: reading the log again: %s", name, error, extra=facts)
                pause = await _pause(pause)


async def store_patiently(
    js: JetStream,
    subject: str,
    payload: bytes,
    block: bytes,
    *,
    settled: tuple[type[BusError], ...] = (),
) -> PubAck:
    """Store a message that may be stored twice without harm; returns when it is.

    Raises PayloadTooLarge, PermissionDenied, and what is `settled` by its refusal.
    """
    pause = PAUSE_MIN
    while True:
        try:
            return await js.store(subject, payload, block, WRITE_TIMEOUT)
        except (PayloadTooLarge, PermissionDenied):
            raise
        except BusError as error:
            if isinstance(error, settled):
                raise
            _log.info("%s is not stored yet: %s", subject, error)
            pause = await _pause(pause)


async def _pause(seconds: float) -> float:
    await asyncio.sleep(seconds * (0.5 + random.random()))
    return min(seconds * 2, PAUSE_MAX)
