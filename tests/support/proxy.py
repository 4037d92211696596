"""A TCP proxy on loopback that a test can turn into a bad network.

`hold` is a network that drops: connections stay open, new ones are taken by the kernel, and nobody
hears anything. What was sent meanwhile arrives after `release`, as TCP would send it again. `cut`
resets every connection. `hold_after` holds what clients send from the moment on at which one of
them has sent a certain text: so an ack can be lost whose record was stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

_CHUNK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards connections to a port of this machine."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.seen = asyncio.Event()
        """Set once the text of `hold_after` went by."""
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._up.set()
        self._down.set()
        self._after = b""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """End it and all connections."""
        if self._server is not None:
            self._server.close()
        # Streams log a served connection that is cancelled; one that is cut ends by itself.
        self.release()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)

    def hold(self, *, up: bool = True, down: bool = True) -> None:
        """Deliver nothing from now on: `up` to the server, `down` to the clients."""
        if up:
            self._up.clear()
        if down:
            self._down.clear()

    def hold_after(self, text: bytes) -> None:
        """Deliver the piece in which a client sends this text, and nothing after it."""
        self._after = text

    def release(self) -> None:
        """Deliver what was held, and all that comes."""
        self._after = b""
        self._up.set()
        self._down.set()

    def cut(self) -> None:
        """Reset every connection; what was held is lost."""
        for writer in list(self._writers):
            connection = writer.get_extra_info("socket")
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._up.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)
            return
        self._writers.add(back)
        pumps = [
            asyncio.create_task(self._pump(reader, back, self._up, rising=True)),
            asyncio.create_task(self._pump(there, writer, self._down)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for each in (writer, back):
                each.transport.abort()
                self._writers.discard(each)
            self._tasks.discard(task)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        gate: asyncio.Event,
        *,
        rising: bool = False,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                await gate.wait()
                sink.write(data)
                await sink.drain()
                if rising and self._after and self._after in data:
                    gate.clear()
                    self.seen.set()
