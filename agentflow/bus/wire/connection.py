"""A connection that always comes back.

nats-py reconnects by itself, except when it closed for good (a payload too large with its headers,
expired credentials, too many connections) or when one of its tasks died quietly. `Connection`
watches for these and builds a new client, subscriptions included, so that whoever holds a
Connection never has to know.

Requests are pipelined: one inbox, one dict of pending answers, one sweep for deadlines (a timer a
request costs more than the request). Losing the connection answers all pending ones with NoAnswer
at once: what became of them is unknown, and the caller's rule for unknown outcomes applies. What
was not written by then never will be.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from agentflow.bus.wire.absence import absence, look, nameless, refused_entry, said
from agentflow.bus.wire.answers import Answers
from agentflow.bus.wire.client import Callback, MendedClient
from agentflow.bus.wire.dial import RECONNECT_WAIT, DialFailed, dial
from agentflow.bus.wire.listeners import Listeners
from agentflow.bus.wire.message import Message
from agentflow.bus.wire.subscription import Subscription
from agentflow.config import Connect
from agentflow.errors import (
    BusError,
    NoAnswer,
    NoStream,
    NotConnected,
    PayloadTooLarge,
    PermissionDenied,
    UsageError,
)

__all__ = ["Connection", "Subscription"]

_log = logging.getLogger(__name__)

WATCH_EVERY: Final = 0.5
DENIED_WAIT: Final = 2.0
REFUSED_WITHIN: Final = 60.0
"""Seconds after which a refusal is not expected any more."""
BUFFER_BYTES: Final = 8 * 1024 * 1024
"""Unwritten bytes past which a request waits; a burst must not grow without bound."""
SUBJECT_CHARS: Final = 900
"""The server ends a connection whose command line has more than 4,096 bytes."""
WARNINGS: Final = 20
"""Different things that are not permitted, and are worth a line of the log each."""

_QUOTED: Final = re.compile(r'"([^"]+)"')


class Connection:
    """A connection to NATS. Open it with `Connection.open`, end it with `close`."""

    def __init__(self, options: Connect, name: str) -> None:
        self.options = options
        self.name = name
        self.connected = asyncio.Event()
        self.last_error = ""
        self._remedy = look(options)
        self.reconnects = 0
        self._client: MendedClient | None = None
        self._newest: MendedClient | None = None
        self._closing = False
        self._subscriptions: list[Subscription] = []
        self._answers = Answers()
        self._inbox = f"{options.inbox_prefix}.{secrets.token_hex(11)}"
        self._inbox_denied = False
        self._counter = 0
        self._on_connect = Listeners("a reconnection")
        self._on_disconnect = Listeners("the connection was lost")
        self._on_denied: list[Callable[[str], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rebuilding = False
        self._warned: set[str] = set()

    # Opening and closing.

    @classmethod
    async def open(
        cls, options: Connect, name: str = "agentflow", timeout: float = 2.0
    ) -> Connection:
        """Connect within `timeout` seconds.

        Raises NotConnected or PermissionDenied saying why, UsageError for options of no use.
        """
        self = cls(options, name)
        try:
            client = await dial(options, name, timeout, self._callbacks)
        except DialFailed as error:
            self._failed(error)
            if error.denied:
                raise PermissionDenied(
                    f"the NATS server at {options.shown} does not accept these credentials; "
                    f"{refused_entry(options)}"
                ) from None
            raise NotConnected(self._absence()) from None
        self._client = client
        try:
            self.listen(f"{self._inbox}.*", self._answers.arrived)
            self.connected.set()
            await self.flush(timeout)
            if self._inbox_denied:
                if nameless(options):
                    raise PermissionDenied(
                        f"the NATS server at {options.shown} does nothing for who gives no "
                        f"password; {refused_entry(options)}"
                    )
                raise PermissionDenied(
                    f"this NATS user may not subscribe to {options.inbox_prefix}.>, where answers "
                    "arrive; name its own prefix with --inbox-prefix or AGENTFLOW_INBOX_PREFIX"
                )
        except NoAnswer:
            client.abandon()
            raise NotConnected(self._absence()) from None
        except BaseException:
            client.abandon()
            raise
        self._spawn(self._watch(), "watch")
        return self

    async def close(self) -> None:
        """Write what is buffered, then close. Never raises, never waits longer than 1 s."""
        if self._closing:
            return
        self._closing = True
        try:
            if self.connected.is_set():
                await self.flush(1.0)
        except BusError:
            _log.debug("the connection closed with unwritten messages")
        finally:
            for task in self._tasks:
                if task is not asyncio.current_task():
                    task.cancel()
            for client in (self._client, self._newest):
                if client is not None:
                    client.abandon()
            self._answers.fail(NotConnected, "the connection was closed")
            self._told_lost()
        # The aborted socket is closed in the next turn.
        await asyncio.sleep(0)

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Facts.

    @property
    def max_payload(self) -> int:
        """The server's limit for headers and payload together, in bytes."""
        return self._client.payload_limit if self._client else 1_048_576

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
        would close the connection for good. UsageError for what is no subject, for the same reason.
        """
        client = self._client
        if client is None or not client.is_connected:
            raise NotConnected(self._absence())
        if not subject or " " in subject or not subject.isprintable():
            raise _not_a_subject(subject)  # a line break would begin another command
        if len(subject) > SUBJECT_CHARS:
            raise _not_a_subject(subject)
        size = len(block) + len(payload)
        if size > client.payload_limit:
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
        self.publish(subject, payload, reply=key, block=block)
        return self._answers.expect(key, subject, timeout)

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
        while self._client is not None and self._client.buffered > BUFFER_BYTES:
            await self.flush(timeout)  # before adding to it, or a burst has no bound
        message = await self.ask(subject, payload, block=block, timeout=timeout)
        if message.block and message.status == 503:
            raise NoStream(f"nothing answers on {subject}")
        return message

    def refusal(self, subject: str, reply: str) -> asyncio.Future[Message]:
        """A future that fails when what was sent on `subject` is refused or the connection lost.

        For who awaits several messages on `reply`; cancel it when they are there.
        """
        return self._answers.expect(reply, subject, REFUSED_WITHIN)

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has read all that was sent. Raises NoAnswer."""
        try:
            async with asyncio.timeout(timeout):
                await self.connected.wait()
                assert self._client is not None
                pong = self._client.ping()
                await asyncio.wait((pong,))
        except TimeoutError:
            raise NoAnswer(f"the server did not confirm within {timeout:g} s") from None
        if pong.cancelled():
            raise NoAnswer("the connection to NATS was lost")

    # Receiving.

    def listen(self, subject: str, callback: Callback, queue: str = "") -> Subscription:
        """Call `callback` with each message, inside the read loop; it must only enqueue.

        Without a connection at the moment it begins with the next one.
        """
        if "" in subject.split(".") or not subject.isprintable() or " " in subject + queue:
            # The server would end the connection, and the next one, for ever.
            raise _not_a_subject(subject)
        subscription = Subscription(subject, queue, callback, self._forget)
        self._subscriptions.append(subscription)
        if self._client is not None and not self._client.is_closed:
            subscription.attach(self._client)
        return subscription

    async def subscribe(self, subject: str, callback: Callback, queue: str = "") -> Subscription:
        """`listen`."""
        return self.listen(subject, callback, queue)

    def on_connect(self, callback: Callable[[], Awaitable[None] | None]) -> Callable[[], None]:
        """Call back after each reconnection; subscriptions are in place then.

        Whoever ends before the connection does calls what is returned, and hears no more.
        """
        return self._on_connect.add(callback)

    def on_disconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when the connection is lost or closed; returns as `on_connect` does."""
        return self._on_disconnect.add(callback)

    def on_denied(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back with the server's words when it refuses a subscription, or a message that
        nobody awaits an answer to; returns as `on_connect` does."""
        self._on_denied.append(callback)
        return lambda: self._on_denied.remove(callback)

    # The inside.

    def _absence(self) -> str:
        if self._closing:
            return "this connection to NATS was closed"
        why = f" ({self.last_error})" if self.last_error else ""
        return f"cannot reach NATS at {self.options.shown}{why}; {self._remedy}"

    def _failed(self, error: DialFailed) -> None:
        self.last_error = str(error)
        self._remedy = error.remedy or self._remedy

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"nats {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)

    def _forget(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    # Losing the connection and finding it again.

    def _callbacks(self, client: MendedClient) -> dict[str, Callable[..., Awaitable[None]]]:
        """What nats-py is to call; a client that was replaced is not listened to any more."""
        options = self.options

        async def connected() -> None:
            if client is self._client:
                self._connected_again()

        async def closed() -> None:
            if client is self._client:
                self._spawn(self._rebuild(client), "rebuild")

        async def failed(error: Exception) -> None:
            if client is self._client:
                if not client.is_connected:
                    self._remedy = absence(error, options, client._server_info).remedy
                self._note(said(error))

        def lost() -> None:
            if client is self._client:
                self._answers.fail(NoAnswer, "the connection to NATS was lost")
                self._told_lost()

        client.on_lost = lost
        self._newest = client
        return {"reconnected_cb": connected, "closed_cb": closed, "error_cb": failed}

    async def _watch(self) -> None:
        """Replace a client that is closed or deaf."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            client = self._client
            if client is not None and (client.is_closed or client.deaf):
                try:
                    await self._rebuild(client)
                except Exception:
                    _log.exception("replacing the NATS client failed")

    async def _rebuild(self, old: MendedClient) -> None:
        if self._rebuilding or self._closing or old is not self._client:
            return
        self._rebuilding = True
        _log.warning("the NATS client stopped working (%s); building a new one", self.last_error)
        try:
            old.on_lost()
            old.abandon()
            self._client = client = await self._dial_until_connected()
            for subscription in self._subscriptions:
                subscription.attach(client)
            self._connected_again()
        finally:
            self._rebuilding = False

    async def _dial_until_connected(self) -> MendedClient:
        while True:
            pause = RECONNECT_WAIT
            try:
                return await dial(self.options, self.name, 2.0, self._callbacks)
            except DialFailed as error:
                self._failed(error)
                # Wrong credentials are not right a moment later, and each attempt is logged there.
                pause = DENIED_WAIT if error.denied else pause
            except Exception as error:
                self.last_error = str(error)
                _log.exception("connecting to NATS failed")
                pause = DENIED_WAIT
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    def _told_lost(self) -> None:
        if not self.connected.is_set():
            return
        self.connected.clear()
        self._on_disconnect.call()

    def _connected_again(self) -> None:
        self.reconnects += 1
        self.last_error = ""
        self.connected.set()
        for work in self._on_connect.call():
            self._spawn(_awaited(work), "reconnected")

    def _note(self, text: str) -> None:
        self.last_error = text
        if "permissions violation" not in text.lower():
            _log.debug("nats: %s", text)
            return
        quoted = _QUOTED.search(text)
        denied = quoted.group(1) if quoted else ""
        if "subscription" in text.lower():
            self._inbox_denied |= denied == f"{self._inbox}.*".lower()
        elif self._answers.deny(denied):
            return
        if text not in self._warned and len(self._warned) < WARNINGS:
            self._warned.add(text)
            _log.warning("%s", text)
            for callback in list(self._on_denied):
                callback(text)


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _not_a_subject(text: str) -> UsageError:
    return UsageError(f"{text[:80]!r} is not a subject to publish or subscribe to")
