"""Who is there: listens to the workers' heartbeats; what they mean is in rules/presence.py.

Nothing is stored anywhere; a master that starts knows all workers after two heartbeats. A worker
that says goodbye leaves the list at once, a lost one is shown for an hour.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.protocol import control, limits, subjects
from agentflow.protocol.api import WorkerView
from agentflow.protocol.control import Heartbeat
from agentflow.rules import presence
from agentflow.rules.presence import Seen

_log = logging.getLogger(__name__)

MOST: Final = 10_000
"""Workers remembered; beyond it the longest silent leave."""
WATCH_EVERY: Final = 1.0


@dataclass(slots=True)
class SeenWorker(Seen):
    """A worker's last heartbeat. The named tasks stay encoded, in `data`: they are many."""

    data: bytes = b""


class Presence:
    """The workers, by actor. Who is lost is asked once a second, and only while we can hear."""

    def __init__(self, connection: Connection, *, lost_after: float = limits.LOST_AFTER) -> None:
        self._connection = connection
        self._lost_after = lost_after
        self._seen: dict[str, SeenWorker] = {}
        self._lost: set[str] = set()
        self._listening_since = self._looked = time.monotonic()

    async def start(self) -> None:
        """Listen."""
        self._connection.on_connect(self._reconnected)
        await self._connection.subscribe(f"{subjects.presence('worker', '*')}", self._heard)

    def _reconnected(self) -> None:
        self._listening_since = time.monotonic()
        presence.hearing_again(
            self._seen.values(),
            self._listening_since,
            deaf_since=self._looked,
            least=self._lost_after,
        )

    def _heard(self, message: Message) -> None:
        beat = control.decode_heartbeat(message.data)
        if beat is None or beat.role != "worker":
            return
        slim = msgspec.structs.replace(beat, tasks=[]) if beat.tasks else beat
        presence.hear(self._seen, slim, time.monotonic(), SeenWorker)
        seen = self._seen.get(beat.actor)
        if seen is not None:
            seen.data = message.data if beat.tasks else b""
        if beat.actor in self._lost:
            self._lost.remove(beat.actor)
            if seen is not None:
                _log.warning(
                    "worker %s is back",
                    beat.name,
                    extra={"action": "worker_back", "worker": beat.actor},
                )

    async def watch(self) -> None:
        """Notice who is lost; runs until cancelled."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            self.look()

    def look(self) -> None:
        """Note the lost, forget those lost for long."""
        if not self._connection.connected.is_set():
            return
        now = self._looked = time.monotonic()
        presence.forget(self._seen, now, MOST)
        lost = {actor for actor, seen in self._seen.items() if seen.lost(now, self._lost_after)}
        for actor in lost - self._lost:
            seen = self._seen[actor]
            _log.warning(
                "worker %s on %s is lost: silent for %.0f s; its %d tasks will be taken over",
                seen.beat.name,
                seen.beat.host,
                seen.age(now),
                seen.beat.running + seen.beat.held,
                extra={"action": "worker_lost", "worker": actor},
            )
        self._lost = lost

    @property
    def settled(self) -> bool:
        """Whether every worker that lives has had the time to say so."""
        return presence.is_settled(self._listening_since, time.monotonic())

    def living(self) -> Iterator[Heartbeat]:
        """The last heartbeat of everybody who is not lost."""
        return (seen.beat for actor, seen in self._seen.items() if actor not in self._lost)

    @property
    def lost(self) -> int:
        """How many are lost."""
        return len(self._lost)

    def runs(self, actor: str, task_id: str) -> bool:
        """Whether a living worker says that it runs this task; False says nothing."""
        seen = self._seen.get(actor)
        if seen is None or actor in self._lost or not seen.data:
            return False
        beat = control.decode_heartbeat(seen.data)
        return beat is not None and any(task.id == task_id for task in beat.tasks)

    def views(self) -> list[WorkerView]:
        """All workers: the living first, then the lost, by name."""
        # By our own clock, like the age: a worker's clock may be wrong.
        now, instant = time.monotonic(), datetime.now(UTC).timestamp()
        views = (
            presence.view(
                seen.beat,
                lost=actor in self._lost,
                age=now - seen.at,
                at=datetime.fromtimestamp(instant - (now - seen.at), UTC),
            )
            for actor, seen in self._seen.items()
        )
        return sorted(views, key=lambda view: (view.lost, view.name, view.actor))
