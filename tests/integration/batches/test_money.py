"""Budgets and batches: held before a create is sent, settled by its results, never above."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.bus.streams.bucket import Board, value_of
from agentflow.client import Client
from agentflow.config import Connect
from agentflow.job.job import Job
from agentflow.job.source import Reading, Source
from agentflow.job.spec import Ending, JobSpec
from agentflow.protocol import subjects
from agentflow.protocol.batches import RowState
from agentflow.protocol.record import State
from agentflow.protocol.task import Task
from agentflow.rules.routes import budgets, reserved
from agentflow.rules.routes.budgets import Budget, OnLimit
from tests.integration.batches.conftest import Lane, Unmarked
from tests.integration.test_job import Told
from tests.support.nats_server import NatsServer

SCOPE = "queue.default"
MODEL = "claude-sonnet-5-5"
USAGE = {"input_tokens": 100, "output_tokens": 200}
"""Costs (2 x 100 + 10 x 200) / 2 = 1,100 micro-USD in a batch."""
COST = 1_100


class Watched:
    """A budget, and the most that was ever spent and held of it."""

    def __init__(self, lane: Lane) -> None:
        self._js = lane.observer.js
        self._board = Board(self._js)
        self.most = 0

    async def start(self) -> None:
        await self._board.start()
        self._board.on_change(self._changed)

    def _changed(self, key: str) -> None:
        budget = budgets.read(self._board.get(key)) if key == budgets.key(SCOPE) else None
        if budget is not None:
            self.most = max(self.most, budget.spent + budget.held_micro)

    async def set(self, limit: int, **more: Any) -> None:
        value = budgets.encode(Budget(limit=limit, **more))
        await self._board.change(budgets.key(SCOPE), lambda _: value)

    async def raise_to(self, limit: int) -> None:
        def change(value: bytes | None) -> bytes | None:
            budget = budgets.read(value)
            assert budget is not None
            return budgets.encode(budgets.raised(budget, limit, "test"))

        await self._board.change(budgets.key(SCOPE), change)

    async def now(self) -> Budget:
        last = await self._js.last(subjects.KV_STREAM, subjects.kv(budgets.key(SCOPE)))
        budget = budgets.read(value_of(last))
        assert budget is not None
        return budget

    async def close(self) -> None:
        await self._board.close()


@pytest.fixture(name="budget")
async def _budget(lane: Lane) -> AsyncIterator[Watched]:
    watched = Watched(lane)
    await watched.start()
    yield watched
    await watched.close()


def most(lane: Lane, **fields: Any) -> int:
    """What a request may cost in a batch."""
    task = Task(
        id="t0", queue="default", priority=subjects.Priority.NORMAL, prompt="question t0", **fields
    )
    micro = lane.handlers[0].batch_most(task).micro
    assert micro is not None
    return micro


async def test_a_batch_holds_what_it_may_cost_and_settles_what_it_did(
    lane: Lane, budget: Watched
) -> None:
    lane.simulator.set_mode({"batches": {"processing": 1.0}, "usage": USAGE})
    await budget.set(1_000_000)
    await lane.worker()
    ids = await lane.submit(4, model=MODEL, max_tokens=1_000)

    async def made() -> bool:
        return any(row.state is RowState.MADE for row in (await lane.table()).rows)

    await lane.observer.becomes(made)
    (row,) = (await lane.table()).rows
    now = await budget.now()
    assert (now.spent, now.held_micro) == (0, 4 * most(lane, model=MODEL, max_tokens=1_000))
    assert list(now.held) == [reserved.holder("pool", "default", row.nonce)]
    for task_id in ids:
        assert (await lane.observer.ended(task_id)).cost_usd == COST / 1e6
    await lane.at_rest()
    now = await budget.now()
    assert (now.spent, now.unknown, now.held) == (4 * COST, 0, {})


async def test_what_has_no_room_waits_for_the_next_batch_and_the_limit_holds(
    lane: Lane, budget: Watched
) -> None:
    lane.simulator.set_mode({"usage": USAGE})
    await lane.worker(None)
    each = most(lane, model=MODEL, max_tokens=1_000)
    await budget.set(3 * each)
    await lane.worker()
    ids = await lane.submit(7, model=MODEL, max_tokens=1_000)
    for task_id in ids:
        assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    await lane.at_rest()
    assert budget.most <= 3 * each
    assert (await budget.now()).spent == 7 * COST
    assert set(lane.paid().values()) == {1}
    assert len(list(lane.simulator.batches)) >= 3


async def test_over_its_budget_a_task_waits_and_says_so_until_it_is_raised(
    lane: Lane, budget: Watched, nats_server: NatsServer
) -> None:
    await budget.set(1)
    await lane.worker()
    (task_id,) = await lane.submit(1, model=MODEL)

    async def short() -> bool:
        return (await budget.now()).stops

    await lane.observer.becomes(short)
    assert not list(lane.simulator.batches)
    async with Client(Connect(urls=(nats_server.url,))) as client:
        why = await client.why(task_id)
    assert why.reason == "budget"
    assert "budget queue:default has no room" in why.text
    await budget.raise_to(1_000_000)
    assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    await lane.at_rest()
    assert not (await budget.now()).held


async def test_a_budget_may_let_them_fail(lane: Lane, budget: Watched) -> None:
    await budget.set(1, on_limit=OnLimit.FAIL)
    await lane.worker()
    (task_id,) = await lane.submit(1, model=MODEL)
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.reason) == (State.FAILED, "budget")
    (free,) = await lane.submit(1, prefix="nova", model="claude-nova-9")
    ended = await lane.observer.ended(free)
    assert (ended.state, ended.reason) == (State.FAILED, "unpriced")
    await lane.at_rest()


async def test_a_deleted_batch_is_spent_at_the_most_it_may_have_cost(
    lane: Lane, budget: Watched
) -> None:
    lane.simulator.set_mode({"batches": {"processing": 600}})
    await budget.set(1_000_000)
    await lane.worker()
    (task_id,) = await lane.submit(1, model=MODEL, max_tokens=1_000)

    async def made() -> bool:
        return any(row.state is RowState.MADE for row in (await lane.table()).rows)

    await lane.observer.becomes(made)
    for batch in lane.simulator.batches:
        batch.deleted = True
    assert (await lane.observer.ended(task_id)).reason == "batch_gone"
    await lane.at_rest()
    now, each = await budget.now(), most(lane, model=MODEL, max_tokens=1_000)
    assert (now.spent, now.unknown, now.held) == (each, each, {})


async def test_an_answer_without_a_price_counts_at_the_most_it_may_have_cost(
    lane: Lane, budget: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await budget.set(1_000_000)
    await lane.worker()
    each = most(lane, model=MODEL, max_tokens=1_000)
    lane.simulator.set_mode({"usage": USAGE, "model": "claude-nova-9"})
    (task_id,) = await lane.submit(1, model=MODEL, max_tokens=1_000)
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.cost_usd) == (State.SUCCEEDED, None)
    await lane.at_rest()
    now = await budget.now()
    assert (now.spent, now.unknown, now.held) == (each, each, {})


async def test_what_a_dead_batcher_left_held_is_given_back(lane: Lane, budget: Watched) -> None:
    orphan = reserved.holder("pool", "default", "af000000000000")
    until = lane.observer.js.now() + reserved.HELD_FOR
    await budget.set(1_000_000, held={orphan: budgets.Holder(5_000, until)})
    await lane.worker()

    async def given_back() -> bool:
        return not (await budget.now()).held

    assert await lane.observer.becomes(given_back)
    assert (await budget.now()).spent == 0


async def test_a_create_that_is_refused_gives_its_money_back(lane: Lane, budget: Watched) -> None:
    lane.simulator.set_mode({"batches": {"bytes_most": 500}, "usage": USAGE})
    await budget.set(1_000_000)
    await lane.worker()
    for task_id in await lane.submit(8, model=MODEL, max_tokens=1_000):
        assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    await lane.at_rest()
    assert lane.simulator.log.outcomes["413"] > 0
    now = await budget.now()
    assert (now.spent, now.held) == (8 * COST, {})


async def test_a_jobs_limit_holds_for_batches(
    lane: Lane, nats_server: NatsServer, tmp_path: Path
) -> None:
    lane.simulator.set_mode({"usage": USAGE})
    lane.kind = Unmarked
    await lane.worker()
    each = most(lane, model=MODEL, max_tokens=1_000)
    rows = [{"prompt": f"P{at}", "model": MODEL, "max_tokens": 1_000} for at in range(12)]
    limit = each + 3 * COST

    async def run(micro: int) -> tuple[Ending, Job]:
        text = "\n".join(json.dumps({**row, "batch": True}) for row in rows)
        spec = JobSpec(
            id="limited",
            results=tmp_path / "results.jsonl",
            connect=Connect(urls=(nats_server.url,)),
            concurrency=4,
            max_cost_micro=micro,
        )
        job = Job(spec, Source("-", io.BytesIO(text.encode()), Reading()))
        return await job.run(Told()), job

    def paid() -> int:
        return sum(lane.paid().values()) * COST

    ending, job = await run(limit)
    assert ending is Ending.COST_LIMIT
    assert job.tally.cost_micro == paid() <= limit
    assert paid() > limit - each, "within one hold of it"
    ending, job = await run(100 * each)
    assert (ending, job.tally.done, job.tally.failed) == (Ending.DONE, 12, 0)
    assert job.tally.cost_micro == paid() == 12 * COST
