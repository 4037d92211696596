"""nats-py's client with its read and write paths mended.

It is subclassed at three private methods; docs/nats-py.md lists the trap that each answers.
`tests/integration/test_bus_traps.py` breaks when a newer nats-py changes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from agentflow.bus.message import Message

Callback = Callable[[Message], None]

_log = logging.getLogger(__name__)


class MendedClient(Client):
    """A client whose received messages go straight to a callback, and whose pongs cannot kill it."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: dict[int, Callback] = {}

    async def listen(self, subject: str, callback: Callback, queue: str = "") -> Subscription:
        """Subscribe with a callback that is called inside the read loop; it must only enqueue."""
        # The sid is taken before SUB is sent: a message may arrive before subscribe() returns.
        self._callbacks[self._sid + 1] = callback
        return await self.subscribe(subject, queue=queue)

    def send(self, subject: str, reply: str, block: bytes, payload: bytes) -> None:
        """Put a message into the write buffer, in the same turn of the event loop."""
        if block:
            command = (
                f"HPUB {subject} {reply} {len(block)} {len(block) + len(payload)}\r\n".encode()
                + block
                + payload
                + b"\r\n"
            )
        else:
            command = f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"
        self._pending.append(command)
        self._pending_data_size += len(command)
        queue = self._flush_queue
        if queue is not None and queue.empty():
            queue.put_nowait(asyncio.get_running_loop().create_future())

    @property
    def buffered(self) -> int:
        """Bytes that wait to be written."""
        return self._pending_data_size

    @property
    def deaf(self) -> bool:
        """Whether the client claims a connection that nothing reads, or lost its reconnecting."""
        if self.is_connected:
            return self._reading_task is None or self._reading_task.done()
        if self.is_reconnecting:
            return self._reconnection_task is None or self._reconnection_task.done()
        return False

    async def _process_pong(self) -> None:
        # A timed-out or cancelled flush leaves its future done; setting it would end the read loop.
        if self._pongs:
            future = self._pongs.pop(0)
            if not future.done():
                future.set_result(True)
        self._pongs_received += 1
        self._pings_outstanding = 0

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        callback = self._callbacks.get(sid)
        if callback is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        try:
            callback(Message(subject.decode(), reply.decode(), data, headers or b""))
        except Exception:
            # One bad message must not make the whole connection deaf.
            _log.exception("a callback failed on %s", subject.decode(errors="replace"))

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._callbacks.pop(sid, None)
        super()._remove_sub(sid, max_msgs)


def server_text(client: Client, key: str) -> Any:
    """A field of the server's INFO."""
    return client._server_info.get(key)
