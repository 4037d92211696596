"""The simulated Claude of a stack, as a test speaks to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from agentflow.simulator import Simulator
from agentflow.simulator.knobs import Layer
from agentflow.simulator.log import Stats
from agentflow.sync import LoopThread

R = TypeVar("R")


class SimulatedClaude:
    """`agentflow.simulator.Simulator` in the thread of its stack; docs/testing.md has the knobs."""

    def __init__(self, thread: LoopThread, simulator: Simulator) -> None:
        self._thread = thread
        self._simulator = simulator

    @property
    def url(self) -> str:
        """What to give a client as `base_url`; ANTHROPIC_BASE_URL while the stack is up."""
        return self._simulator.url

    def add_script(self, steps: Sequence[dict[str, Any]], *, match: str = "") -> None:
        """See Simulator.add_script."""
        self._call(lambda: self._simulator.add_script(steps, match=match))

    def set_mode(self, mode: Layer) -> None:
        """See Simulator.set_mode."""
        self._call(lambda: self._simulator.set_mode(mode))

    def reset(self) -> None:
        """See Simulator.reset."""
        self._call(self._simulator.reset)

    def stats(self) -> Stats:
        """See Simulator.stats."""
        return self._call(self._simulator.stats)

    def _call(self, work: Callable[[], R]) -> R:
        async def call() -> R:
            return work()

        return self._thread.call(call())
