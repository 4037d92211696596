"""The batches under way as rows, as the workers that look after them tell. Pure."""

from __future__ import annotations

import msgspec

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.rows.units import Instant, instant


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch. `state` is how far its create is: open, sent (what came of it is unknown), made;
    `status` the API's word. `settled` of its `count` requests have their outcome written, which
    cost `cost_usd` and would have cost `saved_usd` more by live requests.
    """

    id: str
    pool: str
    queue: str
    state: str
    status: str
    count: int
    settled: int
    made: Instant | None
    expires: Instant | None
    cost_usd: float
    saved_usd: float
    worker: str


def batches(scene: Scene) -> list[Batch]:
    """All that a living worker looks after, the oldest first; those that are not made, last."""
    found = [
        Batch(
            id=told.id or told.nonce,
            pool=told.pool,
            queue=told.queue,
            state=told.state,
            status=told.status,
            count=told.count,
            settled=told.settled,
            made=None if told.made is None else instant(told.made.timestamp()),
            expires=None if told.expires is None else instant(told.expires.timestamp()),
            cost_usd=told.cost_micro / 1e6,
            saved_usd=told.saved_micro / 1e6,
            worker=actor.beat.name,
        )
        for actor in scene.store.workers()
        if not actor.lost(scene.now)
        for told in actor.beat.batches
    ]
    return sorted(found, key=lambda batch: (batch.made is None, batch.made, batch.id))
