"""What a job waits for, in sentences: closed routes and pauses, as they come and as they go.

Nobody should watch a bar that stands and wonder. What lasts a moment is no news.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Final

from agentflow.client import Client
from agentflow.errors import AgentFlowError
from agentflow.job.spec import FrontEnd
from agentflow.protocol.api import GateView
from agentflow.views import gates as gateviews

LOOK_EVERY: Final = 1.0
LASTING: Final = 5.0
"""Seconds that a closure must last to be told."""


class Waiting:
    """Looks at the gates while a job runs, and tells its front end."""

    def __init__(self, client: Client, queue: str, front_end: FrontEnd) -> None:
        self._client = client
        self._queue = queue
        self._front_end = front_end
        self._told: dict[str, GateView] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with suppress(AgentFlowError):  # what is wrong with the bus, the job itself says
                self.tell(await self._client.pauses(), self._client.js.now())
            await asyncio.sleep(LOOK_EVERY)

    def tell(self, gates: list[GateView], now: datetime) -> None:
        """Say what is new among the gates that stand, and what of those told has opened."""
        standing = {gate.key: gate for gate in gates if self._concerns(gate)}
        for key, gate in standing.items():
            before = self._told.get(key)
            if before is not None and before.reason == gate.reason:
                continue
            if gate.until is None or (gate.until - now).total_seconds() >= LASTING:
                self._told[key] = gate
                self._front_end.warn(_sentence(gate))
        for key in [key for key in self._told if key not in standing]:
            gate = self._told.pop(key)
            self._front_end.say(f"{gate.what} {gate.name} is open again")

    def _concerns(self, gate: GateView) -> bool:
        return gate.what != gateviews.QUEUE or gate.name == self._queue


def _sentence(gate: GateView) -> str:
    text = f"tasks wait: {gateviews.sentence(gate)}"
    if gate.what == gateviews.POOL and gate.until is not None:
        return f"{text}. It is tried again by itself; at once: {gateviews.remedy(gate)}"
    return f"{text}. To let it go on: {gateviews.remedy(gate)}"
