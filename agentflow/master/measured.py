"""What a master's metrics say of its queues and workers."""

from __future__ import annotations

from collections.abc import Mapping

from agentflow.actor import Actor
from agentflow.bus.streams.bucket import read_all
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.lease import Lease
from agentflow.errors import NoStream
from agentflow.master.presence import Presence
from agentflow.master.queues import Queues
from agentflow.protocol.subjects import Priority
from agentflow.telemetry.metrics import MasterMetrics, QueueFigures


def measured(
    js: JetStream, actor: Actor, *, lease: Lease, presence: Presence, queues: Queues
) -> MasterMetrics:
    """The metrics of a master's parts; queues are read when they are asked for."""

    async def figures() -> Mapping[str, QueueFigures]:
        return {
            queue: QueueFigures(
                {priority: depth.waiting.get(priority, 0) for priority in Priority}, depth.oldest
            )
            for queue, depth in (await queues.depths()).items()
        }

    async def bucket() -> Mapping[str, bytes]:
        values: dict[str, bytes] = {}
        try:
            async for key, _, value in read_all(js):
                values.pop(key, None)
                if value is not None:
                    values[key] = value
        except NoStream:
            pass  # a server that nobody has used
        return values

    return MasterMetrics(
        js.connection,
        actor=actor.name,
        leads=lambda: lease.held,
        workers=lambda: (sum(1 for _ in presence.living()), presence.lost),
        queues=figures,
        bucket=bucket,
        now=js.now,
    )
