"""What all requests of a process share: client, followed store, events, pictures, tokens."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiohttp import web

from agentflow.actor import actor_name
from agentflow.client import Client
from agentflow.client.live.live import Live
from agentflow.client.operate.tokens import Followed
from agentflow.config import Connect
from agentflow.dashboard.store.store import Store
from agentflow.errors import AgentFlowError, BusError, NoAnswer, NotConnected
from agentflow.gateway.events.hub import Hub
from agentflow.gateway.listings import LISTINGS
from agentflow.gateway.newest import Newest
from agentflow.gateway.settings import Settings
from agentflow.gateway.views import Pictures
from agentflow.gateway.webhooks import Sending
from agentflow.protocol import tokens
from agentflow.protocol.asked import Asked
from agentflow.protocol.tokens import Token
from agentflow.rules import authority
from agentflow.rules.authority import Identity
from agentflow.views.row import Row

if TYPE_CHECKING:
    from agentflow.telemetry.metrics import GatewayMetrics

_log = logging.getLogger(__name__)

RETRY: Final = 1.0
TICK: Final = 1.0
ADMITTED: Final = 20_000
"""Submissions that are remembered."""
OPEN: Final = Identity("admin", name="anybody on this machine")


class Admitted(NamedTuple):
    """A task that was submitted here: the store may not have heard of it yet.

    `ask` is what it asks, None where its id is new and nobody can ask under it again.
    """

    row: Row
    ask: Asked | None = None


class Gateway:
    """One process's part of it. `run` keeps it going; without a server it waits for one."""

    def __init__(self, options: Connect, settings: Settings) -> None:
        self.options = options
        self.settings = settings
        self.store = Store()
        self.newest = Newest(self.store)
        self.hub = Hub()
        self.sending = Sending()
        self.pictures = Pictures(self, LISTINGS)
        self.counts: dict[tuple[str, int], int] = {}
        """Answers by route and status."""
        self.connections: Callable[[], int] = lambda: 0
        self.closing = asyncio.Event()
        self.large = asyncio.Semaphore(2)
        """Bodies of more than 4 MiB that are read at the same time."""
        self.names = frozenset({socket.gethostname().lower(), *settings.names})
        self.admitted: OrderedDict[str, Admitted] = OrderedDict()
        """By id what was submitted lately and here."""
        self.sums: dict[Any, tuple[float, Any]] = {}
        """Sums over all records, each with when it was made."""
        self._client: Client | None = None
        self._live: Live | None = None
        self._tokens: Followed | None = None
        self._said = ""
        self._metrics: GatewayMetrics | None = None

    # Facts.

    @property
    def client(self) -> Client:
        """The client. Raises NotConnected while there is none."""
        if self._client is None:
            raise NotConnected(self._said or "the gateway has no connection to NATS yet")
        return self._client

    @property
    def now(self) -> float:
        """Seconds since 1970, by the server's clock as far as it is known."""
        return self._live.now if self._live is not None else time.time()

    def unready(self) -> list[str]:
        """Why requests cannot be served well; empty when they can."""
        if self._client is None:
            return [self._said or "there is no connection to NATS yet"]
        link = self.store.link
        if link is None or not link.up:
            return [(link.detail if link else "") or "the connection to NATS is lost"]
        known = self.store.known
        if not known.complete or self._live is None or not self._live.loaded.is_set():
            return [f"the streams are being read: {known.done:,} of {known.total:,} messages"]
        return []

    def identify(self, token: str | None) -> Identity | None:
        """Who asks with this token, or without one; None: nobody who may."""
        if token is None:
            return None if self.settings.secured else OPEN
        token_id = tokens.token_id(token)
        if token_id is None or self._tokens is None:
            return None
        now = datetime.fromtimestamp(self.now, UTC)
        return authority.of_token(self._tokens.get(token_id), token, now)

    def token(self, token_id: str) -> Token | None:
        """What is kept of a token."""
        return self._tokens.get(token_id) if self._tokens is not None else None

    async def hears_of(self, token: str, within: float = 5.0) -> None:
        """Return when a token that was just made is known here. Raises NoAnswer."""
        try:
            async with asyncio.timeout(within):
                while self.identify(token) is None:  # noqa: ASYNC110 -- no event tells it
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise NoAnswer("the new token is not known here yet; try again") from None

    def scheme(self, request: web.BaseRequest) -> str:
        """http or https, as the caller sees it."""
        if self._proxied(request):
            return request.headers.get("X-Forwarded-Proto", self.settings.scheme)
        return self.settings.scheme

    def host(self, request: web.BaseRequest) -> str:
        """Host and port, as the caller sees them."""
        own = request.headers.get("Host", "")
        return request.headers.get("X-Forwarded-Host", own) if self._proxied(request) else own

    def _proxied(self, request: web.BaseRequest) -> bool:
        return bool(self.settings.proxies) and request.remote in self.settings.proxies

    def count(self, route: str, status: int) -> None:
        """One more answer."""
        key = (route, status)
        self.counts[key] = self.counts.get(key, 0) + 1

    def remember(self, admitted: Admitted) -> None:
        """A task is being submitted here."""
        self.admitted[admitted.row.id] = admitted
        if len(self.admitted) > ADMITTED:
            self.admitted.popitem(last=False)

    def metrics(self, accept: str) -> tuple[str, bytes]:
        """Content type and text of the metrics."""
        if self._metrics is None:
            from agentflow.telemetry.metrics import GatewayMetrics  # only who asks pays for it

            self._metrics = GatewayMetrics(self._figures, self.counts, actor=actor_name("gateway"))
        return self._metrics.text(accept)

    def _figures(self) -> dict[str, float]:
        return {
            "connections": self.connections(),
            "readers": self.hub.readers,
            "pictures": len(self.pictures),
            "rows": len(self.store.rows),
            "ready": not self.unready(),
        }

    # Living.

    async def run(self) -> None:
        """Follow all of it until cancelled. Raises UsageError for what no server can help."""
        client = await self._connected()
        try:
            async with client.live(self.store.apply) as live, asyncio.TaskGroup() as group:
                self._client, self._live = client, live
                self._tokens = client.operate.tokens.followed()
                group.create_task(self._keep("events", lambda: self.hub.run(client)))
                group.create_task(self._keep("tokens", self._follow_tokens))
                group.create_task(self._keep("pictures", self.pictures.run))
                if self.settings.webhooks:
                    group.create_task(self._keep("webhooks", lambda: self.sending.run(client)))
                group.create_task(self._tick())
        finally:
            self._client = self._live = self._tokens = None
            await client.close()

    async def _connected(self) -> Client:
        while True:
            client = Client(self.options, patience=5.0)
            try:
                return await client.open()
            except BusError as error:
                if str(error) != self._said:
                    self._said = str(error)
                    _log.warning("%s", error)
                await asyncio.sleep(RETRY)

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except AgentFlowError as error:
                _log.info("%s: %s", name, error)
            except Exception:
                _log.exception("%s failed; it is started again", name)
            await asyncio.sleep(RETRY)

    async def _follow_tokens(self) -> None:
        assert self._tokens is not None
        await self._tokens.start()
        try:
            await self._tokens.watch()
        finally:
            await self._tokens.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.newest.catch_up()
