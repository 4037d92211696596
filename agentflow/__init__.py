"""AgentFlow: thousands of Claude tasks on your own machines, over NATS JetStream.

In a program of your own:

    import agentflow

    async with agentflow.connect() as client:
        task = await client.submit("Write a haiku")
        result = await task.result(timeout=60)

In a script or a notebook, without await:

    with agentflow.sync.connect() as client:
        result = client.submit("Write a haiku").result(timeout=60)

Handlers of your own (`agentflow worker module:app`):

    app = agentflow.App()

    @app.task(kind="haiku")
    async def haiku(ctx: agentflow.Context, subject: str) -> str:
        return (await ctx.claude(f"Write a haiku about {subject}")).text
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from agentflow.version import __version__

if TYPE_CHECKING:
    from agentflow import sync
    from agentflow.app import App, AttemptFailed, ClaudeAnswer, Context, Fail, Retry, SyncContext
    from agentflow.client import Client, connect

__all__ = [
    "App",
    "AttemptFailed",
    "ClaudeAnswer",
    "Client",
    "Context",
    "Fail",
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
        place = "client" if name in ("Client", "connect") else "app"
        return getattr(importlib.import_module(f"agentflow.{place}"), name)
    raise AttributeError(f"module 'agentflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Without it dir() and completion know only what has been used already.
    return sorted({*globals(), *__all__})
