"""The options that send tasks into batches: what is submitted, and what a job makes of them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.protocol import subjects
from tests.cli.conftest import Here
from tests.support.jobs import Home
from tests.support.nats_server import NatsServer

QUICK = '{"gather": 0.3, "look": 0.1, "poll": 0.2, "flush": 0.05}'


def stored(server: NatsServer, queue: str) -> tuple[dict[str, Any], str]:
    """The task that was submitted, and what it needs."""

    async def read() -> tuple[dict[str, Any], str]:
        async with await Connection.open(Connect(urls=(server.url,))) as connection:
            message = await JetStream(connection).last(subjects.TASKS, f"agentflow.tasks.{queue}")
            assert message is not None
            return json.loads(message.data), message.headers.get(subjects.NEEDS, "")

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--batch",), {"batch": True}),
        (("--batch", "--batch-expired", "live"), {"batch": "once"}),
        (("--batch-after", "5m"), {"batch_after": 300.0}),
    ],
)
def test_submit_says_so_in_the_task(
    cli: Here, nats: NatsServer, options: tuple[str, ...], field: dict[str, Any]
) -> None:
    assert cli("submit", "x", "--queue", "nobody", *options).code == 0
    body, needs = stored(nats, "nobody")
    assert {name: body[name] for name in body if name.startswith("batch")} == field
    assert "batch" in needs.split(", ") or needs == "batch"


@pytest.mark.parametrize("command", ["submit", "run"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--batch", "--batch-after", "5m"), "give --batch or --batch-after, not both"),
        (("--batch-expired", "live"), "--batch-expired says what becomes of --batch"),
        (("--batch-after", "soon"), "--batch-after"),
    ],
)
def test_options_that_contradict_are_wrong_usage(
    cli: Here, tmp_path: Path, command: str, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "p.txt").write_text("x\n")
    done = cli(command, str(tmp_path / "p.txt"), *options)
    assert done.code == 2
    assert said in done.err


async def test_a_job_of_lines_half_in_batches_says_what_was_saved(tmp_path: Path) -> None:
    """Each line once in the results, each paid once, and the cost that of the simulator."""
    home = Home(tmp_path)
    home.environment["AGENTFLOW_BATCHES"] = QUICK
    rows = [{"prompt": f"P{at}", "batch": at % 2 == 0} for at in range(200)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = await home.command("run", "t.jsonl", "--simulate", "--json", "--concurrency", "20")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    lines = home.results("t.results.jsonl")
    assert Counter(line["line"] for line in lines) == Counter(range(1, 201))
    batched = [line for line in lines if line["request_id"].startswith("msgbatch_")]
    assert len(batched) == told["batched"] == 100
    assert {line["line"] % 2 for line in batched} == {1}
    assert told["saved_usd"] == pytest.approx(sum(line["cost_usd"] for line in batched))
    assert told["cost_usd"] == pytest.approx(sum(line["cost_usd"] for line in lines))
    assert home.end() == []
