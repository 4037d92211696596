"""What all attempts of one worker share."""

from __future__ import annotations

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.log.task import TaskLog
from agentflow.telemetry import tracing
from agentflow.worker.batched import IntoBatches
from agentflow.worker.endings import Endings
from agentflow.worker.gates import Gates
from agentflow.worker.held import Holding
from agentflow.worker.kinds import Kinds
from agentflow.worker.observer import Observers
from agentflow.worker.payloads import LargeTasks


class Shared:
    """The worker as its attempts see it."""

    def __init__(
        self,
        connection: Connection,
        log: TaskLog,
        holding: Holding,
        gates: Gates,
        kinds: Kinds,
    ) -> None:
        self.connection = connection
        self.log = log
        self.gates = gates
        self.kinds = kinds
        self.large = LargeTasks(JetStream(connection))
        self.observers = Observers()
        self.spans = tracing.found()
        if self.spans is not None:
            self.observers.add(self.spans)
        self.endings = Endings(connection, log, holding, self.observers)
        self.into_batches = IntoBatches(connection, log, gates, kinds, self.endings, self.spans)
