"""What a master's metrics say of its queues and workers."""

from __future__ import annotations

from collections.abc import Mapping

from agentflow.bus.wire.connection import Connection
from agentflow.master.master import Master
from agentflow.protocol.subjects import Priority
from agentflow.telemetry.metrics import MasterMetrics, QueueFigures


def measured(master: Master, connection: Connection) -> MasterMetrics:
    """The metrics of this master; queues are read when they are asked for."""

    async def queues() -> Mapping[str, QueueFigures]:
        return {
            queue: QueueFigures(
                {priority: depth.waiting.get(priority, 0) for priority in Priority}, depth.oldest
            )
            for queue, depth in (await master.queues.depths()).items()
        }

    return MasterMetrics(
        connection,
        actor=master.actor.name,
        leads=lambda: master.lease.held,
        workers=lambda: (sum(1 for _ in master.presence.living()), master.presence.lost),
        queues=queues,
        now=master.log.now,
    )
