"""AgentFlow: thousands of Claude tasks on your own machines, over NATS JetStream.

In a program of your own:

    import agentflow

    async with agentflow.connect() as flow:
        task = await flow.submit("Write a haiku")
        result = await task.result(timeout=60)

In a script or a notebook, without await:

    with agentflow.sync.connect() as flow:
        result = flow.submit("Write a haiku").result(timeout=60)

Handlers of your own (`agentflow worker module:app`):

    app = agentflow.App()

    @app.task(kind="haiku")
    async def haiku(ctx: agentflow.Context, subject: str) -> str:
        return (await ctx.claude(f"Write a haiku about {subject}")).text
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from agentflow import sync
    from agentflow.app import App, AttemptFailed, ClaudeAnswer, Context, Fail, Retry, SyncContext
    from agentflow.client import Flow, connect

__all__ = [
    "App",
    "AttemptFailed",
    "ClaudeAnswer",
    "Context",
    "Fail",
    "Flow",
    "Retry",
    "SyncContext",
    "__version__",
    "connect",
    "sync",
]


def __getattr__(name: str) -> Any:
    # The client imports nats-py (a quarter of a second); commands that do not need it must not pay.
    if name == "sync":
        return importlib.import_module("agentflow.sync")
    if name in __all__:
        place = "client" if name in ("Flow", "connect") else "app"
        return getattr(importlib.import_module(f"agentflow.{place}"), name)
    raise AttributeError(f"module 'agentflow' has no attribute {name!r}")
