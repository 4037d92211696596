"""Connections to Claude for many requests at once: several small pools instead of a large one.

The HTTP library's pool walks all of its connections whenever a request begins or ends, and asks the
kernel about each idle one. So the price of a request grows with how many are in flight: a thousand
at once, of two seconds each, took 7.5 s in one process and take 4.7 s over small pools. A request
goes to the first pool with room: few requests need one pool and use its connections again, and what
a burst leaves behind is closed once nobody needed it for a while.

Where the environment names a proxy, the SDK's own client stays, which knows about proxies.
"""

from __future__ import annotations

import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator
from typing import Final

import httpx2

SIZE: Final = 32
"""Requests in flight in one pool."""
KEPT: Final = 5.0
"""Seconds that an unused connection is kept, as by the library itself."""

_LIMITS: Final = httpx2.Limits(
    max_connections=None, max_keepalive_connections=SIZE, keepalive_expiry=KEPT
)
# What the SDK's own client sets: a path that has died is noticed under a silent stream.
_SOCKET: Final = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))
        if hasattr(socket, name)
    ),
]


def proxied() -> bool:
    """Whether the environment names a proxy."""
    return any(scheme != "no" for scheme in urllib.request.getproxies())


class _Pool:
    __slots__ = ("idle_since", "in_flight", "transport")

    def __init__(self, context: ssl.SSLContext) -> None:
        self.transport = httpx2.AsyncHTTPTransport(
            verify=context, limits=_LIMITS, socket_options=_SOCKET
        )
        self.in_flight = 0
        self.idle_since = 0.0

    def ended(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self.idle_since = time.monotonic()


class _Body(httpx2.AsyncByteStream):
    """A response's body that tells its pool when it is closed."""

    __slots__ = ("_pool", "_stream")

    def __init__(self, stream: httpx2.AsyncByteStream, pool: _Pool) -> None:
        self._stream = stream
        self._pool: _Pool | None = pool

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            pool, self._pool = self._pool, None
            if pool is not None:
                pool.ended()


class Pools(httpx2.AsyncBaseTransport):
    """A transport of as many small pools as are needed now."""

    def __init__(self) -> None:
        # One for all: each would cost 22 ms and 0.8 MB.
        self._context = httpx2.create_ssl_context()
        self._pools: list[_Pool] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it over the first pool that has room."""
        pool = self._with_room()
        pool.in_flight += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            pool.ended()
            raise
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Body(response.stream, pool)
        await self._close_unused()
        return response

    def _with_room(self) -> _Pool:
        for pool in self._pools:
            if pool.in_flight < SIZE:
                return pool
        self._pools.append(_Pool(self._context))
        return self._pools[-1]

    async def _close_unused(self) -> None:
        last = self._pools[-1]
        if not last.in_flight and time.monotonic() - last.idle_since > KEPT:
            self._pools.pop()
            await last.transport.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.transport.aclose()
