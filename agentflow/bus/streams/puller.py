"""Pull task messages for free slots, highest priority first, and never go deaf.

A consumer is *hot* while it may hold a backlog. Free slots are filled from the hot consumer whose
turn it is (rules/rota.py) with a *bulk* request, one at a time, that returns at once (`no_wait`);
its 404 makes the consumer cold. When all are cold, one request for one message *lingers* on each,
so that an idle worker is woken in one trip. While one is hot, those that went cold are asked again
now and then, or a backlog of one would hide what arrives at another.

Beside a consumer stand those of its lanes (`add`, `drop`). They come and go, and whose turn it is
among them, and for how many messages, another one says (`choose`). Of very many lanes not all can
be lingered on, nor asked often while they are cold: whoever serves lanes looks for what waits there
and says so (`warm`).

What arrives without a free slot is handed back at once, and that counts as a delivery. So when the
last slot is taken, lingering requests are withdrawn, by giving up the subject they answer to:
otherwise a message would wander through all the busy workers of a fleet. Bulk and lingering
requests have subjects of their own, as a delivered message does not say which one it answers.

A bulk request brings 16 MiB at most, and the next one is sent when all of it has come: the server
cuts off a client for whom more than it allows waits (64 MiB), and its tasks would wait for their
lease. A message that is larger is asked for alone.

Lingering requests carry an idle heartbeat: silence for two and a half of them means the server no
longer knows the request (its restart, a new leader, a deleted consumer), and it is asked anew. All
are asked anew at once after a reconnection.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Final

from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Delivered, Message, is_delivery
from agentflow.bus.wire.subscription import Subscription
from agentflow.errors import AgentFlowError, NotConnected
from agentflow.protocol import headers as blocks
from agentflow.rules.rota import Rota

_log = logging.getLogger(__name__)

EXPIRES: Final = 30.0
HEARTBEAT: Final = 5.0
SILENCE: Final = 2.5 * HEARTBEAT
NO_WAIT_DEADLINE: Final = 2.0
BATCH: Final = 256
BULK_BYTES: Final = 16 * 1024 * 1024
"""Of a bulk request's messages: the server cuts off a client that 64 MiB wait for."""
PROBE_EVERY: Final = 0.25
FEW: Final = 12
PROBE_EACH: Final = 0.02
"""Seconds that each consumer above FEW makes that longer, or looking would be all that is done."""
LINGERING: Final = 128
"""Requests that linger at once."""
GATHER: Final = 0.02
"""Seconds that a few free slots wait for more, so that many short tasks share a request."""
RETRY: Final = 0.5
_NOTHING: Final = frozenset({404, 408})
_TOO_MANY_BYTES: Final = "message size exceeds maxbytes"

ACK: Final = b"+ACK"
IN_PROGRESS: Final = b"+WPI"


def nak(delay: float = 0.0) -> bytes:
    """The ack payload that hands a message back, to come again after `delay` seconds."""
    return b"-NAK" if delay <= 0 else b'-NAK {"delay": %d}' % int(delay * 1e9)


class _Source:
    """One consumer: whether it may have a backlog, and the request that lingers on it."""

    __slots__ = ("cold_since", "hot", "lingering", "name", "seen")

    def __init__(self, name: str) -> None:
        self.name = name
        self.hot = True
        self.cold_since = 0.0
        self.lingering = ""
        self.seen = 0.0


def _first(_: str, ready: Collection[str]) -> tuple[str, int]:
    return next(iter(ready)), BATCH


