"""The queues as rows: what waits, for how long, who serves them, and when they will be empty."""

from __future__ import annotations

from typing import Final

import msgspec

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.store.totals import SLOT, slots
from agentflow.rules import presence
from agentflow.rules.presence import Serving
from agentflow.views import gates as gateviews

SPARK: Final = 30
"""Parts of the last ten minutes."""
MINUTE: Final = 60


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A queue at a moment.

    `states` counts its tasks, those that wait (`queued`) by the server's own numbers where they are
    known; `waiting` has them by priority. `state` is open, paused or unserved. `workers` list it
    and are heard; `serving` of them take new tasks and have `slots`. `ended_per_s` is of the last
    minute, `drained_s` when the queue will be empty (None: not, as it is), `ended` the tasks that
    ended in each 20 seconds of the last ten minutes, `failed` how many of them failed, `taken` the
    messages that workers hold.
    """

    queue: str
    states: dict[str, int]
    waiting: dict[str, int]
    oldest_s: float | None
    paused: bool
    paused_by: str | None
    workers: int
    state: str
    serving: int
    slots: int
    taken: int
    ended_per_s: float
    drained_s: float | None
    ended: list[int]
    failed: int

    @property
    def queued(self) -> int:
        """Tasks that no worker has."""
        return self.states.get("queued", 0)

    @property
    def high(self) -> int:
        """Those of them that go first."""
        return self.waiting.get("high", 0)

    @property
    def low(self) -> int:
        """Those of them that go last."""
        return self.waiting.get("low", 0)

    @property
    def running(self) -> int:
        """Tasks that run."""
        return self.states.get("running", 0)

    @property
    def parked(self) -> int:
        """Tasks that wait for an instant, or for a batch."""
        return sum(self.states.get(state, 0) for state in ("retrying", "scheduled", "waiting"))


def queues(scene: Scene) -> list[Queue]:
    """The queues as they stand, by name; made anew at most once a second."""
    return scene.lately("queues", lambda: _queues(scene))


def _queues(scene: Scene) -> list[Queue]:
    store, now = scene.store, scene.now
    totals = store.totals
    paused = {gate.name: gate for gate in store.gates if gate.what == gateviews.QUEUE}
    heard = [actor.beat for actor in store.workers() if not actor.lost(store.heard_by(now))]
    by_queue = presence.by_queue(heard)
    rows = []
    for name in store.queues():
        depth = store.depths.get(name)
        # An unknown queue must not come into being by being asked for.
        states = dict(totals.states.get(name, {}))
        states["queued"] = waiting = store.waiting(name)
        ends = slots(totals.queue_ends.get(name), int(now), 2 * SPARK)
        ended = sum(ends[-MINUTE // SLOT :]) / MINUTE
        serving = by_queue.get(name, Serving())
        unserved = presence.is_unserved(
            messages=waiting,
            workers=serving.workers,
            pulls=depth.pulls if depth is not None else 0,
            settled=scene.live,
        )
        state = "paused" if name in paused else "unserved" if unserved else "open"
        rows.append(
            Queue(
                queue=name,
                states=states,
                waiting=depth.waiting if depth is not None else {},
                oldest_s=round(now - depth.oldest, 1) if depth and depth.oldest else None,
                paused=name in paused,
                paused_by=paused[name].actor or None if name in paused else None,
                workers=sum(name in beat.queues for beat in heard),
                state=state,
                serving=serving.workers,
                slots=serving.slots,
                taken=max(0, depth.messages - waiting) if depth is not None else 0,
                ended_per_s=ended,
                drained_s=waiting / ended if ended > 0 and state == "open" else None,
                failed=sum(slots(totals.queue_failures.get(name), int(now), 2 * SPARK)),
                ended=[ends[at] + ends[at + 1] for at in range(0, len(ends), 2)],
            )
        )
    return rows
