"""A connection that always comes back.

nats-py reconnects by itself, except when it closed for good (a payload too large with its headers,
expired credentials, too many connections) or when its reading or reconnecting task died quietly.
`Connection` watches for these and builds a new client, subscriptions included, so that whoever
holds a Connection never has to know.

Requests are pipelined: one inbox, one dict of pending answers, one sweep for deadlines (a timer a
request costs more than the request). Losing the connection answers all pending ones with NoAnswer
at once: what became of them is unknown, and the caller's rule for unknown outcomes applies.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import nats.errors
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import NoServersError

from agentflow.bus.client import Callback, MendedClient, server_text
from agentflow.bus.message import Message
from agentflow.config import DEFAULT_URL, Connect
from agentflow.errors import (
    BusError,
    NoAnswer,
    NoStream,
    NotConnected,
    PayloadTooLarge,
    PermissionDenied,
)

_log = logging.getLogger(__name__)

RECONNECT_WAIT: Final = 0.25
PING_EVERY: Final = 10
SWEEP_EVERY: Final = 0.1
WATCH_EVERY: Final = 0.5
BUFFER_BYTES: Final = 8 * 1024 * 1024
"""Unwritten bytes past which `drained` waits; a burst must not grow without bound."""

_QUOTED: Final = re.compile(r'"([^"]+)"')


def _cause(error: Exception) -> str:
    """Why connecting failed, without the numbers of the operating system where they say less."""
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case socket.gaierror():
            return "the host's name is not known"
        case _:
            return str(error).removeprefix("nats: ")


class Subscription:
    """One interest of ours; it outlives the client that carries it."""

    def __init__(self, connection: Connection, subject: str, queue: str, callback: Callback):
        self.subject = subject
        self.queue = queue
        self.callback = callback
        self._connection = connection
        self._carried: NatsSubscription | None = None

    async def attach(self, client: MendedClient) -> None:
        """Subscribe on `client`."""
        self._carried = await client.listen(self.subject, self.callback, self.queue)

    async def close(self) -> None:
        """End the interest; a lost connection makes that true by itself."""
        self._connection.forget(self)
        carried, self._carried = self._carried, None
        if carried is not None:
            try:
                await carried.unsubscribe()
            except nats.errors.Error:
                _log.debug("unsubscribing %s: the connection is gone", self.subject)


class _Pending:
    __slots__ = ("deadline", "future", "subject")

    def __init__(self, future: asyncio.Future[Message], subject: str, deadline: float) -> None:
        self.future = future
        self.subject = subject
        self.deadline = deadline


class Connection:
    """A connection to NATS. Open it with `Connection.open`, end it with `close`."""

    def __init__(self, options: Connect, name: str) -> None:
        self.options = options
        self.name = name
        self.connected = asyncio.Event()
        self.last_error = ""
        self.reconnects = 0
        self._client: MendedClient | None = None
        self._closing = False
        self._subscriptions: list[Subscription] = []
        self._pending: dict[str, _Pending] = {}
        self._inbox = f"{options.inbox_prefix}.{secrets.token_hex(11)}"
        self._counter = 0
        self._on_connect: list[Callable[[], Awaitable[None] | None]] = []
        self._on_disconnect: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rebuilding = False

    # Opening and closing.

    @classmethod
    async def open(
        cls, options: Connect, name: str = "agentflow", timeout: float = 2.0
    ) -> Connection:
        """Connect within `timeout` seconds. Raises NotConnected or PermissionDenied saying why."""
        self = cls(options, name)
        self._client = await self._build(timeout)
        await self.subscribe(f"{self._inbox}.*", self._answered)
        self.connected.set()
        self._spawn(self._sweep(), "deadlines")
        self._spawn(self._watch(), "watch")
        return self

    async def close(self) -> None:
        """Write what is buffered, then close. Never raises, never waits longer than 2 s."""
        if self._closing:
            return
        self._closing = True
        client = self._client
        if client is not None and client.is_connected:
            try:
                async with asyncio.timeout(1.0):
                    await client.flush()
            except (TimeoutError, nats.errors.Error, OSError):
                _log.debug("the connection closed with unwritten messages")
        for task in self._tasks:
            task.cancel()
        self._fail_pending(NotConnected("the connection was closed"))
        if client is not None:
            try:
                async with asyncio.timeout(1.0):
                    await client.close()
            except (TimeoutError, nats.errors.Error, OSError):
                _log.debug("the client did not close in order")
        self.connected.clear()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Facts.

    @property
    def max_payload(self) -> int:
        """The server's limit for headers and payload together, in bytes."""
        client = self._client
        return int(server_text(client, "max_payload") or 1_048_576) if client else 1_048_576

    @property
    def server(self) -> dict[str, Any]:
        """The server's INFO: name, version, host, port, ..."""
        return dict(self._client._server_info) if self._client else {}

    @property
    def raw(self) -> MendedClient:
        """The client of the moment, for nats-py's services framework."""
        if self._client is None:
            raise NotConnected
        return self._client

    # Sending.

    def publish(
        self, subject: str, payload: bytes = b"", *, reply: str = "", block: bytes = b""
    ) -> None:
        """Send a message in this turn of the loop; `block` is an encoded header block.

        Raises NotConnected, and PayloadTooLarge by the server's own limit: sent all the same it
        would close the connection for good.
        """
        client = self._client
        if client is None or not client.is_connected:
            raise NotConnected(self._absence())
        size = len(block) + len(payload)
        if size > self.max_payload:
            raise PayloadTooLarge(
                f"a message of {size:,} bytes on {subject} is over the server's max_payload "
                f"of {self.max_payload:,}"
            )
        client.send(subject, reply, block, payload)

    def ask(
        self, subject: str, payload: bytes = b"", *, block: bytes = b"", timeout: float = 5.0
    ) -> asyncio.Future[Message]:
        """Send a request in this turn of the loop; the future gets the answer.

        It fails with NoAnswer after `timeout` seconds or when the connection is lost, and with
        PermissionDenied. Raises as `publish` does.
        """
        self._counter += 1
        key = f"{self._inbox}.{self._counter}"
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.publish(subject, payload, reply=key, block=block)
        self._pending[key] = _Pending(future, subject, time.monotonic() + timeout)
        return future

    async def request(
        self, subject: str, payload: bytes = b"", *, block: bytes = b"", timeout: float = 5.0
    ) -> Message:
        """`ask`, after waiting for a connection where there is none at the moment.

        Raises NoAnswer, NoStream when nothing listens, PermissionDenied, NotConnected.
        """
        if not self.connected.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self.connected.wait()
            except TimeoutError:
                raise NotConnected(self._absence()) from None
        future = self.ask(subject, payload, block=block, timeout=timeout)
        client = self._client
        if client is not None and client.buffered > BUFFER_BYTES:
            await self.flush()
        message = await future
        if message.block and message.status == 503:
            raise NoStream(f"nothing answers on {subject}")
        return message

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has read all that was sent. Raises NoAnswer."""
        try:
            async with asyncio.timeout(timeout):
                await self.connected.wait()
                await self.raw.flush(timeout=max(1, int(timeout)))
        except (TimeoutError, nats.errors.Error) as error:
            raise NoAnswer(f"the server did not confirm within {timeout:g} s") from error

    # Receiving.

    async def subscribe(self, subject: str, callback: Callback, queue: str = "") -> Subscription:
        """Call `callback` with each message, inside the read loop; it must only enqueue."""
        subscription = Subscription(self, subject, queue, callback)
        self._subscriptions.append(subscription)
        if self._client is not None and not self._client.is_closed:
            await subscription.attach(self._client)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Do not carry a subscription to the next client."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def on_connect(self, callback: Callable[[], Awaitable[None] | None]) -> None:
        """Call back after each reconnection; subscriptions are in place then."""
        self._on_connect.append(callback)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call back when the connection is lost."""
        self._on_disconnect.append(callback)

    # The inside.

    def _absence(self) -> str:
        why = f" ({self.last_error})" if self.last_error else ""
        return (
            f"cannot reach NATS at {self.options.shown}{why}; start the local stack with "
            "`agentflow up`, or name a server with --nats"
        )

    async def _build(self, timeout: float) -> MendedClient:
        """A new connected client. Raises NotConnected or PermissionDenied."""
        client = MendedClient()
        options = self.options
        arguments: dict[str, Any] = {
            "servers": list(options.urls or (DEFAULT_URL,)),
            "name": self.name,
            "error_cb": self._error,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            "closed_cb": self._closed,
            # Reconnecting is switched on once connected: the first attempt must end, not retry.
            "allow_reconnect": False,
            "connect_timeout": max(1, int(timeout)),
            # nats-py tries a server for ever, or this number of times and once more.
            "reconnect_time_wait": 0.0,
            "max_reconnect_attempts": 1,
            "ping_interval": PING_EVERY,
            "max_outstanding_pings": 2,
            "pending_size": 4 * BUFFER_BYTES,
            "inbox_prefix": options.inbox_prefix,
        }
        if options.creds:
            arguments["user_credentials"] = options.creds
        if options.user:
            arguments["user"] = options.user
            arguments["password"] = options.password or ""
        if options.tls_ca or options.tls_cert:
            context = ssl.create_default_context(cafile=options.tls_ca)
            if options.tls_cert:
                context.load_cert_chain(options.tls_cert, options.tls_key)
            arguments["tls"] = context
        try:
            async with asyncio.timeout(timeout):
                await client.connect(**arguments)
        except (nats.errors.Error, OSError, TimeoutError, ValueError, ssl.SSLError) as error:
            # That no server is left is no reason; the last server's failure is.
            text = "" if isinstance(error, NoServersError) else _cause(error)
            text = text or self.last_error or type(error).__name__
            await self._discard(client)
            self.last_error = text
            if "authorization" in text.lower() or isinstance(error, nats.errors.AuthorizationError):
                raise PermissionDenied(
                    f"the NATS server at {options.shown} does not accept these credentials"
                ) from None
            if isinstance(error, TimeoutError) and not str(error):
                self.last_error = f"no answer within {timeout:g} s"
            raise NotConnected(self._absence()) from None
        client.options["allow_reconnect"] = True
        client.options["max_reconnect_attempts"] = -1
        client.options["reconnect_time_wait"] = RECONNECT_WAIT
        self.last_error = ""
        return client

    async def _discard(self, client: MendedClient) -> None:
        client._closed_cb = client._disconnected_cb = None
        try:
            async with asyncio.timeout(0.5):
                await client.close()
        except (nats.errors.Error, OSError, TimeoutError, AttributeError, AssertionError):
            _log.debug("an unused client did not close in order")

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"nats {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answered(self, message: Message) -> None:
        pending = self._pending.pop(message.subject, None)
        if pending is not None and not pending.future.done():
            pending.future.set_result(message)

    def _fail_pending(self, error: BusError, subject: str | None = None) -> None:
        for key, pending in list(self._pending.items()):
            if subject is None or pending.subject == subject:
                del self._pending[key]
                if not pending.future.done():
                    pending.future.set_exception(error)
                    pending.future.exception()  # one nobody awaits any more is not a warning

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            now = time.monotonic()
            late = [key for key, pending in self._pending.items() if pending.deadline < now]
            for key in late:
                pending = self._pending.pop(key)
                if not pending.future.done():
                    pending.future.set_exception(NoAnswer(f"no answer on {pending.subject}"))
                    pending.future.exception()

    async def _watch(self) -> None:
        """Replace a client that is closed or deaf."""
        while not self._closing:
            await asyncio.sleep(WATCH_EVERY)
            client = self._client
            if client is None or not (client.is_closed or client.deaf):
                continue
            _log.warning("the NATS client stopped working; building a new one")
            await self._rebuild(client)

    async def _rebuild(self, old: MendedClient) -> None:
        if self._rebuilding or self._closing:
            return
        self._rebuilding = True
        try:
            self._lost()
            await self._discard(old)
            while not self._closing:
                try:
                    client = await self._build(2.0)
                    for subscription in list(self._subscriptions):
                        await subscription.attach(client)
                except (BusError, nats.errors.Error, OSError) as error:
                    self.last_error = str(error)
                    await asyncio.sleep(RECONNECT_WAIT)
                    continue
                self._client = client
                await self._reconnected()
                return
        finally:
            self._rebuilding = False

    def _lost(self) -> None:
        if not self.connected.is_set():
            return
        self.connected.clear()
        self._fail_pending(NoAnswer("the connection to NATS was lost"))
        for callback in self._on_disconnect:
            callback()

    async def _error(self, error: Exception) -> None:
        text = str(error)
        self.last_error = _cause(error)
        if "permissions violation" in text.lower():
            found = _QUOTED.search(text)
            subject = found.group(1) if found else None
            # nats-py lower-cases what the server said.
            for pending in list(self._pending.values()):
                if subject and pending.subject.lower() == subject.lower():
                    self._fail_pending(
                        PermissionDenied(f"this NATS user may not publish to {pending.subject}"),
                        pending.subject,
                    )
        _log.debug("nats: %s", text)

    async def _disconnected(self) -> None:
        self._lost()

    async def _reconnected(self) -> None:
        self.reconnects += 1
        self.last_error = ""
        self.connected.set()
        for callback in self._on_connect:
            work = callback()
            if work is not None:
                self._spawn(work, "reconnected")

    async def _closed(self) -> None:
        self._lost()
        client = self._client
        if client is not None and not self._closing:
            self._spawn(self._rebuild(client), "rebuild")
