"""The bucket `agentflow_cache`: answers that are kept longer than their logs.

It is made when it is first written to, for it takes room that nobody asked for until then. It holds
so many bytes, and what is oldest goes first; each answer says itself how long it stays.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.provision import make
from agentflow.errors import BusError, NotFound
from agentflow.protocol import headers as blocks
from agentflow.protocol import limits, streams, subjects


class CacheStats(msgspec.Struct, frozen=True):
    """What the cache holds; `bytes` are those of the answers, at most `max_bytes`."""

    answers: int
    bytes: int
    max_bytes: int
    oldest: datetime | None
    newest: datetime | None


class Cache:
    """The cache as a job and its commands use it. Methods raise BusError."""

    def __init__(self, js: JetStream) -> None:
        self._js = js

    async def ensure(self, *, max_bytes: int = limits.CACHE_BYTES) -> None:
        """Make the bucket where it is missing. Raises BusError where that may not be."""
        for difference in await make(self._js, streams.cache(max_bytes=max_bytes)):
            if difference.missing:
                raise BusError(
                    "there is no cache of answers, and this NATS user may not make one; "
                    "`agentflow cache create` as an administrator does"
                )

    async def resize(self, max_bytes: int) -> None:
        """Make it, or let it hold so many bytes from now on."""
        await self.ensure(max_bytes=max_bytes)
        config = (await self._js.stream_info(subjects.CACHE_STREAM))["config"]
        if config.get("max_bytes") != max_bytes:
            verb = f"STREAM.UPDATE.{subjects.CACHE_STREAM}"
            await self._js.api(verb, {**config, "max_bytes": max_bytes})

    async def get(self, key: str) -> tuple[bytes, datetime] | None:
        """A value and when it was stored, None where there is none."""
        try:
            stored = await self._js.direct(subjects.CACHE_STREAM, subjects.cached(key))
        except NotFound:
            return None
        return None if stored is None or not stored.data else (stored.data, stored.time)

    async def put(self, key: str, value: bytes, seconds: int) -> None:
        """Keep a value for so long, in the place of the one before."""
        block = blocks.encode({"Nats-TTL": f"{seconds}s"})
        await self._js.store(subjects.cached(key), value, block)

    async def stats(self) -> CacheStats | None:
        """What it holds, None where there is no cache."""
        try:
            info = await self._js.stream_info(subjects.CACHE_STREAM)
        except NotFound:
            return None
        state = info["state"]
        held = state["messages"]
        return CacheStats(
            answers=held,
            bytes=state["bytes"],
            max_bytes=info["config"].get("max_bytes", -1),
            oldest=msgspec.convert(state["first_ts"], datetime, strict=False) if held else None,
            newest=msgspec.convert(state["last_ts"], datetime, strict=False) if held else None,
        )

    async def prune(self, before: datetime | None = None) -> int:
        """Remove the answers stored before an instant, or all; how many there were."""
        stats = await self.stats()
        if stats is None or not stats.answers:
            return 0
        body: dict[str, int] = {}
        if before is not None and stats.newest is not None and stats.newest >= before:
            body["seq"] = await self._first_since(before)
        answer = await self._js.api(f"STREAM.PURGE.{subjects.CACHE_STREAM}", body)
        return int(answer.get("purged", 0))

    async def _first_since(self, instant: datetime) -> int:
        """The sequence of the first answer that was stored then or later."""
        state = (await self._js.stream_info(subjects.CACHE_STREAM))["state"]
        low, high = int(state["first_seq"]), int(state["last_seq"])
        while low < high:
            middle = (low + high) // 2
            stored = await self._js.next_after(subjects.CACHE_STREAM, middle, subjects.cached(">"))
            if stored is not None and stored.time < instant:
                low = stored.sequence + 1
            else:
                high = middle
        return low
