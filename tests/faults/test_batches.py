"""Batches under kill -9 at any moment: nothing is lost, nothing is paid twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow.audit.verify import verify
from agentflow.bus.streams.bucket import Board, read_all, value_of
from agentflow.protocol import batches, subjects
from agentflow.protocol.record import State
from agentflow.rules.routes import budgets, reserved
from agentflow.rules.routes.budgets import Budget
from agentflow.simulator import Simulator
from tests.support.ledger import Ledger
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.warm_worker import WarmWorkers

Scale = Callable[[int, int], int]

PACE = '{"gather": 0.3, "look": 0.1, "poll": 0.3, "settle": 6, "flush": 0.05, "commit": 5}'
MISHAPS: dict[str, Any] = {
    "processing": {"kind": "uniform", "low": 0.1, "high": 1.5},
    "lost": 0.1,
    "lost_by": "500",
    "refused": 0.05,
    "missing": 0.02,
    "cut": 0.15,
    "short": 0.15,
    "errored": 0.01,
    "expired": 0.01,
    "bytes_most": 6_000,
}


async def tables(observer: Observer) -> list[batches.Table]:
    return [
        batches.read(value)
        async for key, _, value in read_all(observer.js)
        if value is not None and batches.parse_key(key) is not None
    ]


async def settled(observer: Observer) -> bool:
    """No batch is under way, and nobody waits for one."""
    info = await observer.js.stream_info(subjects.BATCH)
    return not info["state"]["messages"] and not any(t.rows for t in await tables(observer))


@pytest.mark.timeout(900)
async def test_batchers_killed_at_random_moments_lose_nothing_and_pay_for_nothing_twice(
    observer: Observer, nats_server: NatsServer, tmp_path: Path, scale: Scale
) -> None:
    kills, chance = scale(25, 200), random.Random(11)
    async with Simulator() as simulator:
        simulator.set_mode({"batches": MISHAPS})
        env = {
            "ANTHROPIC_BASE_URL": simulator.url,
            "ANTHROPIC_API_KEY": "simulated",
            "AGENTFLOW_POOL": "pool",
            "AGENTFLOW_BATCHES": PACE,
        }
        options = {"kinds": ["claude"], "slots": 10, "lease": 2.0}
        workers = WarmWorkers(nats_server.url, tmp_path / "workers.log", env=env, **options)
        everything = budgets.key(budgets.EVERYTHING)
        plenty = budgets.encode(Budget(limit=10**12))
        await Board(observer.js).change(everything, lambda _: plenty)
        try:
            ids: list[str] = []
            for _ in range(2):
                await workers.start()
            for _ in range(kills):
                for _ in range(5):
                    task_id = f"t{len(ids)}"
                    body = {"id": task_id, "prompt": task_id, "batch": True, "max_attempts": 50}
                    await observer.submit(body)
                    ids.append(task_id)
                await asyncio.sleep(chance.uniform(0.05, 0.9))
                workers.kill(chance.choice(sorted(workers.pids)))
                await workers.start()
            for task_id in ids:
                await observer.ended(task_id, within=120)
            await observer.becomes(lambda: settled(observer), within=120)
            list(simulator.batches)

            async def given_back() -> bool:
                last = await observer.js.last(subjects.KV_STREAM, subjects.kv(everything))
                budget = budgets.read(value_of(last)) or Budget(limit=0)
                held = set(reserved.nonces(budget, "pool", "default"))
                late = {one.nonce for table in await tables(observer) for one in table.late}
                return held <= late

            # What a batcher held that died before its create, another one gives back; but for a
            # create that may be found done all the same.
            await observer.becomes(given_back, within=60)
        finally:
            workers.close()

        last = await observer.js.last(subjects.KV_STREAM, subjects.kv(everything))
        budget = budgets.read(value_of(last))
        assert budget is not None
        told = simulator.batches
        assert (budget.spent, budget.unknown) == (told.input_tokens + 5 * told.output_tokens, 0)
        paid = simulator.batches.paid
        states = {task_id: observer.live[task_id][-1].state for task_id in ids}
        print(f"{kills} kills, {len(ids)} tasks, {len(list(simulator.batches))} batches,")
        print(f"paid {paid.total()}, outcomes {dict(simulator.log.outcomes)}")
        assert {name for name, state in states.items() if state != State.SUCCEEDED} == set()
        assert {name: count for name, count in paid.items() if count != 1} == {}
        assert paid.total() == len(ids)
        assert [table.twice for table in await tables(observer) if table.twice] == []
    report = await verify(observer.js)
    assert [finding for finding in report.findings if finding.id in states] == []


@pytest.mark.timeout(600)
async def test_a_server_killed_under_batches_loses_nothing_and_pays_for_nothing_twice(
    observer: Observer, ledger: Ledger, nats_server: NatsServer, tmp_path: Path, scale: Scale
) -> None:
    chance = random.Random(5)
    async with Simulator() as simulator:
        simulator.set_mode({"batches": {**MISHAPS, "refused": 0.0}})
        env = {
            "ANTHROPIC_BASE_URL": simulator.url,
            "ANTHROPIC_API_KEY": "simulated",
            "AGENTFLOW_POOL": "pool",
            "AGENTFLOW_BATCHES": PACE,
        }
        options = {"kinds": ["claude"], "slots": 10, "lease": 2.0}
        workers = WarmWorkers(nats_server.url, tmp_path / "workers.log", env=env, **options)
        try:
            ids: list[str] = []
            for _ in range(2):
                await workers.start()
            await observer.submit({"id": "first", "prompt": "first", "batch": True})
            await observer.state("first", State.WAITING)  # one worker has begun at least
            ids.append("first")
            for _ in range(scale(3, 20)):
                for _ in range(10):
                    task_id = f"t{len(ids)}"
                    body = {"id": task_id, "prompt": task_id, "batch": True, "max_attempts": 50}
                    await ledger.insist(body)
                    ids.append(task_id)
                await asyncio.sleep(chance.uniform(0.2, 1.5))
                nats_server.kill()
                nats_server.start()
                await observer.connection.connected.wait()

            async def ended() -> bool:
                lasts = [(await observer.last(task_id)).state for task_id in ids]
                return all(state == State.SUCCEEDED for state in lasts)

            await observer.becomes(ended, within=120)
            await observer.becomes(lambda: settled(observer), within=120)
            list(simulator.batches)
        finally:
            workers.close()
        assert {name: count for name, count in simulator.batches.paid.items() if count != 1} == {}
        assert simulator.batches.paid.total() == len(ids)
