"""One client's connection: parse, ask for a reply, play it in time.

One request at a time: what a pipelining client sends meanwhile is kept, not parsed. Reading never
stops for that, because only a read tells that the client has gone. A reply costs one timer per
moment at which something is due, and no task.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final, Protocol

from agentflow.simulator import http
from agentflow.simulator.reply import End, Reply

_BACKLOG: Final = http.MAX_BODY + 1024 * 1024
"""Bytes a client may pipeline behind a request in flight before its connection is cut."""

_BATCH: Final = 64 * 1024
"""Bytes of frames that are joined into one write."""


class Exchange(Protocol):
    """A request being answered."""

    reply: Reply

    def produced(self, output_tokens: int) -> None:
        """These tokens have been written."""

    def ended(self, *, disconnected: bool) -> None:
        """The reply is played to its end, or the client has gone. Called once."""


class Service(Protocol):
    """What stands behind the connections."""

    def answer(self, request: http.Request) -> Exchange:
        """How to answer."""

    def refuse(self, error: http.ProtocolError) -> Reply:
        """How to answer bytes that are no request."""

    def opened(self, connection: Connection) -> None:
        """A client connected."""

    def closed(self, connection: Connection) -> None:
        """Its connection has ended."""


class Connection(asyncio.Protocol):
    """Serves one client."""

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop
        self._parser = http.RequestParser()
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._keep_alive = True
        self._timer: asyncio.TimerHandle | None = None
        self._next_frame = 0
        self._start = 0.0
        self._writable = True

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._service.opened(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        if self._exchange is None:
            self._serve()
        elif self._parser.buffered > _BACKLOG:
            self.abort()

    def eof_received(self) -> bool:
        # Half a close cannot be told from a whole one, and a client that hung up must not be
        # waited for: both end the request in flight. What is already written still goes out.
        self._abandon()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._abandon()
        self._transport = None
        self._service.closed(self)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._exchange is not None and self._timer is None and self._play():
            self._serve()

    # --- serving

    def abort(self) -> None:
        """Ends the connection now; what is not yet sent is lost."""
        if self._transport is not None:
            self._transport.abort()

    def _serve(self) -> None:
        # A loop, not a call from the end of one reply to the next request: a long pipeline of
        # instant answers would otherwise nest until the stack is full.
        try:
            while self._open() and (event := self._parser.next_event()) is not None:
                if isinstance(event, http.Expectation):
                    self._write(http.CONTINUE)
                    continue
                self._keep_alive = event.keep_alive
                self._start = self._loop.time()
                self._next_frame = 0
                self._exchange = self._service.answer(event)
                if not self._play():
                    return
        except http.ProtocolError as error:
            self._write(self._service.refuse(error).frames[0].data)
            self._close()

    def _play(self) -> bool:
        """Sends what is due; True when the reply is over and the connection goes on."""
        exchange = self._exchange
        assert exchange is not None
        self._timer = None
        frames = exchange.reply.frames
        due: list[bytes] = []
        size = 0
        elapsed = self._loop.time() - self._start
        while self._next_frame < len(frames):
            frame = frames[self._next_frame]
            if frame.at > elapsed:
                self._write(b"".join(due))
                self._timer = self._loop.call_at(self._start + frame.at, self._on_timer)
                return False
            if not self._writable:
                break
            due.append(frame.data)
            size += len(frame.data)
            if size >= _BATCH:
                # Handed over now, so that a client that does not read stops the rest.
                self._write(b"".join(due))
                due, size = [], 0
            if frame.output_tokens:
                exchange.produced(frame.output_tokens)
            self._next_frame += 1
        self._write(b"".join(due))
        if self._next_frame < len(frames):
            return False
        return self._end(exchange)

    def _on_timer(self) -> None:
        if self._play():
            self._serve()

    def _end(self, exchange: Exchange) -> bool:
        if exchange.reply.end is End.HANG:
            return False
        self._exchange = None
        exchange.ended(disconnected=False)
        if exchange.reply.end is End.RESET:
            self._reset()
        elif exchange.reply.end is End.CLOSE or not self._keep_alive:
            self._close()
        return self._open()

    def _abandon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.ended(disconnected=True)

    # --- the transport

    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _reset(self) -> None:
        assert self._transport is not None
        client: socket.socket | None = self._transport.get_extra_info("socket")
        if client is not None:
            # Without lingering for zero seconds a close is a FIN, the orderly end.
            with contextlib.suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
