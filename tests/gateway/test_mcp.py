"""`agentflow mcp`, tried with the package's own client."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client as McpClient
from mcp.client.stdio import StdioServerParameters, stdio_client

from agentflow.client import Client
from agentflow.mcp.server import server
from agentflow.worker.worker import Worker
from tests.support.nats_server import NatsServer
from tests.support.tools import ROOT


def started(url: str, folder: Path, *options: str) -> Any:
    """The command, as an agent starts it."""
    return stdio_client(
        StdioServerParameters(
            command=sys.executable,
            args=["-m", "agentflow", "mcp", "--nats", url, *options],
            env={"PYTHONPATH": str(ROOT), "HOME": str(folder)},
        )
    )


@pytest.mark.long("starts the command, which imports for seconds")
async def test_the_command_serves_on_its_stdin_and_stdout(
    stack: Worker, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with McpClient(started(nats_server.url, tmp_path)) as looking:
        assert "stats" in {tool.name for tool in (await looking.list_tools()).tools}
        told = await looking.call_tool("stats", {})
        assert told.structured_content is not None
        assert told.structured_content["ready"] is True


async def test_an_agent_looks_and_acts_where_it_may(stack: Worker, client: Client) -> None:
    async with McpClient(server(client, acts=False)) as looking:
        names = {tool.name for tool in (await looking.list_tools()).tools}
        assert {"list_tasks", "read_task", "wait_for_task", "why", "stats", "limits"} <= names
        assert not names & {"submit_task", "cancel_task", "retry_task", "pause_queue"}
        missing = await looking.call_tool("read_task", {"id": "never"})
        assert missing.is_error
        assert "TaskNotFound" in str(missing.content)
    async with McpClient(server(client, acts=True)) as acting:
        task = {"prompt": "hello", "kind": "echo", "id": "m-1"}
        put = await acting.call_tool("submit_task", task)
        assert not put.is_error, put.content
        read = await acting.call_tool("wait_for_task", {"id": "m-1", "seconds": 20})
        assert read.structured_content is not None
        assert read.structured_content["text"] == "hello"
        steps = await acting.call_tool("history", {"id": "m-1"})
        assert steps.structured_content is not None
        assert [step["state"] for step in steps.structured_content["records"]] == [
            "running",
            "succeeded",
        ]
        again = await acting.call_tool("submit_task", task | {"prompt": "other"})
        assert again.is_error
        assert "IdReused" in str(again.content)
