"""The commands by a gateway alone: the same answers, the same exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from agentflow.client import Client
from agentflow.errors import InvalidTask, NotConnected, PermissionDenied, TaskNotFound
from agentflow.gateway.server import HttpServer
from agentflow.protocol.task import TaskBody
from agentflow.remote.client import RemoteClient
from agentflow.worker.worker import Worker
from tests.gateway.conftest import Serve, Served, a_worker
from tests.support.handlers import Gate
from tests.support.nats_server import NatsServer
from tests.support.tools import ROOT


class Done(NamedTuple):
    code: int
    out: str
    err: str


async def run(served: Served, folder: Path, *arguments: str) -> Done:
    """A command as a process, with nothing but a URL."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AGENTFLOW")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentflow", *arguments),
        env=kept | {"HOME": str(folder), "PYTHONPATH": str(ROOT), "AGENTFLOW_URL": served.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


async def test_the_commands_work_by_a_gateway(serve: Serve, stack: Worker, tmp_path: Path) -> None:
    served = await serve()
    task = ("submit", "hello", "--kind", "echo", "--id", "r-1")
    waited = await run(served, tmp_path, *task, "--wait")
    assert (waited.code, waited.out) == (0, "hello\n"), waited.err
    again, other, failed, shown, listed, gone = await asyncio.gather(
        run(served, tmp_path, *task, "--json"),
        run(served, tmp_path, "submit", "other", "--kind", "echo", "--id", "r-1"),
        run(
            served,
            tmp_path,
            "submit",
            "x",
            "--kind",
            "sleep",
            "--param",
            "seconds=no",
            "--max-attempts",
            "1",
            "--wait",
        ),
        run(served, tmp_path, "get", "r-1", "--json"),
        run(served, tmp_path, "list", "--json"),
        run(served, tmp_path, "get", "nothing"),
    )
    assert json.loads(again.out)["id"] == "r-1"
    assert other.code == 2
    assert "another prompt" in other.err
    assert failed.code == 1
    assert json.loads(shown.out)["text"] == "hello"
    assert "r-1" in {json.loads(line)["id"] for line in listed.out.splitlines()}
    assert gone.code == 1
    unreachable = served.url
    served.url = "http://127.0.0.1:9"
    assert (await run(served, tmp_path, "list")).code == 3
    served.url = unreachable


async def test_cancel_counts_and_ends(serve: Serve, client: Client, tmp_path: Path) -> None:
    served = await serve()
    for n in range(3):
        await client.submit("x", id=f"c-{n}", kind="echo", queue="nobody")
    async with asyncio.timeout(20):
        while len(served.gateway.store.rows) < 3:
            await asyncio.sleep(0.02)
    done = await run(served, tmp_path, "cancel", "--queue", "nobody", "--yes")
    assert (done.code, done.out) == (0, "cancelled 3 tasks\n"), done.err


async def test_errors_are_what_they_were(serve: Serve, stack: Worker) -> None:
    served = await serve()
    async with RemoteClient(served.url) as remote:
        with pytest.raises(TaskNotFound):
            await remote.get("never")
        await remote.submit_body(TaskBody(prompt="x", kind="echo", id="e-1"))
        with pytest.raises(InvalidTask, match="another prompt") as refused:
            await remote.submit_body(TaskBody(prompt="y", kind="echo", id="e-1"))
        assert refused.value.reason == "id_reused"
    secured = await serve(secured=True)
    async with RemoteClient(secured.url) as remote:
        with pytest.raises(PermissionDenied, match="AGENTFLOW_URL_TOKEN"):
            await remote.list()
    async with RemoteClient("http://127.0.0.1:9", patience=0.1) as remote:
        with pytest.raises(NotConnected):
            await remote.submit_body(TaskBody(prompt="x"))


async def test_a_stream_that_breaks_goes_on(
    serve: Serve, client: Client, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    servers: list[HttpServer] = []
    begin = HttpServer.start

    async def start(server: HttpServer, listening: object) -> None:
        servers.append(server)
        await begin(server, listening)  # type: ignore[arg-type]

    monkeypatch.setattr(HttpServer, "start", start)
    async with a_worker(nats_server, {"gate": gate}):
        served = await serve()
        await client.submit("x", id="b-1", kind="gate")
        states: list[str] = []
        async with RemoteClient(served.url) as remote:
            async for event in remote.watch("b-1"):
                assert event.record is not None
                states.append(str(event.record.state))
                if event.record.state == "running":
                    assert servers[0]._runner is not None
                    for connection in servers[0]._runner.server.connections:  # type: ignore[union-attr]
                        connection.force_close()
                    gate.opened.set()
        assert states == ["running", "succeeded"]
