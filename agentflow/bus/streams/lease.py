"""A lease: which of several processes bothers.

Nothing depends on it being exclusive; everything its holder does is fenced by a log or a
compare-and-set. It is a key of the bucket that the server forgets after some seconds, written by
compare-and-set.
"""

from __future__ import annotations

import asyncio
import logging
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
        if value is not None:
            self.holder = _holder(value)
            if self.holder != self._actor:
                self._renewed = -1e9
                return
        asked = asyncio.get_running_loop().time()
        try:
            await self._write(msgspec.json.encode(LeaseValue(actor=self._actor)), expected, {})
        except WrongSequence:
            return  # another one was quicker; the next turn sees who
        self._renewed = asked
        self.holder = self._actor

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


def _holder(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=LeaseValue).actor
    except msgspec.DecodeError:
        return "an unknown actor"
