"""A lease: which of several processes bothers.

Nothing depends on it being exclusive; everything its holder does is fenced by a log or a
compare-and-set. It is a key of the bucket that the server forgets after some seconds, written by
compare-and-set.
"""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import datetime
from typing import Final

import msgspec

from agentflow.bus.streams.bucket import OPERATION, value_of
from agentflow.bus.streams.jetstream import JetStream
from agentflow.errors import BusError, WrongSequence
from agentflow.protocol import headers as blocks
from agentflow.protocol import subjects

_log = logging.getLogger(__name__)

MASTER: Final = "lease.master"
"""Which of several masters sweeps."""
LASTS: Final = 6
"""Seconds; the server counts whole ones."""
RENEWED: Final = 2.0
OUTLIVED: Final = 3.0 * LASTS
"""Seconds after which a value that is still there is none that the server will forget."""
_ACTOR: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")


class LeaseValue(msgspec.Struct, frozen=True):
    """What the key holds."""

    v: int = 1
    actor: str = ""


class Lease:
    """The lease under a key, as one actor sees it."""

    def __init__(self, js: JetStream, actor: str, key: str = MASTER) -> None:
        self._js = js
        self._key = key
        self._actor = actor
        self._sequence = 0
        self._renewed = -1e9
        self.holder = ""

    @property
    def held(self) -> bool:
        """Whether this actor has it, as far as it knows."""
        return asyncio.get_running_loop().time() - self._renewed < LASTS

    async def keep(self) -> None:
        """Take it when it is free, renew it while it is ours; runs until cancelled."""
        while True:
            try:
                await self.turn()
            except BusError as error:
                _log.debug("the lease: %s", error)
            await asyncio.sleep(RENEWED)

    async def turn(self) -> None:
        """Take or renew once. Raises BusError."""
        last = await self._js.last(subjects.KV_STREAM, subjects.kv(self._key))
        expected = last.sequence if last else 0
        value = value_of(last)
        if last is not None and value is not None:
            holder = holder_of(value)
            self.holder = holder or "an unknown actor"
            if self.holder != self._actor:
                self._renewed = -1e9
                if holder is not None and not self._outlived(last.time):
                    return
                _log.warning("%s holds what no actor keeps there; replaced", self._key)
        asked = asyncio.get_running_loop().time()
        try:
            await self._write(msgspec.json.encode(LeaseValue(actor=self._actor)), expected, {})
        except WrongSequence:
            return  # another one was quicker; the next turn sees who
        self._renewed = asked
        self.holder = self._actor

    def _outlived(self, written: datetime) -> bool:
        """Whether a value should be gone by now: whoever wrote it named no end."""
        return (self._js.now() - written).total_seconds() > OUTLIVED

    async def release(self) -> None:
        """Let another one have it now."""
        if not self.held:
            return
        self._renewed = -1e9
        try:
            await self._write(b"", self._sequence, {OPERATION: "DEL"}, timeout=1.0)
        except BusError as error:
            _log.debug("the lease is left to expire: %s", error)

    async def _write(
        self, value: bytes, expected: int, extra: dict[str, str], timeout: float = 5.0
    ) -> None:
        block = blocks.encode(
            {
                "Nats-TTL": str(LASTS),
                "Nats-Expected-Last-Subject-Sequence": str(expected),
                **extra,
            }
        )
        ack = await self._js.store(subjects.kv(self._key), value, block, timeout)
        self._sequence = ack.seq


def holder_of(data: bytes) -> str | None:
    """Who holds a lease; None for nonsense, which anybody with a client of NATS may have put."""
    try:
        actor = msgspec.json.decode(data, type=LeaseValue).actor
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return actor if _ACTOR.fullmatch(actor) else None
