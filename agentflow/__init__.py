"""AgentFlow: thousands of Claude tasks on your own machines, over NATS JetStream.

In a program of your own:

    import agentflow

    async with agentflow.connect() as flow:
        task = await flow.submit("Write a haiku")
        result = await task.result(timeout=60)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from agentflow.client import Flow, connect

__all__ = ["Flow", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    # The client imports nats-py (a quarter of a second); commands that do not need it must not pay.
    if name in ("Flow", "connect"):
        from agentflow import client

        return getattr(client, name)
    raise AttributeError(f"module 'agentflow' has no attribute {name!r}")