class Puller:
    """Fills `free()` slots with deliveries from consumers: `tiers`, highest priority first.

    One that is not `allowed` now (its queue is paused) is not asked; what a request of before still
    brings is delivered. `choose` is given a consumer of `tiers` and which of it and its lanes may
    have a backlog, and says whose turn it is and for how many messages; `emptied` is told of one
    that has none.
    """

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
        allowed: Callable[[str], bool] = lambda _: True,
        choose: Callable[[str, Collection[str]], tuple[str, int]] = _first,
        emptied: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._sources = {name: _Source(name) for tier in tiers for name in tier}
        self._lanes: dict[str, list[_Source]] = {
            name: [self._sources[name]] for name in self._sources
        }
        self._rota = Rota([list(tier) for tier in tiers])
        self._choose = choose
        self._emptied = emptied
        self._free = free
        self._deliver = deliver
        self._ensure = ensure
        self._allowed = allowed
        self._threshold = max(1, min(64, slots // 8))
        self._counter = 0
        self._running = False
        self._paused_until = 0.0
        self._gathering: asyncio.TimerHandle | None = None
        self._mending: asyncio.Task[None] | None = None
        self._unregister: Callable[[], None] | None = None
        self._bulk_inbox: Subscription | None = None
        self._bulk = ""
        self._bulk_source = _Source("")
        self._bulk_asked = 0
        self._bulk_left = 0
        self._bulk_since = 0.0
        self._outsized = False
        self._linger_inbox: Subscription | None = None
        self._lingering: dict[str, _Source] = {}
        self.deliveries = 0

    async def start(self) -> None:
        """Begin to pull."""
        self._unregister = self._connection.on_connect(self._again)
        self._running = True
        self._again()

    async def stop(self) -> None:
        """Pull no more; what the server had already sent is handed back."""
        self.pause()
        if self._unregister is not None:
            self._unregister()
        if self._mending is not None:
            self._mending.cancel()
        try:
            # Whatever was on its way arrives before the pong.
            await self._connection.flush(1.0)
        except AgentFlowError:
            _log.debug("stopped pulling without a connection; the lease returns the rest")

    def pause(self) -> None:
        """Pull no more until `resume`; what is on its way is handed back."""
        self._running = False
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        self._withdraw()
        self._renounce_bulk()

    def resume(self) -> None:
        """Pull again."""
        self._running = True
        self._again()

    def refill(self) -> None:
        """Ask for more where slots are free. Called whenever one became free; cheap otherwise."""
        if not self._running:
            return
        if not all(self._allowed(source.name) for source in self._lingering.values()):
            self._withdraw()
        if self._bulk or self._gathering is not None:
            return
        room = self._free()
        if room >= self._threshold:
            self._pull(room)
        elif room > 0:
            self._gathering = asyncio.get_running_loop().call_later(GATHER, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        room = self._free()
        if self._running and not self._bulk and room > 0:
            self._pull(room)

    def _pull(self, room: int) -> None:
        if time.monotonic() < self._paused_until:
            return
        try:
            source, most = self._next()
            if source is not None:
                self._ask_bulk(source, min(room, BATCH, most))
                return
            for source in self._sources.values():
                if len(self._lingering) >= LINGERING:
                    return
                if not source.lingering and self._allowed(source.name):
                    self._ask_lingering(source)
        except NotConnected:
            return  # the reconnection starts again

    def _next(self) -> tuple[_Source | None, int]:
        """Whom to ask for a backlog, and for how much; None when nobody is known to have one."""
        hot = (source.name for source in self._sources.values() if source.hot)
        if not any(map(self._allowed, hot)):
            return None, 0
        # One that went cold long ago must be asked again: it may hold a backlog by now.
        cold_before = time.monotonic() - max(PROBE_EVERY, PROBE_EACH * (len(self._sources) - FEW))

        def ready(source: _Source) -> bool:
            return self._allowed(source.name) and (
                source.hot or (not source.lingering and source.cold_since < cold_before)
            )

        base = self._rota.next(lambda name: any(map(ready, self._lanes[name])))
        if base is None:
            return None, 0
        those = {source.name: source for source in self._lanes[base] if ready(source)}
        if len(self._lanes[base]) == 1:
            return next(iter(those.values())), BATCH
        # A cold one is only looked at, whatever its share is.
        for source in those.values():
            if not source.hot:
                return source, 1
        name, most = self._choose(base, those)
        return those[name], most

    # Lanes.

    def add(self, base: str, name: str) -> None:
        """Pull from the consumer of a lane too, which stands beside `base`."""
        if name not in self._sources:
            source = self._sources[name] = _Source(name)
            self._lanes[base].append(source)
            self.refill()

    def drop(self, base: str, name: str) -> None:
        """Pull from the consumer of a lane no more."""
        source = self._sources.pop(name, None)
        if source is None:
            return
        self._lanes[base].remove(source)
        if source.lingering:
            self._withdraw()
        self.refill()

    def warm(self, name: str) -> None:
        """Something waits at a consumer."""
        source = self._sources.get(name)
        if source is not None and not source.hot and not source.lingering:
            source.hot = True
            self.refill()

    async def watch(self) -> None:
        """The watchdog; runs until cancelled."""
        left = 0
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            if not self._running or not self._connection.connected.is_set():
                continue
            if self._bulk and self._bulk_left == left and now - self._bulk_since > NO_WAIT_DEADLINE:
                self._renounce_bulk()
            left = self._bulk_left
            for source in self._sources.values():
                if source.lingering and now - source.seen > SILENCE:
                    _log.warning("no heartbeat from consumer %s; asking again", source.name)
                    self._forget(source)
            self.refill()

    # Requests.

    def _request(self, inbox: Subscription, source: _Source, body: bytes) -> str:
        self._counter += 1
        reply = f"{inbox.subject[:-1]}{self._counter}"
        self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{source.name}", body, reply=reply
        )
        return reply

    def _inbox(self, received: Callable[[str, Message], None]) -> Subscription:
        token = secrets.token_hex(11)
        return self._connection.listen(
            f"{self._connection.options.inbox_prefix}.{token}.*", partial(received, token)
        )

    def _ask_bulk(self, source: _Source, batch: int) -> None:
        if self._bulk_inbox is None:
            self._bulk_inbox = self._inbox(self._bulk_received)
        if self._outsized:
            batch, body = 1, b'{"batch":1,"no_wait":true}'
        else:
            body = b'{"batch":%d,"max_bytes":%d,"no_wait":true}' % (batch, BULK_BYTES)
        self._outsized = False
        self._bulk = self._request(self._bulk_inbox, source, body)
        self._bulk_source = source
        self._bulk_asked = self._bulk_left = batch
        self._bulk_since = time.monotonic()

    def _end_bulk(self, *, cold: bool) -> None:
        self._bulk = ""
        self._bulk_source.hot = not cold
        if cold:
            self._bulk_source.cold_since = time.monotonic()
            self._emptied(self._bulk_source.name)
        self.refill()

    def _renounce_bulk(self) -> None:
        """Expect no end of the bulk request; late messages of it are taken all the same."""
        self._bulk = ""
        inbox, self._bulk_inbox = self._bulk_inbox, None
        if inbox is not None:
            inbox.end(linger=True)

    def _ask_lingering(self, source: _Source) -> None:
        if self._linger_inbox is None:
            self._linger_inbox = self._inbox(self._lingering_received)
        body = b'{"batch":1,"expires":%d,"idle_heartbeat":%d}' % (
            int(EXPIRES * 1e9),
            int(HEARTBEAT * 1e9),
        )
        source.lingering = self._request(self._linger_inbox, source, body)
        source.seen = time.monotonic()
        self._lingering[source.lingering] = source

    def _forget(self, source: _Source) -> None:
        self._lingering.pop(source.lingering, None)
        source.lingering = ""
        source.hot = True

    def _withdraw(self) -> None:
        """Have no message sent for which there is no slot."""
        inbox, self._linger_inbox = self._linger_inbox, None
        if inbox is None:
            return
        inbox.end(linger=True)
        for source in self._lingering.values():
            # What arrives from now on is found by a bulk request.
            source.lingering = ""
        self._lingering.clear()

    def _again(self) -> None:
        """Ask anew, under new subjects: a server may still know what was asked before."""
        if not self._running:
            return
        self._withdraw()
        self._renounce_bulk()
        for source in self._sources.values():
            source.hot = True
        self.refill()

    # Answers.

    def _bulk_received(self, token: str, message: Message) -> None:
        if is_delivery(message):
            self._take(message)
            if self._bulk and token in self._bulk:
                self._bulk_left -= 1
                if self._bulk_left <= 0:
                    self._end_bulk(cold=False)
        elif message.subject == self._bulk:
            code, text = blocks.status(message.block)
            if code == 409 and text.lower() == _TOO_MANY_BYTES:
                # The next one alone may be too large, and would be for ever.
                self._outsized = self._bulk_left == self._bulk_asked
            elif code not in _NOTHING:
                self._trouble(self._bulk_source, code, text)
            self._end_bulk(cold=code in _NOTHING)

    def _lingering_received(self, token: str, message: Message) -> None:
        if is_delivery(message):
            delivered = self._take(message)
            source = self._sources.get(delivered.consumer)
            if source is not None and token in source.lingering:
                self._forget(source)
                self.refill()
            return
        source = self._lingering.get(message.subject)
        if source is None:
            return
        code, text = blocks.status(message.block)
        if code == 100:
            source.seen = time.monotonic()
            return
        del self._lingering[message.subject]
        source.lingering = ""
        if code not in _NOTHING:
            self._trouble(source, code, text)
        self.refill()

    def _take(self, message: Message) -> Delivered:
        delivered = Delivered(message)
        room = self._free() if self._running else 0
        if room > 0:
            self.deliveries += 1
            self._deliver(delivered)
            if room == 1 and self._free() <= 0:
                self._withdraw()
        else:
            try:
                self._connection.publish(message.reply, nak())
            except NotConnected:
                _log.debug("a surplus message is left to its lease")
        return delivered

    def _trouble(self, source: _Source, code: int, text: str) -> None:
        """The server does not serve this consumer at the moment."""
        _log.info("consumer %s: %s %s", source.name, code, text)
        source.hot = True
        self._paused_until = time.monotonic() + RETRY
        if self._mending is None:
            self._mending = asyncio.get_running_loop().create_task(
                self._mend(), name="mend consumers"
            )

    async def _mend(self) -> None:
        try:
            await asyncio.sleep(RETRY)
            await self._ensure()
        except AgentFlowError as error:
            _log.warning("cannot restore the consumers: %s", error)
        except Exception:
            _log.exception("restoring the consumers failed")
        finally:
            self._mending = None
            self._paused_until = 0.0
            self._again()
