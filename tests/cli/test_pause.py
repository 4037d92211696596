"""`pause`, `resume`, `drain` and `why` from the command line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.rules.routes.closures import Closed
from tests.cli.conftest import Here, environment
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.usefixtures("nats")


def refuse(server: NatsServer) -> None:
    """What a worker writes whose credential was refused."""
    closed = Closed(
        since=datetime.now(UTC),
        reason="auth",
        error_code="authentication_error",
        message="invalid x-api-key\nagain",
        actor="w1",
    )

    async def write() -> None:
        async with await Connection.open(Connect(urls=(server.url,))) as connection:
            board = Board(JetStream(connection))
            await board.change("closed.main.opus", lambda _: msgspec.json.encode(closed))

    asyncio.run(write())


def test_pause_is_seen_everywhere_and_lifted(cli: Here, nats: NatsServer, master: int) -> None:
    assert cli("pause").out == "nothing is paused or closed\n"
    done = cli("pause", "reports", "--reason", "disk full")
    assert done.code == 0
    assert "queue reports is paused since" in done.out
    assert "(disk full). To lift it: agentflow resume reports" in done.out
    cli("pause", "--kind", "claude")
    refuse(nats)
    assert [line["name"] for line in cli("pause", "--json").lines] == [
        "main.opus", "claude", "reports",
    ]  # fmt: skip
    alert, kind, queue = cli("pause").out.splitlines()
    assert alert.startswith("ALERT: pool main.opus is closed, since")
    assert "Claude refused its credential (authentication_error): invalid x-api-key" in alert
    assert alert.endswith("To lift it: agentflow resume --pool main.opus")
    while alert not in (shown := cli("stats").out):
        pass
    assert {alert, kind, queue} <= set(shown.splitlines())
    assert alert in cli("workers").out
    done = cli("doctor", "--json")
    checks = [check for check in done.lines[0]["checks"] if check["name"] in ("pauses", "pool")]
    assert [(check["status"], check["remedy"]) for check in checks] == [
        ("FAIL", "agentflow resume --pool main.opus"),
        ("WARN", "agentflow resume --kind claude"),
        ("WARN", "agentflow resume reports"),
    ]
    cli("submit", "x", "--id", "waits", "--queue", "reports")
    while cli("why", "waits").code:
        pass
    done = cli("why", "waits")
    assert done.out.startswith("queued: Its queue reports is paused since")
    assert cli("why", "waits", "--json").lines[0]["reason"] == "paused_queue"

    assert cli("resume", "reports").out == "queue reports goes on\n"
    assert cli("resume", "reports").code == 1
    assert cli("resume", "--pool", "main").out == "pool main.opus goes on\n"
    assert cli("resume", "--all").out == "kind claude goes on\n"
    assert cli("resume", "--all").code == 0
    for wrong in (("resume",), ("resume", "a", "--all"), ("pause", "a", "--kind", "b"), ("drain",)):
        assert cli(*wrong).code == 2


def test_a_drained_worker_exits(cli: Here, server: NatsServer, tmp_path: Path) -> None:
    options = ("--queues", "leaving", "--kinds", "echo", "--name", "w9", "--nats", server.url)
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentflow", "worker", *options],
            env=environment(tmp_path),
            stdout=log,
            stderr=log,
        )
    try:
        while (done := cli("drain", "w9")).code:
            assert process.poll() is None
            assert "no living worker is called w9" in done.err
        assert "w9 (" in done.out
        assert "stops; it runs 0 tasks" in done.out
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_queue_and_a_kind_are_drained(cli: Here, worker: int) -> None:
    done = cli("drain", "--queue", "second", "--timeout", "30s")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("queue second is drained: nothing of it runs")
    assert done.out.endswith("To let it go on: agentflow resume second\n")

    cli("submit", "--id", "running", "--kind", "sleep", "--param", "seconds=3600")
    while not cli("get", "running").out.count("running"):
        pass
    done = cli("drain", "--kind", "sleep", "--timeout", "4")
    assert done.code == 1
    assert "paused; 1 task still runs: 1 at w1" in done.err
    assert "kind sleep is paused, and 1 task still runs: 1 at w1" in done.out
    assert done.out.endswith("To let it go on: agentflow resume --kind sleep\n")
    assert cli("cancel", "running").code == 0
    view = cli("drain", "--kind", "sleep", "--json").lines[0]
    assert (view["done"], view["gate"]["key"]) == (True, "pause.kind.sleep")
    assert cli("resume", "--all").code == 0
    for wrong in (("w1", "--queue", "second"), ("w1", "--timeout", "3"), ("--all", "--kind", "a")):
        assert cli("drain", *wrong).code == 2
