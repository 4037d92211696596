"""One interest of ours; it outlives the client that carries it."""

from __future__ import annotations

from collections.abc import Callable

from agentflow.bus.wire.client import Callback, MendedClient


class Subscription:
    """Made by `Connection.listen`, and attached by it to each new client."""

    def __init__(
        self, subject: str, queue: str, callback: Callback, forget: Callable[[Subscription], None]
    ) -> None:
        self.subject = subject
        self._queue = queue
        self._callback = callback
        self._forget = forget
        self._client: MendedClient | None = None
        self._sid = 0

    def attach(self, client: MendedClient) -> None:
        """Subscribe on `client`."""
        self._client = client
        self._sid = client.listen(self.subject, self._callback, self._queue)

    def end(self, *, linger: bool = False) -> None:
        """End the interest; with `linger` what the server has sent by then is still taken."""
        self._forget(self)
        client, self._client = self._client, None
        if client is not None:
            client.unlisten(self._sid, linger=linger)

    async def close(self) -> None:
        """`end`."""
        self.end()
