"""Pull task messages for free slots, highest priority first, and never go deaf.

A consumer is *hot* while it may hold a backlog. Free slots are filled from the first hot consumer
with a request that returns at once (`no_wait`); its 404 makes the consumer cold. When all are cold,
one request for one message lingers on each, so that an idle worker is woken in one trip. Every
eighth time the order is reversed, so that low priorities cannot starve.

The lingering requests may bring more messages than there are slots; the surplus is handed back at
once. Requests carry an idle heartbeat: silence for two and a half of them means the server no
longer knows the request (its restart, a new leader, a deleted consumer), and everything is asked
anew. The same happens at once after a reconnection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from agentflow.bus.connection import Connection, Subscription
from agentflow.bus.message import Delivered, Message, is_delivery
from agentflow.errors import AgentFlowError, NotConnected
from agentflow.protocol import headers as blocks

_log = logging.getLogger(__name__)

EXPIRES: Final = 30.0
HEARTBEAT: Final = 5.0
SILENCE: Final = 2.5 * HEARTBEAT
NO_WAIT_DEADLINE: Final = 2.0
BATCH: Final = 256
REVERSED_EVERY: Final = 8
RETRY: Final = 0.5

ACK: Final = b"+ACK"
IN_PROGRESS: Final = b"+WPI"


def nak(delay: float = 0.0) -> bytes:
    """The ack payload that hands a message back, to come again after `delay` seconds."""
    return b"-NAK" if delay <= 0 else b'-NAK {"delay": %d}' % int(delay * 1e9)


class _Source:
    """One consumer: whether it may have a backlog, and the request that waits on it."""

    __slots__ = ("hot", "lingering", "name", "seen")

    def __init__(self, name: str) -> None:
        self.name = name
        self.hot = True
        self.lingering = ""
        self.seen = 0.0


class Puller:
    """Fills `free()` slots with deliveries; `tiers` are consumers of one priority, highest first."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        tiers: Sequence[Sequence[str]],
        *,
        slots: int,
        free: Callable[[], int],
        deliver: Callable[[Delivered], None],
        ensure: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._tiers = [[_Source(name) for name in tier] for tier in tiers]
        self._sources = {source.name: source for tier in self._tiers for source in tier}
        self._free = free
        self._deliver = deliver
        self._ensure = ensure
        self._threshold = max(1, min(64, slots // 8))
        self._slots = slots
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._counter = 0
        self._requests: dict[str, str] = {}
        self._bulk = ""
        self._bulk_left = 0
        self._bulk_since = 0.0
        self._rounds = 0
        self._running = False
        self._paused_until = 0.0
        self._mending = False
        self.deliveries = 0

    async def start(self) -> None:
        """Begin to pull."""
        token = f"{id(self):x}{time.monotonic_ns():x}"
        self._inbox = f"{self._connection.options.inbox_prefix}.{token}"
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._received)
        self._connection.on_connect(self._again)
        self._running = True
        self.refill()

    async def stop(self) -> None:
        """Pull no more; what the server had already sent is handed back."""
        self._running = False
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                # Whatever was on its way arrives before the pong, and is handed back.
                await self._connection.flush(1.0)
            except AgentFlowError:
                _log.debug("stopped pulling without a connection; the lease returns the rest")
            await subscription.close()

    def pause(self) -> None:
        """Pull no more until `resume`; lingering requests end by themselves."""
        self._running = False

    def resume(self) -> None:
        """Pull again."""
        self._running = True
        self._again()

    def refill(self) -> None:
        """Ask for more where slots are free. Called whenever one became free; cheap otherwise."""
        if not self._running or self._bulk or time.monotonic() < self._paused_until:
            return
        room = self._free()
        if room <= 0 or (room < self._threshold and room < self._slots):
            return
        self._rounds += 1
        order = self._order()
        try:
            for source in order:
                if source.hot:
                    self._ask_bulk(source, min(room, BATCH))
                    return
            for source in order:
                if not source.lingering:
                    self._ask_lingering(source)
        except NotConnected:
            return  # the reconnection starts again

    def _order(self) -> list[_Source]:
        """Highest tier first, the queues of a tier in turn; reversed every eighth time."""
        order = []
        for tier in self._tiers:
            turn = self._rounds % len(tier)
            order += tier[turn:] + tier[:turn]
        if self._rounds % REVERSED_EVERY == 0:
            order.reverse()
        return order

    async def watch(self) -> None:
        """The watchdog; runs until cancelled."""
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            if not self._running or not self._connection.connected.is_set():
                continue
            if self._bulk and now - self._bulk_since > NO_WAIT_DEADLINE:
                self._end_bulk(cold=False)
            for source in self._sources.values():
                if source.lingering and now - source.seen > SILENCE:
                    _log.warning("no heartbeat from consumer %s; asking again", source.name)
                    self._forget(source)
            self.refill()

    # Requests.

    def _request(self, source: _Source, body: bytes) -> str:
        self._counter += 1
        reply = f"{self._inbox}.{self._counter}"
        self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{source.name}", body, reply=reply
        )
        self._requests[reply] = source.name
        return reply

    def _ask_bulk(self, source: _Source, batch: int) -> None:
        self._bulk = self._request(source, b'{"batch":%d,"no_wait":true}' % batch)
        self._bulk_left = batch
        self._bulk_since = time.monotonic()

    def _ask_lingering(self, source: _Source) -> None:
        body = b'{"batch":1,"expires":%d,"idle_heartbeat":%d}' % (
            int(EXPIRES * 1e9),
            int(HEARTBEAT * 1e9),
        )
        source.lingering = self._request(source, body)
        source.seen = time.monotonic()

    def _end_bulk(self, *, cold: bool) -> None:
        source = self._sources[self._requests.pop(self._bulk)]
        self._bulk = ""
        if cold:
            source.hot = False
        self.refill()

    def _forget(self, source: _Source) -> None:
        self._requests.pop(source.lingering, None)
        source.lingering = ""
        source.hot = True

    def _again(self) -> None:
        self._requests.clear()
        self._bulk = ""
        for source in self._sources.values():
            source.lingering = ""
            source.hot = True
        self.refill()

    # Answers.

    def _received(self, message: Message) -> None:
        if is_delivery(message):
            self._arrived(Delivered(message))
            return
        name = self._requests.get(message.subject)
        if name is None:
            return
        source = self._sources[name]
        code, text = blocks.status(message.block)
        if code == 100:
            source.seen = time.monotonic()
        elif message.subject == self._bulk:
            trouble = code not in (404, 408)
            if trouble:
                self._trouble(source, code, text)
            self._end_bulk(cold=not trouble)
        elif message.subject == source.lingering:
            self._requests.pop(message.subject)
            source.lingering = ""
            if code not in (404, 408):
                self._trouble(source, code, text)
            self.refill()

    def _arrived(self, delivered: Delivered) -> None:
        source = self._sources.get(delivered.consumer)
        if not self._running or self._free() <= 0 or source is None:
            self._connection.publish(delivered.message.reply, nak())
        else:
            self.deliveries += 1
            self._deliver(delivered)
        if source is None:
            return
        if self._bulk and self._requests.get(self._bulk) == source.name:
            # A lingering request of this consumer may be what was answered; counting it here
            # ends the bulk request early at worst, and its late messages are taken all the same.
            self._bulk_left -= 1
            if self._bulk_left <= 0:
                self._end_bulk(cold=False)
        elif source.lingering:
            self._requests.pop(source.lingering, None)
            source.lingering = ""
            source.hot = True
            self.refill()

    def _trouble(self, source: _Source, code: int, text: str) -> None:
        """The server does not serve this consumer at the moment."""
        _log.info("consumer %s: %s %s", source.name, code, text)
        self._paused_until = time.monotonic() + RETRY
        if not self._mending:
            self._mending = True
            task = asyncio.get_running_loop().create_task(self._mend(), name="mend consumers")
            task.add_done_callback(lambda _: None)

    async def _mend(self) -> None:
        try:
            await asyncio.sleep(RETRY)
            await self._ensure()
        except AgentFlowError as error:
            _log.warning("cannot restore the consumers: %s", error)
        finally:
            self._mending = False
            self._again()
