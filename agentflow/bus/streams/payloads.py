"""The object bucket: payloads that are too long for a message, in parts.

nats-py's object store is not used: it reads by an ordered consumer (docs/nats-py.md, 5), which
needs a permission to make one. Here parts are read from the stream's leader, one request each, and
no more of them than the reference says. Parts are stored before what is said of the whole, so what
was broken off leads nowhere; the master removes it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from datetime import UTC, datetime
from typing import Final

import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.errors import NotFound, PayloadLost, StreamFull
from agentflow.protocol import headers as blocks
from agentflow.protocol import limits, subjects
from agentflow.protocol import payload as payloads
from agentflow.protocol.payload import ObjectInfo, Payload

FULL_EVERY: Final = 1.0
_ROLLUP: Final = blocks.encode({"Nats-Rollup": "sub"})


class Payloads:
    """Puts and gets them. All methods raise BusError."""

    def __init__(self, js: JetStream) -> None:
        self._js = js

    async def put(self, task_id: str, data: bytes, *, wait_full: bool = True) -> None:
        """Store what a task says; where it is there already nothing is sent.

        Waits while the bucket holds as much as it may, or raises StreamFull. After any other error
        it is begun anew: a part that was not answered may be there twice.
        """
        reference = payloads.refer(data)
        name = payloads.object_name(task_id, reference)
        if await self.renew(task_id, reference):
            return
        nuid = secrets.token_hex(16)
        parts = range(0, len(data), limits.CHUNK_BYTES)
        for start in parts:
            part = data[start : start + limits.CHUNK_BYTES]
            await self._store(payloads.chunk_subject(nuid), part, wait_full)
        await self._say(payloads.info_of(name, nuid, data, len(parts), _now()))

    async def _store(self, subject: str, part: bytes, wait_full: bool) -> None:
        while True:
            try:
                await self._js.store(subject, part)
            except StreamFull:
                if not wait_full:
                    raise
                # What is there of it stays: begun anew, it would leave that behind each time.
                await asyncio.sleep(FULL_EVERY * (0.5 + random.random()))
            else:
                return

    async def get(self, task_id: str, reference: Payload) -> bytes:
        """What a task says. Raises PayloadLost where it is not there whole."""
        try:
            info = await self._info(payloads.object_name(task_id, reference))
            data = None if info is None else await self._read(info, reference.size)
        except NotFound:
            data = None  # the bucket itself is gone
        if data is None or not payloads.is_of(data, reference):
            what = "is gone from" if data is None else "is not what was stored in"
            raise PayloadLost(
                f"task {task_id}: its payload of {reference.size:,} bytes {what} the bucket "
                f"{subjects.OBJECTS}; submit the task again",
                task_id=task_id,
            )
        return data

    async def renew(self, task_id: str, reference: Payload) -> bool:
        """Let a payload count as stored now; False where it is not there."""
        info = await self._info(payloads.object_name(task_id, reference))
        if info is None or info.size != reference.size:
            return False
        await self._say(info)
        return True

    async def _say(self, info: ObjectInfo) -> None:
        await self._js.store(payloads.info_subject(info.name), msgspec.json.encode(info), _ROLLUP)

    async def _info(self, name: str) -> ObjectInfo | None:
        stored = await self._js.last(subjects.OBJECTS, payloads.info_subject(name))
        return None if stored is None else payloads.read_info(stored.data)

    async def _read(self, info: ObjectInfo, size: int) -> bytes | None:
        """Its parts, until there are as many bytes as wanted; more of them are never read."""
        data = bytearray()
        sequence = 1
        while len(data) < size:
            part = await self._js.next_after(
                subjects.OBJECTS, sequence, payloads.chunk_subject(info.nuid)
            )
            if part is None or not part.data:
                return None
            data += part.data
            sequence = part.sequence + 1
        return bytes(data)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
