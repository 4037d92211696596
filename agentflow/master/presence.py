"""Who is there: the last heartbeat of every worker, and who has fallen silent.

Nothing is stored anywhere; a master that starts knows all workers after two heartbeats. A worker
that says goodbye leaves the list at once, a lost one is shown for an hour.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.protocol import control, limits, subjects
from agentflow.protocol.api import WorkerView
from agentflow.protocol.control import Heartbeat

_log = logging.getLogger(__name__)

KEPT: Final = 3600.0
MOST: Final = 10_000
"""Workers remembered; beyond it the longest silent leave."""
WATCH_EVERY: Final = 1.0


class Seen:
    """A worker's last heartbeat and when it came. The named tasks stay encoded: they are many."""

    __slots__ = ("at", "beat", "data", "lost")

    def __init__(self, beat: Heartbeat, data: bytes, at: float) -> None:
        self.beat = beat
        self.data = data
        self.at = at
        self.lost = False


class Presence:
    """The workers, by actor."""

    def __init__(self, connection: Connection, *, lost_after: float = limits.LOST_AFTER) -> None:
        self._connection = connection
        self._lost_after = lost_after
        self._seen: dict[str, Seen] = {}
        self._listening_since = time.monotonic()

    async def start(self) -> None:
        """Listen."""
        self._connection.on_connect(self._reconnected)
        await self._connection.subscribe(f"{subjects.presence('worker', '*')}", self._heard)

    def _reconnected(self) -> None:
        # The silence was ours: nobody is lost for what we could not hear.
        self._listening_since = time.monotonic()

    def _heard(self, message: Message) -> None:
        beat = control.decode_heartbeat(message.data)
        if beat is None or beat.role != "worker":
            return
        before = self._seen.pop(beat.actor, None)
        if beat.interval_s <= 0:
            return
        if before is not None and before.lost:
            _log.warning(
                "worker %s is back",
                beat.name,
                extra={"action": "worker_back", "worker": beat.actor},
            )
        slim = beat
        if beat.tasks:
            fields = {name: getattr(beat, name) for name in Heartbeat.__struct_fields__}
            slim = Heartbeat(**(fields | {"tasks": []}))
        self._seen[beat.actor] = Seen(slim, message.data if beat.tasks else b"", time.monotonic())

    async def watch(self) -> None:
        """Notice who is lost; runs until cancelled."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            self.look()

    def look(self) -> None:
        """Mark the lost, forget those lost for long."""
        if not self._connection.connected.is_set():
            return
        now = time.monotonic()
        for actor, seen in list(self._seen.items()):
            silent = now - max(seen.at, self._listening_since)
            if silent > KEPT:
                del self._seen[actor]
            elif not seen.lost and silent > max(self._lost_after, 2.5 * seen.beat.interval_s):
                seen.lost = True
                _log.warning(
                    "worker %s on %s is lost: silent for %.0f s; its %d tasks will be taken over",
                    seen.beat.name,
                    seen.beat.host,
                    silent,
                    seen.beat.running + seen.beat.held,
                    extra={"action": "worker_lost", "worker": actor},
                )
        while len(self._seen) > MOST:
            # Whoever beats is put behind again, so the first is the longest silent.
            del self._seen[next(iter(self._seen))]

    @property
    def settled(self) -> bool:
        """Whether every worker that lives has had the time to say so."""
        return time.monotonic() - self._listening_since > 2.5 * limits.HEARTBEAT

    def living(self) -> Iterator[Heartbeat]:
        """The last heartbeat of everybody who is not lost."""
        return (seen.beat for seen in self._seen.values() if not seen.lost)

    @property
    def lost(self) -> int:
        """How many are lost."""
        return sum(seen.lost for seen in self._seen.values())

    def runs(self, actor: str, task_id: str) -> bool:
        """Whether a living worker says that it runs this task; False says nothing."""
        seen = self._seen.get(actor)
        if seen is None or seen.lost or not seen.data:
            return False
        beat = control.decode_heartbeat(seen.data)
        return beat is not None and any(task.id == task_id for task in beat.tasks)

    def views(self) -> list[WorkerView]:
        """All workers: the living first, then the lost, by name."""
        now = time.monotonic()
        return sorted(
            (_view(seen, now) for seen in self._seen.values()),
            key=lambda view: (view.lost, view.name, view.actor),
        )


def _view(seen: Seen, now: float) -> WorkerView:
    beat = seen.beat
    age = now - seen.at
    return WorkerView(
        actor=beat.actor,
        name=beat.name,
        pid=beat.pid,
        host=beat.host,
        role=beat.role,
        queues=beat.queues,
        kinds=beat.kinds,
        slots=beat.slots,
        running=beat.running,
        held=beat.held,
        done=beat.done,
        failed=beat.failed,
        lost=seen.lost,
        stopping=beat.stopping,
        # By our own clock, like the age: a worker's clock may be wrong.
        last_heartbeat=datetime.fromtimestamp(datetime.now(UTC).timestamp() - age, UTC),
        age_s=round(age, 3),
        version=beat.version,
        rss_bytes=beat.rss_bytes,
        loop_lag_ms=beat.loop_lag_ms,
        simulated=beat.simulated,
        notes=beat.notes,
    )
