"""The live feed, kept open: it waits for a server that is not there yet, and says so.

Once connected the connection comes back by itself (bus/wire/connection.py); only the first one is
made here, again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from agentflow.client import Client
from agentflow.client.live.live import NEWEST, Live
from agentflow.config import Connect
from agentflow.dashboard.feed.recorder import Recorder
from agentflow.dashboard.feed.source import Apply
from agentflow.errors import BusError, PermissionDenied
from agentflow.views import feed

RETRY: Final = 1.0
DENIED: Final = 5.0
"""Wrong credentials are not right a moment later, and each attempt is logged by the server."""


class LiveFeed:
    """See source.Source. With a recorder every item is kept, too."""

    def __init__(
        self, options: Connect, *, newest: int = NEWEST, recorder: Recorder | None = None
    ) -> None:
        self._options = options
        self._newest = newest
        self._recorder = recorder
        self._client: Client | None = None
        self._live: Live | None = None
        self._wanted: set[str] = set()
        self._said = ""

    @property
    def now(self) -> float:
        """By the server's clock, as far as it is known."""
        return self._live.now if self._live is not None else time.time()

    @property
    def client(self) -> Client | None:
        """The client; None until the first connection is made."""
        return self._client

    def follow_tokens(self, ids: Iterable[str]) -> None:
        """Hear what is generated for exactly these tasks."""
        self._wanted = set(ids)
        if self._live is not None:
            self._live.follow_tokens(self._wanted)

    async def run(self, apply: Apply) -> None:
        """Feed until cancelled. Raises UsageError for options that no server can help."""

        def take(item: feed.Item) -> None:
            apply(item)
            if self._recorder is not None:
                self._recorder.take(item)
                if (problem := self._recorder.told()) is not None:
                    apply(feed.Note(at=self.now, part="recording", text=problem))

        client = await self._connect(take)
        try:
            async with client.live(take, newest=self._newest) as live:
                self._client, self._live = client, live
                live.follow_tokens(self._wanted)
                await asyncio.Event().wait()
        finally:
            self._client = self._live = None
            await client.close()

    async def _connect(self, take: Apply) -> Client:
        while True:
            client = Client(self._options)
            try:
                return await client.open()
            except BusError as error:
                text = str(error)
                if text != self._said:
                    self._said = text
                    take(feed.Link(at=self.now, up=False, url=self._options.shown, detail=text))
                await asyncio.sleep(DENIED if isinstance(error, PermissionDenied) else RETRY)
