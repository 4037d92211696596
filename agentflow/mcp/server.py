"""The tools as a server of the Model Context Protocol, on stdin and stdout."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from agentflow.client import Client
from agentflow.errors import AgentFlowError
from agentflow.mcp.tools import Acting, Looking
from agentflow.version import __version__

INSTRUCTIONS = (
    "AgentFlow runs tasks, most of them prompts for Claude, from queues. Tasks have ids; what "
    "happened to one is a log of records. Start with stats and list_tasks."
)

Tool = Callable[..., Awaitable[dict[str, Any]]]


def server(client: Client, *, acts: bool) -> MCPServer[Any]:
    """A server of the tools that look, and with `acts` of those that do something."""
    made: MCPServer[Any] = MCPServer("agentflow", instructions=INSTRUCTIONS, version=__version__)
    for part in (Looking(client), *([Acting(client)] if acts else [])):
        for name, method in inspect.getmembers(part, inspect.ismethod):
            if not name.startswith("_"):
                made.tool(name, description=inspect.getdoc(method))(told(method))
    return made


def told(tool: Tool) -> Tool:
    """The tool, whose errors are sentences for who called it."""

    @functools.wraps(tool)
    async def call(*arguments: Any, **named: Any) -> dict[str, Any]:
        try:
            return await tool(*arguments, **named)
        except AgentFlowError as error:
            raise ToolError(f"{type(error).__name__}: {error}") from None

    return call


async def serve(client: Client, *, acts: bool) -> None:
    """Serve on stdin and stdout until stdin ends. Raises BusError where NATS cannot be reached."""
    async with client:
        await server(client, acts=acts).run_stdio_async()
