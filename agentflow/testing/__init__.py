"""A real stack for tests of one's own: nats-server, worker and simulated Claude, in 0.2 s.

    def test_summaries(agentflow_stack):
        agentflow_stack.run(app)
        task = agentflow_stack.client.submit(kind="summarise", params={"path": "a.txt"})
        assert task.result(timeout=20).ok

stack.py      the stack
simulator.py  what the simulated Claude answers
plugin.py     the fixture, which pytest finds by itself
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentflow.testing.simulator import SimulatedClaude
    from agentflow.testing.stack import Stack

__all__ = ["SimulatedClaude", "Stack"]


def __getattr__(name: str) -> Any:
    # pytest imports this package at each start, also for tests that need no stack.
    if name in __all__:
        place = "stack" if name == "Stack" else "simulator"
        return getattr(importlib.import_module(f"agentflow.testing.{place}"), name)
    raise AttributeError(f"module 'agentflow.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Without it dir() and completion know only what has been used already.
    return sorted({*globals(), *__all__})
