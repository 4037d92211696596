"""`/ws`: the same events as JSON frames, with subscriptions that change while it is open.

What a client says: `{"type": "subscribe", "id": "a", ...filter, "after": 12}`, `{"type":
"unsubscribe", "id": "a"}`, `{"type": "ping"}`. A subscription with `task` is of one task. What it
is told besides events: `subscribed`, `unsubscribed`, `pong`, `dropped`, `error`. Events carry their
sequence, and `after` of a subscription resumes behind it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, Final, Literal

import msgspec
from aiohttp import WSMsgType, web

from agentflow.errors import TaskNotFound
from agentflow.gateway.events.hub import Filter, Reader, written
from agentflow.gateway.events.streams import pieces
from agentflow.gateway.http.call import Call
from agentflow.gateway.routes.reading import known
from agentflow.protocol import subjects

BEAT: Final = 20.0
MOST: Final = 64
"""Subscriptions of one socket."""
MESSAGE_MOST: Final = 64 * 1024


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says."""


class Subscribe(_Said, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="subscribe"):
    """Tell of these events from now on, or from behind `after` on."""

    id: str = ""
    task: str = ""
    tokens: bool = True
    types: list[str] = []
    state: list[str] = []
    queue: list[str] = []
    kind: list[str] = []
    labels: dict[str, str] = {}
    job: str = ""
    records: bool = False
    after: int | None = None


class Unsubscribe(_Said, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="unsubscribe"):
    """Tell of them no more."""

    id: str = ""


class Ping(_Said, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ping"):
    """Are you there?"""

    id: str = ""


_said: Final = msgspec.json.Decoder(Subscribe | Unsubscribe | Ping)
_encoder = msgspec.json.Encoder()


class Told(msgspec.Struct, frozen=True):
    """What a socket is told beside events."""

    type: Literal["subscribed", "unsubscribed", "pong", "dropped", "error", "end"]
    data: dict[str, Any]


class Socket:
    """One open socket and its subscriptions."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._socket = web.WebSocketResponse(
            heartbeat=BEAT, max_msg_size=MESSAGE_MOST, compress=False
        )
        self._works: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> web.WebSocketResponse:
        """Serve it until it is closed."""
        socket = self._socket
        await socket.prepare(self._call.request)
        closing = asyncio.ensure_future(self._close_with_gateway())
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._heard(message.data)
        finally:
            closing.cancel()
            for work in self._works.values():
                work.cancel()
            await asyncio.gather(closing, *self._works.values(), return_exceptions=True)
        return socket

    async def _close_with_gateway(self) -> None:
        await self._call.gateway.closing.wait()
        await self._socket.close(code=1001, message=b"the gateway stops")

    async def _heard(self, data: str | bytes) -> None:
        try:
            said = _said.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            await self._tell("error", detail=str(error))
            return
        match said:
            case Ping():
                await self._tell("pong", id=said.id)
            case Unsubscribe():
                if (work := self._works.pop(said.id, None)) is not None:
                    work.cancel()
                await self._tell("unsubscribed", id=said.id)
            case Subscribe():
                await self._subscribe(said)

    async def _subscribe(self, said: Subscribe) -> None:
        if said.task and not subjects.is_id(said.task):
            await self._tell("error", id=said.id, detail="this is no id of a task")
            return
        if said.id in self._works:
            await self._tell("error", id=said.id, detail="this subscription is there already")
            return
        if len(self._works) >= MOST:
            await self._tell("error", id=said.id, detail=f"more than {MOST} subscriptions")
            return
        await self._tell("subscribed", id=said.id)
        make = self._one(said) if said.task else self._all(said)
        work = asyncio.get_running_loop().create_task(make, name="web socket")
        self._works[said.id] = work
        work.add_done_callback(lambda done: self._ended(said.id, done))

    def _ended(self, name: str, work: asyncio.Task[None]) -> None:
        if self._works.get(name) is work:
            del self._works[name]
        if not work.cancelled():
            work.exception()  # the socket is closed, or the client has been told

    async def _all(self, said: Subscribe) -> None:
        gateway, wanted = self._call.gateway, self._filter(said)
        await gateway.hub.started.wait()
        reader = Reader(wanted)
        if said.after is not None:
            await gateway.hub.reaches(said.after)
        position = gateway.hub.join(reader)
        try:
            if said.after is not None:
                events = gateway.client.history.events(said.after, position)
                async for piece in pieces(events, wanted):
                    await self._send(piece)
            while not reader.dropped:
                if (gathered := await reader.next(BEAT)) is not None:
                    await self._send(gathered)
            await self._tell("dropped", id=said.id, detail="you read too slowly")
        finally:
            gateway.hub.leave(reader)

    async def _one(self, said: Subscribe) -> None:
        try:
            await known(self._call, said.task)
        except TaskNotFound as error:
            if self._call.who.queues:
                await self._tell("error", id=said.id, detail=str(error))
                return
        wanted = msgspec.structs.replace(self._filter(said), reach=frozenset())
        events = self._call.gateway.client.watch(said.task, tokens=said.tokens, after=said.after)
        async with aclosing(events):
            async for event in events:
                if piece := written(event, wanted):
                    await self._send(piece)
        await self._tell("end", id=said.id, task=said.task)

    def _filter(self, said: Subscribe) -> Filter:
        return Filter(
            types=frozenset(said.types),
            state=frozenset(said.state),
            queue=frozenset(said.queue),
            kind=frozenset(said.kind),
            labels=frozenset(said.labels.items()),
            job=said.job,
            whole=said.records,
            reach=self._call.who.queues,
            lines=True,
        )

    async def _send(self, lines: bytes) -> None:
        for line in lines.splitlines():
            await self._socket.send_str(line.decode())

    async def _tell(self, type: Any, **data: Any) -> None:
        await self._socket.send_str(_encoder.encode(Told(type, data)).decode())
