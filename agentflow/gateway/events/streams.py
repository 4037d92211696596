"""Server-sent events: of all tasks, or of one until it ends.

`id:` is a record's sequence, and whoever comes again with Last-Event-ID gets what came behind it:
first from the stream up to where the hub stands, then from the hub. A reader that cannot follow is
dropped with a last event, `dropped`, and may come again in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from aiohttp import web

from agentflow.client import Event
from agentflow.errors import AgentFlowError
from agentflow.gateway.events.hub import Filter, Reader, written
from agentflow.gateway.http.call import Call
from agentflow.gateway.http.problems import Refusal

SSE: Final = "text/event-stream"
ALIVE_EVERY: Final = 15.0
"""Seconds of silence after which a comment is sent: proxies close what is silent."""
WRITE_WITHIN: Final = 30.0
"""Seconds in which what was written must have gone out."""
AT_ONCE: Final = 64 * 1024
RETRY: Final = b"retry: 1000\n\n"
DROPPED: Final = (
    b'event: dropped\ndata: {"detail": "you read too slowly; come again with Last-Event-ID"}\n\n'
)


class Stream:
    """A response that goes on. Its reader has left, or reads nothing, where `write` raises."""

    def __init__(self, call: Call) -> None:
        self._response = web.StreamResponse(
            headers={
                "Content-Type": SSE,
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                "X-Content-Type-Options": "nosniff",
                **call.cors,
            }
        )
        self._request = call.request
        self._gateway = call.gateway

    async def open(self) -> web.StreamResponse:
        """Send the head."""
        await self._response.prepare(self._request)
        await self.write(RETRY)
        return self._response

    async def write(self, data: bytes) -> None:
        """Send a piece. Raises ConnectionError."""
        try:
            async with asyncio.timeout(WRITE_WITHIN):
                await self._response.write(data)
        except TimeoutError:
            raise ConnectionResetError("the reader takes nothing") from None

    @property
    def going(self) -> bool:
        """Whether the gateway goes on."""
        return not self._gateway.closing.is_set()


def resumed_after(call: Call, given: int | None) -> int | None:
    """The sequence behind which a reader goes on, None for one who begins. Raises Refusal."""
    text = call.header("Last-Event-ID")
    if not text:
        return given
    if not text.isascii() or not text.isdigit():
        raise Refusal(400, "Last-Event-ID is no sequence of ours")
    return int(text)


async def of_all(
    call: Call, wanted: Filter, after: int | None, *, tokens: bool = False
) -> web.StreamResponse:
    """What happens to all tasks that are wanted."""
    hub, client = call.gateway.hub, call.gateway.client
    await hub.started.wait()
    stream, reader = Stream(call), Reader(wanted)
    response = await stream.open()
    if after is not None:
        await hub.reaches(after)
    position = hub.join(reader)
    writing = asyncio.ensure_future(_tokens(call, reader)) if tokens else None
    try:
        if after is not None:
            events = client.history.events(after, position)
            async for piece in pieces(events, wanted):
                await stream.write(piece)
        await follow(stream, reader)
    finally:
        hub.leave(reader)
        if writing is not None:
            writing.cancel()
    return response


async def _tokens(call: Call, reader: Reader) -> None:
    """Give a reader the text of all tasks; few want it, so it is no part of the hub."""
    async with aclosing(call.gateway.client.watch(tokens=True)) as events:
        async for event in events:
            if event.kind == "tokens" and (piece := written(event, reader.wanted)):
                reader.put(piece)


async def follow(stream: Stream, reader: Reader) -> None:
    """Write what the hub gives a reader, until either ends."""
    while stream.going:
        piece = await reader.next(ALIVE_EVERY)
        if piece is None:
            await stream.write(b": \n\n")
        elif piece:
            await stream.write(piece)
        if reader.dropped:
            await stream.write(DROPPED)
            return


async def pieces(events: AsyncGenerator[Event], wanted: Filter) -> AsyncGenerator[bytes]:
    """Events as bytes, many at once."""
    gathered = bytearray()
    async with aclosing(events):
        async for event in events:
            gathered += written(event, wanted)
            if len(gathered) > AT_ONCE:
                yield bytes(gathered)
                gathered.clear()
    if gathered:
        yield bytes(gathered)


async def of_one(
    call: Call, task_id: str, wanted: Filter, after: int | None, *, tokens: bool
) -> web.StreamResponse:
    """What happens to one task until it has ended."""
    client = call.gateway.client
    stream = Stream(call)
    response = await stream.open()
    events = client.watch(task_id, tokens=tokens, after=after)
    async with aclosing(events):
        coming = asyncio.ensure_future(anext(events))
        try:
            while stream.going:
                done, _ = await asyncio.wait((coming,), timeout=ALIVE_EVERY)
                if not done:
                    await stream.write(b": \n\n")
                    continue
                try:
                    event = coming.result()
                except StopAsyncIteration:
                    await stream.write(b"event: end\ndata: {}\n\n")
                    break
                except AgentFlowError:
                    break  # the reader comes again
                if piece := written(event, wanted):
                    await stream.write(piece)
                coming = asyncio.ensure_future(anext(events))
        finally:
            coming.cancel()
            await asyncio.wait((coming,))
    return response
