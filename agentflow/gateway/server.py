"""The HTTP server: sockets, limits of time and number, and the way from a request to its route.

aiohttp's server alone, without its application: routes, errors and limits are ours, and a request
costs a third less. What is half a request, or none, or comes too slowly, is closed by the parser
and by the clocks here; compressed bodies are refused, so none unfolds.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from agentflow.gateway.gateway import Gateway
from agentflow.gateway.http import guard, problems
from agentflow.gateway.http.call import cors
from agentflow.gateway.http.problems import Refusal
from agentflow.gateway.http.route import Route
from agentflow.gateway.http.router import Router
from agentflow.gateway.settings import Settings

_log = logging.getLogger(__name__)
# What is no request is answered, and whoever sends such things fills no log with them.
_strangers = logging.getLogger(f"{__name__}.strangers")
_strangers.setLevel(logging.CRITICAL)

HEAD_WITHIN: Final = 30.0
"""Seconds for the head of a request; so long a connection may also be idle."""
HEAD_LINE: Final = 16_384
HEAD_FIELD: Final = 16_384
CLOSE_WITHIN: Final = 5.0
BACKLOG: Final = 1024
CORS_METHODS: Final = "GET, POST, PUT, DELETE"
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": CORS_METHODS,
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, "
    "Prefer",
    "Access-Control-Max-Age": "600",
}


class Limited(web.Server):
    """Holds at most so many connections of one address."""

    def __init__(self, most: int, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most = most
        self._held: Counter[str] = Counter()
        self._where: dict[RequestHandler, str] = {}

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._where)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """One more; closed at once where its address has enough."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        super().connection_made(handler, transport)
        self._where[handler] = address
        self._held[address] += 1
        if self._held[address] > self._most:
            transport.abort()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """One less."""
        super().connection_lost(handler, exc)
        address = self._where.pop(handler, None)
        if address is not None:
            self._held[address] -= 1
            if not self._held[address]:
                del self._held[address]


class HttpServer:
    """A gateway's routes on a socket."""

    def __init__(self, gateway: Gateway, routes: list[Route]) -> None:
        self._gateway = gateway
        self._router = Router(routes, gateway.settings.path)
        self._runner: web.ServerRunner | None = None

    async def start(self, listening: socket.socket) -> None:
        """Serve what comes in at a bound socket."""
        settings = self._gateway.settings
        server = Limited(
            settings.connections,
            self._answer,
            handler_cancellation=True,
            access_log=None,
            logger=_strangers,
            keepalive_timeout=HEAD_WITHIN,
            max_line_size=HEAD_LINE,
            max_field_size=HEAD_FIELD,
            lingering_time=1.0,
            auto_decompress=False,
        )
        self._gateway.connections = lambda: server.open
        self._runner = web.ServerRunner(server, shutdown_timeout=CLOSE_WITHIN)
        await self._runner.setup()
        site = web.SockSite(self._runner, listening, ssl_context=settings.tls(), backlog=BACKLOG)
        await site.start()

    async def close(self) -> None:
        """Take nothing more, and end what is open."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._routed(request)
        origins = self._gateway.settings.origins
        if origins and not response.prepared:
            response.headers.update(cors(request, origins))
        return response

    async def _routed(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if request.method == "OPTIONS" and cors(request, self._gateway.settings.origins):
                return web.Response(status=204, headers=_PREFLIGHT)
            route, name = self._router.find(request.method, request.path)
        except Refusal as refusal:
            return problems.answer(problems.of_refusal(refusal), refusal.headers)
        return await guard.answered(self._gateway, route, request, name)


def bound(settings: Settings, *, shared: bool = False, tries: int = 1) -> socket.socket:
    """A socket at the address wanted. Raises OSError.

    With `tries` above 1 at one of so many ports from there on, else at any that is free. `shared`:
    several processes listen at one port, and the system deals the connections out.
    """
    host = settings.host or "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = [port for port in range(settings.port, settings.port + tries) if port < 65_536]
    if tries > 1:
        ports.append(0)
    for port in ports:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            made.bind((host, port))
        except OSError:
            made.close()
            if port == ports[-1]:
                raise
            continue
        made.setblocking(False)
        return made
    raise OSError("no port is free")
