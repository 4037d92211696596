"""The streams and consumers that a worker pulls from: found, made, and mended while it works."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.errors import AgentFlowError, BusError, NotFound, PermissionDenied
from agentflow.protocol import subjects
from agentflow.worker.held import Holding

_log = logging.getLogger(__name__)

STREAMS_WITHIN: Final = 20.0
"""Seconds in which a master that starts at the same time has made the streams."""
STREAMS_EVERY: Final = 0.5
CONSUMERS_EVERY: Final = 30.0


class Consumers:
    """The consumers of some queues. What they say of the lease, `holding` is told."""

    def __init__(
        self, js: JetStream, queues: Sequence[str], holding: Holding, *, lease: float | None
    ) -> None:
        self._js = js
        self._queues = queues
        self._holding = holding
        self._lease = lease
        self.notes: list[str] = []
        """How the consumers differ from what they should be, for heartbeats."""

    async def start(self, stopping: asyncio.Event) -> None:
        """Make sure of streams and consumers. Raises BusError."""
        try:
            await provision.wait_ready(self._js)
        except TimeoutError:
            raise BusError(
                f"the NATS server at {self._js.connection.options.shown} answers, but its "
                "JetStream does not; start it with -js, or look into its log"
            ) from None
        await self._find_streams(stopping)
        await self.ensure()
        self._lease = None  # from here on the consumers say how long it is
        await self._js.stream_info(subjects.TASKS)  # measures the server's clock

    async def ensure(self) -> None:
        """Make what is missing. Raises BusError."""
        try:
            await self._ensure_consumers()
        except NotFound:
            await self._mend_streams()
            await self._ensure_consumers()

    async def keep(self) -> None:
        """Look again and again; runs until cancelled."""
        while True:
            await asyncio.sleep(CONSUMERS_EVERY)
            await self._mend_streams()
            await self.ensure()
            await self._js.stream_info(subjects.TASKS)  # the server's clock may have been set

    async def reconnected(self) -> None:
        """Wait until the server serves again, and measure its clock."""
        try:
            await provision.wait_ready(self._js)
            await self._js.stream_info(subjects.TASKS)
        except (AgentFlowError, TimeoutError) as error:
            _log.info("after reconnecting: %s", error)

    async def _find_streams(self, stopping: asyncio.Event) -> None:
        """Create what is missing, or wait until somebody does who may. Raises BusError."""
        differences = await provision.ensure_streams(self._js)
        for difference in differences:
            _log.warning("%s: %s", difference.name, difference.text)
        end = asyncio.get_running_loop().time() + STREAMS_WITHIN
        missing = [difference for difference in differences if difference.missing]
        sentences = [f"{difference.name} {difference.text}" for difference in missing]
        while missing and not stopping.is_set():
            if asyncio.get_running_loop().time() > end:
                raise BusError(sentences[0])
            # Only looked for: each try to create them would stand in the server's log.
            await asyncio.sleep(STREAMS_EVERY)
            differences = await provision.check_streams(self._js)
            missing = [difference for difference in differences if difference.missing]

    async def _mend_streams(self) -> None:
        """Make again what somebody deleted while this worker ran: nobody else may be there."""
        try:
            differences = await provision.check_streams(self._js)
        except PermissionDenied:
            return
        missing = [difference.name for difference in differences if difference.missing]
        if missing:
            names = ", ".join(missing)
            _log.error("%s was deleted and is made anew; what it held is lost", names)
            await provision.ensure_streams(self._js)

    async def _ensure_consumers(self) -> None:
        leases, notes = [], []
        for queue in self._queues:
            differences, lease = await provision.ensure_consumers(
                self._js, queue, lease=self._lease
            )
            leases.append(lease)
            notes += [f"{difference.name}: {difference.text}" for difference in differences]
        self._holding.lease = min(leases)
        self.notes = notes
