"""The lanes of a worker's queues: found where tasks wait in them, and given their shares.

A lane has a consumer for each priority at which it has tasks, made by the first worker that finds
one there. Who waits in a lane is looked for every LOOK_EVERY: until then a lane that was idle for
long costs nothing, neither requests nor a consumer. A lane that nobody lists any more is served
until it is empty, and so is what comes to it from a schedule.

A worker that found nothing in a lane for half of LANE_IDLE pulls from it no more; the server
removes a consumer that nobody pulls from for the other half.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Collection, Sequence
from typing import Final

from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.puller import Puller
from agentflow.errors import BusError, InvalidTask
from agentflow.protocol import limits, streams, subjects
from agentflow.protocol.subjects import Priority
from agentflow.rules import lanes
from agentflow.rules.lanes import Lane, Shares
from agentflow.worker.held import Held, Holding

_log = logging.getLogger(__name__)

LOOK_EVERY: Final = 2.0
"""Seconds between two looks for lanes that have tasks."""
LOOK_SELDOM: Final = 30.0
"""The same where no lane is listed: one that was may still get what was scheduled."""


class _Source:
    """The consumer of a lane at a priority."""

    __slots__ = ("base", "lane", "name", "priority", "queue", "seen")

    def __init__(self, queue: str, priority: Priority, lane: str) -> None:
        self.queue = queue
        self.priority = priority
        self.lane = lane
        self.base = subjects.consumer(queue, priority)
        self.name = subjects.consumer(queue, priority, lane)
        self.seen = time.monotonic()
        """When there was last something in it."""


class Lanes:
    """All lanes of one worker. Its owner sets `puller` and runs `keep`."""

    def __init__(
        self, js: JetStream, board: Board, queues: Sequence[str], holding: Holding
    ) -> None:
        self._js = js
        self._board = board
        self._holding = holding
        self._queues = {
            subjects.consumer(queue, priority): queue for queue in queues for priority in Priority
        }
        self._sources: dict[str, _Source] = {}
        self._shares: dict[str, Shares] = {}
        self._changed = asyncio.Event()
        self._capped: set[str] = set()
        self.puller: Puller | None = None
        self.notes: list[str] = []
        """What is wrong with them, for heartbeats."""
        board.on_change(self._learned)

    # Whose turn it is.

    def queue_of(self, consumer: str) -> str:
        """The queue that a consumer is of."""
        source = self._sources.get(consumer)
        return self._queues.get(consumer, "") if source is None else source.queue

    def choose(self, base: str, ready: Collection[str]) -> tuple[str, int]:
        """Of the consumers that may have a backlog one, and how many tasks to take from it."""
        queue = self._queues[base]
        by_lane = {self._lane_of(name): name for name in ready}
        lane, most = self._shares_of(queue).turn(by_lane.keys())
        return by_lane[lane], most

    def emptied(self, consumer: str) -> None:
        """Nothing waits there."""
        shares = self._shares.get(self.queue_of(consumer))
        if shares is not None:
            shares.empty(self._lane_of(consumer))

    def started(self, held: Held) -> None:
        """Charge a task's lane for what it is expected to come to."""
        if self._shares:
            subject = held.delivered.message.subject
            shares = self._shares.get(subjects.queue_of(subject))
            if shares is not None:
                held.charged = shares.started(subjects.lane_of(subject))

    def ended(self, held: Held) -> None:
        """Put that right by what it came to."""
        if held.charged is not None:
            subject, run = held.delivered.message.subject, held.run
            tokens = None
            if run is not None:
                tokens = run.usage.total - run.usage.cache_read_input_tokens
            shares = self._shares[subjects.queue_of(subject)]
            shares.ended(subjects.lane_of(subject), held.charged, tokens)

    def _lane_of(self, consumer: str) -> str:
        source = self._sources.get(consumer)
        return "" if source is None else source.lane

    def _shares_of(self, queue: str) -> Shares:
        shares = self._shares.get(queue)
        if shares is None:
            shares = self._shares[queue] = Shares()
            shares.weigh("", self._setting(queue, "").weight)
        return shares

    def _setting(self, queue: str, lane: str) -> Lane:
        return lanes.read(self._board.get(lanes.key(queue, lane))) or lanes.PLAIN

    # What there is.

    def _learned(self, key: str) -> None:
        if not key.startswith(lanes.PREFIX):
            return
        queue, lane = lanes.parse_key(key)
        those = {name for name, it in self._sources.items() if (it.queue, it.lane) == (queue, lane)}
        if queue in self._shares and (those or not lane):
            self._shares[queue].weigh(lane, self._setting(queue, lane).weight)
        self._capped -= those
        self._changed.set()

    @property
    def _listed(self) -> bool:
        served = set(self._queues.values())
        return any(lanes.parse_key(key)[0] in served for key, _ in self._board.items(lanes.PREFIX))

    async def keep(self) -> None:
        """Look again and again; runs until cancelled."""
        while True:
            pause = LOOK_EVERY if self._listed or self._sources else LOOK_SELDOM
            try:
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            await self.look()

    async def look(self) -> None:
        """Pull from the lanes that have tasks, and no more from those that had none for long."""
        try:
            for queue in dict.fromkeys(self._queues.values()):
                await self._look_at(queue)
            for name in [name for name in self._sources if name not in self._capped]:
                await self._cap(self._sources[name])
            self.notes = []
        except BusError as error:
            _log.info("looking for lanes: %s", error)
            self.notes = [f"its lanes cannot all be served: {error}"[:300]]
        before = time.monotonic() - limits.LANE_IDLE / 2
        for source in [source for source in self._sources.values() if source.seen < before]:
            self._drop(source)

    async def _look_at(self, queue: str) -> None:
        info = await self._js.stream_info(
            subjects.TASKS, subjects_filter=f"agentflow.tasks.{queue}.*.*"
        )
        held: dict[str, int] = info["state"].get("subjects") or {}
        for subject in held:
            try:
                _, priority = subjects.parse_task(subject)
            except InvalidTask:
                continue  # none of ours: no consumer of ours takes it
            lane = subjects.lane_of(subject)
            source = self._sources.get(subjects.consumer(queue, priority, lane))
            if source is None:
                await self._add(_Source(queue, priority, lane))
            else:
                source.seen = time.monotonic()
                if self.puller is not None:
                    self.puller.warm(source.name)

    async def _add(self, source: _Source) -> None:
        await provision.ensure_lane(self._js, self._definition(source))
        self._sources[source.name] = source
        weight = self._setting(source.queue, source.lane).weight
        self._shares_of(source.queue).weigh(source.lane, weight)
        if self.puller is not None:
            self.puller.add(source.base, source.name)

    def _drop(self, source: _Source) -> None:
        del self._sources[source.name]
        self._capped.discard(source.name)
        left = self._sources.values()
        if not any((it.queue, it.lane) == (source.queue, source.lane) for it in left):
            self._shares[source.queue].forget(source.lane)
        if self.puller is not None:
            self.puller.drop(source.base, source.name)

    def _definition(self, source: _Source) -> streams.Json:
        cap = self._setting(source.queue, source.lane).cap
        return streams.consumer(
            source.queue, source.priority, source.lane, lease=self._holding.lease, cap=cap
        )

    async def _cap(self, source: _Source) -> None:
        """Have the consumer hand out as many at once as is set now."""
        await provision.cap_lane(self._js, self._definition(source))
        self._capped.add(source.name)

    async def again(self) -> None:
        """A consumer was not there: find out which are."""
        for source in list(self._sources.values()):
            self._drop(source)
        await self.look()
