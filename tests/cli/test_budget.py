"""`agentflow budget` and `agentflow costs` from the command line."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.log.task import TaskLog
from agentflow.protocol.record import Last, Record, State, Usage
from agentflow.rules import records
from agentflow.rules.records import Origin, Spent
from agentflow.rules.routes import budgets
from tests.cli.conftest import Here
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.usefixtures("nats")


def spend_all(server: NatsServer, scope: str) -> None:
    """What a worker writes whose next request has no room."""

    async def write() -> None:
        async with await Connection.open(Connect(urls=(server.url,))) as connection:
            js = JetStream(connection)

            def change(value: bytes | None) -> bytes | None:
                budget = budgets.read(value)
                assert budget is not None
                turn = budgets.Turn(actor="w1", unheld=budget.limit, wants=(7_000,))
                after, _ = budgets.take(budget, turn, now=js.now(), until=js.now())
                return budgets.encode(after)

            await Board(js).change(budgets.key(scope), change)

    asyncio.run(write())


def test_a_budget_is_set_seen_raised_and_removed(cli: Here, nats: NatsServer, master: int) -> None:
    assert cli("budget", "list").out == "there is no budget\n"
    made = cli("budget", "set", "queue:reports", "5", "--per", "day")
    assert (made.code, made.out) == (0, "queue:reports: $0.0000 of $5.0000 a day spent\n")
    cli("budget", "set", "team=dépôt", "2.5", "--on-limit", "fail")
    assert [line["scope"] for line in cli("budget", "list", "--json").lines] == [
        "team=dépôt", "queue:reports",
    ]  # fmt: skip
    spend_all(nats, "queue.reports")

    assert "$5.0000 of $5.0000 a day spent; NO ROOM" in cli("budget", "list").out
    (stands,) = cli("pause").out.splitlines()
    assert stands.startswith("budget queue:reports has no room until ")
    assert "$5.0000 of $5.0000 are spent, and the next request may cost $0.0070" in stands
    cli("submit", "x", "--id", "waits", "--queue", "reports")
    while cli("why", "waits").code:
        pass
    assert "has no room" in cli("why", "waits").out or "No worker" in cli("why", "waits").out
    assert cli("resume", "--all").code == 0
    assert "NO ROOM" in cli("budget", "list").out, "no resume gives money"

    raised = cli("budget", "raise", "queue:reports", "8")
    assert raised.out == "queue:reports: $5.0000 of $8.0000 a day spent\n"
    assert cli("pause").out == "nothing is paused or closed\n"
    assert cli("budget", "rm", "queue:reports").code == 0
    assert cli("budget", "rm", "queue:reports").code == 1
    assert cli("budget", "rm", "team=dépôt").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["set", "reports", "5"], "'reports' is no scope of a budget"),
        (["set", "queue:a b", "5"], "is no scope of a budget"),
        (["set", "*", "nan"], "'nan' is no amount of dollars above 0"),
        (["raise", "job:none", "5"], "there is no budget job:none"),
    ],
)
def test_wrong_usage_is_one_sentence(cli: Here, arguments: list[str], said: str) -> None:
    done = cli("budget", *arguments)
    assert done.code == 2
    assert said in done.err


def test_costs_are_divided_by_what_tasks_have_in_common(cli: Here, nats: NatsServer) -> None:
    def record(task_id: str, sequence: int, state: State, usd: float | None, **more: Any) -> Record:
        origin = Origin(
            id=task_id,
            queue="q",
            priority="normal",
            message="1-1",
            submitted=datetime.now(UTC),
            **more,
        )
        spent = Spent(usage=Usage(10, 5), cost_micro=None if usd is None else round(usd * 1e6))
        return records.follow(
            origin, Last(sequence), state, actor="w", now=datetime.now(UTC), spent=spent
        )

    async def write() -> None:
        async with await Connection.open(Connect(urls=(nats.url,))) as connection:
            js = JetStream(connection)
            await provision.ensure_streams(js)
            log = TaskLog(js, "w")
            failed = await log.append(
                record("a", 0, State.FAILED, 1.0, labels={"team": "docs"}, model="m")
            )
            await log.append(
                record("a", failed.sequence, State.RUNNING, 1.5, labels={"team": "docs"}, model="m")
            )
            await log.append(record("b", 0, State.SUCCEEDED, 2.0))
            await log.append(record("c", 0, State.SUCCEEDED, None))

    asyncio.run(write())
    (whole,) = cli("costs", "--json").lines
    assert (whole["tasks"], whole["cost_usd"], whole["unknown"]) == (3, 3.5, 1)
    teams = cli("costs", "--by", "team,queue", "--json").lines
    assert [(one["group"]["team"], one["tasks"], one["cost_usd"]) for one in teams] == [
        ("", 2, 2.0),
        ("docs", 1, 1.5),
    ]
    shown = cli("costs", "--by", "model", "--since", "1h").out
    assert "$1.50" in shown
    assert "1 of unknown cost" in shown
    assert cli("costs", "--since", "yesterday").code == 2
