"""nats-py's client with its read and write paths mended.

It is subclassed at a few private methods; docs/nats-py.md lists the trap that each answers.
`tests/integration/test_bus_traps.py` breaks when a newer nats-py changes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import ParseResult, unquote

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from agentflow.bus.wire.message import Message
from agentflow.bus.wire.parser import ShortcutParser

Callback = Callable[[Message], None]

_log = logging.getLogger(__name__)

NO_TLS: Final = (
    "TLS is wanted (tls:// or a TLS option) and the server offers none; nothing was sent to it"
)
LINGER: Final = 5.0
"""Seconds in which messages that were sent before the server read an UNSUB are still taken."""


class MendedClient(Client):
    """A client whose received messages go straight to a callback, and that nothing makes deaf."""

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self._tls = tls
        self._callbacks: dict[int, Callback] = {}
        self._ps = ShortcutParser(self, self._callbacks)
        self._flushes: set[asyncio.Future[bool]] = set()
        self._abandoned = False
        self.on_lost: Callable[[], None] = _nothing
        """Called in the same turn in which the connection is known to be lost."""

    # Sending. All of it goes through one buffer, so that the server reads it in the order written.

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
        self._write(command)

    def listen(self, subject: str, callback: Callback, queue: str = "") -> int:
        """Subscribe with a callback that is called inside the read loop; it must only enqueue.

        Returns the number under which `unlisten` ends it. Nothing is awaited: a cancelled
        subscribe() of nats-py leaves one half made.
        """
        self._sid += 1
        sid = self._sid
        self._callbacks[sid] = callback
        # After a reconnection nats-py subscribes anew what it finds here.
        self._subs[sid] = Subscription(self, sid, subject, queue)
        if self.is_connected:
            self._write(f"SUB {subject} {queue} {sid}\r\n".encode())
        return sid

    def unlisten(self, sid: int, *, linger: bool = False) -> None:
        """End a subscription; with `linger` what the server has sent by then is still taken."""
        if self._subs.pop(sid, None) is None:
            return
        if self.is_connected:
            self._write(b"UNSUB %d\r\n" % sid)
        if linger:
            asyncio.get_running_loop().call_later(LINGER, self._callbacks.pop, sid, None)
        else:
            self._callbacks.pop(sid, None)

    def ping(self) -> asyncio.Future[bool]:
        """Ask the server for a pong; it is cancelled when the connection is lost."""
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._flushes.add(pong)
        pong.add_done_callback(self._flushes.discard)
        self._pongs.append(pong)
        self._write(b"PING\r\n")
        return pong

    def _write(self, command: bytes) -> None:
        self._pending.append(command)
        self._pending_data_size += len(command)
        queue = self._flush_queue
        if queue is not None and queue.empty():
            queue.put_nowait(asyncio.get_running_loop().create_future())

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # nats-py writes a PING past the buffer: the pong then says nothing of what waits there.
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        self._write(b"PING\r\n")

    @property
    def buffered(self) -> int:
        """Bytes that wait to be written."""
        return self._pending_data_size

    @property
    def payload_limit(self) -> int:
        """The server's max_payload, headers included."""
        return self._max_payload

    # Receiving.

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
            named = subject.decode(errors="backslashreplace")
            back = reply.decode(errors="backslashreplace")
            callback(Message(named, back, data, headers or b""))
        except Exception:
            # One bad message must not make the whole connection deaf.
            _log.exception("a callback failed on %s", subject.decode(errors="replace"))

    # Who we are.

    def _setup_server_pool(self, connect_url: Any) -> None:
        super()._setup_server_pool(connect_url)
        for server in self._server_pool:
            server.uri = _Address(*server.uri)

    # TLS.

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # Before CONNECT, on every server and each time: nats-py asks for TLS only where the server
        # does, so whoever answers in its place would be told the password.
        if self._tls and initial_connection and not self.options["tls_handshake_first"]:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise nats.errors.Error(NO_TLS)
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    # Losing and leaving.

    @property
    def deaf(self) -> bool:
        """Whether a task died without which the client stays as it is for ever."""
        if self.is_connected:
            return _is_over(self._reading_task) or _is_over(self._flusher_task)
        return not self.is_closed and _is_over(self._reconnection_task)

    def abandon(self) -> None:
        """Give the client up at once: no task and no socket stays, nobody is told."""
        self._abandoned = True
        self.on_lost = _nothing
        self._error_cb = _ignore
        self._disconnected_cb = self._reconnected_cb = self._closed_cb = None
        self._status = Client.CLOSED
        self._stop_tasks()
        _cancel(self._reconnection_task)
        for subscription in self._subs.values():
            _cancel(subscription._wait_for_msgs_task)
        self._subs.clear()
        self._callbacks.clear()
        self._drop()

    def _drop(self) -> None:
        """The connection is lost: what was not written must not be, and nobody waits for it."""
        # nats-py would send it after the reconnection, when its sender has long been told that
        # the outcome is unknown.
        self._pending = []
        self._pending_data_size = 0
        for pong in list(self._flushes):
            pong.cancel()
        # Closing it in order waits for the peer to read, which a stopped one never does.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        self.on_lost()

    def _stop_tasks(self) -> None:
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            _cancel(task)

    async def _process_op_err(self, error: Exception) -> None:
        was_connected = self.is_connected
        await super()._process_op_err(error)
        if was_connected and not self.is_connected:
            self._drop()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        if not self.is_closed:
            self._drop()
        await super()._close(status, do_cbs)

    async def _connect_to_server(self, server: Any) -> None:
        # An attempt that failed late leaves its socket open, and a reader that would take what
        # the next connection brings.
        self._stop_tasks()
        self._drop()
        await super()._connect_to_server(server)

    async def _process_connect_init(self) -> None:
        if self._abandoned:
            # wait_for may lose a cancellation when the connection is made in the same turn.
            self._drop()
            raise asyncio.CancelledError
        await super()._process_connect_init()


class _Address(ParseResult):
    """A server's URL; nats-py sends its user name, password or token as they stand there."""

    @property
    def username(self) -> str | None:
        name = super().username
        return None if name is None else unquote(name)

    @property
    def password(self) -> str | None:
        password = super().password
        return None if password is None else unquote(password)


def _nothing() -> None:
    pass


async def _ignore(_: Exception) -> None:
    pass


def _is_over(task: asyncio.Task[Any] | None) -> bool:
    return task is None or task.done()


def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None and task is not asyncio.current_task():
        task.cancel()
