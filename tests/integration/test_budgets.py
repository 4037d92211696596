"""A job's limit on its cost holds, whatever its requests do: real workers, real SDK, simulator."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.bus.streams import bucket
from agentflow.config import Connect
from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.handlers.contract import Outcome, Run
from agentflow.job.job import Job
from agentflow.job.source import Reading, Source
from agentflow.job.spec import Ending, JobSpec
from agentflow.protocol import subjects
from agentflow.protocol.record import State
from agentflow.rules.routes import budgets
from agentflow.rules.routes.budgets import Budget, OnLimit
from agentflow.simulator import Simulator
from tests.integration.conftest import StartWorker
from tests.integration.test_job import Told
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.until import until

MODEL = "claude-sonnet-5-5"  # 2 and 10 micro-USD a token


@pytest.fixture(name="simulator")
async def _simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


class Unmarked(ClaudeHandler):
    """Its answers pass for real ones: a job that is not simulated takes no other."""

    async def __call__(self, run: Run) -> Outcome:
        try:
            return await super().__call__(run)
        finally:
            run.simulated = False


@pytest.fixture(name="claude")
async def _claude(simulator: Simulator) -> AsyncIterator[ClaudeHandler]:
    handler = Unmarked(api_key="sk-ant-test-0123456789", base_url=simulator.url, stall=5.0)
    await handler.start()
    yield handler
    await handler.close()


def lines(*rows: dict[str, Any]) -> Source:
    text = "\n".join(json.dumps({"model": MODEL, **row}) for row in rows)
    return Source("-", io.BytesIO(text.encode()), Reading())


def many(count: int, **fields: Any) -> Source:
    return lines(*({"prompt": f"P{at}", "max_tokens": 1_000, **fields} for at in range(count)))


def paid(simulator: Simulator) -> int:
    """What a bill would say, in micro-USD."""
    entries = list(simulator.log.entries)
    return sum(2 * entry.input_tokens + 10 * entry.output_tokens for entry in entries)


class Limited:
    """A job with a limit, on a server."""

    def __init__(self, server: NatsServer, folder: Path) -> None:
        self._server, self._folder = server, folder

    async def run(self, items: Source, micro: int | None, *, slots: int = 10) -> tuple[Ending, Job]:
        spec = JobSpec(
            id="limited",
            results=self._folder / "results.jsonl",
            connect=Connect(urls=(self._server.url,)),
            concurrency=slots,
            max_cost_micro=micro,
        )
        job = Job(spec, items)
        async with asyncio.timeout(60):
            return await job.run(Told()), job


@pytest.fixture(name="limited")
def _limited(nats_server: NatsServer, tmp_path: Path) -> Limited:
    return Limited(nats_server, tmp_path)


async def test_many_slots_of_several_workers_stay_within_the_limit_and_near_it(
    limited: Limited,
    start_worker: StartWorker,
    simulator: Simulator,
    claude: ClaudeHandler,
    observer: Observer,
) -> None:
    for _ in range(3):
        await start_worker({"claude": claude}, slots=20)
    simulator.set_mode({"latency": {"kind": "uniform", "low": 0.0, "high": 0.2}})
    for at in range(100):  # very different lengths
        tokens = 5 if at % 3 else 900
        step = {"usage": {"input_tokens": 100, "output_tokens": tokens}}
        simulator.add_script([step], match=f"P{at}.")
    rows = [{"prompt": f"P{at}.", "max_tokens": 1_000} for at in range(100)]
    ending, job = await limited.run(lines(*rows), 150_000, slots=60)

    assert ending is Ending.COST_LIMIT
    assert job.tally.cost_micro == paid(simulator) <= 150_000
    assert paid(simulator) > 130_000, "within one hold of it"
    info = await observer.js.stream_info(subjects.TASKS)
    assert info["state"]["messages"] == 0, "nothing is left that would be in another's way"

    again, job = await limited.run(lines(*rows), 150_000)
    assert (again, paid(simulator)) == (Ending.COST_LIMIT, job.tally.cost_micro)
    done, job = await limited.run(lines(*rows), 1_000_000)
    assert (done, job.tally.done, job.tally.failed) == (Ending.DONE, 100, 0)
    assert job.tally.cost_micro == paid(simulator)
    left = [value async for key, _, value in bucket.read_all(observer.js) if "budgets" in key]
    assert left == [None], "a job that is done leaves no budget behind"


async def test_each_turn_of_an_answer_that_pauses_is_held_for(
    limited: Limited, start_worker: StartWorker, simulator: Simulator, claude: ClaudeHandler
) -> None:
    await start_worker({"claude": claude}, slots=4)
    simulator.set_mode(
        {"content": "pause_turn", "usage": {"input_tokens": 500, "output_tokens": 900}}
    )
    ending, job = await limited.run(many(8), 100_000, slots=4)

    assert ending is Ending.COST_LIMIT
    assert 80_000 < paid(simulator) <= 100_000
    assert job.tally.total - job.tally.done > 0


async def test_each_answer_that_is_asked_again_is_held_for(
    limited: Limited, start_worker: StartWorker, simulator: Simulator, claude: ClaudeHandler
) -> None:
    await start_worker({"claude": claude}, slots=4)
    simulator.set_mode({"text": "no JSON", "usage": {"input_tokens": 500, "output_tokens": 900}})
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    ending, _ = await limited.run(many(8, schema=schema, repair=9), 100_000, slots=4)

    assert ending is Ending.COST_LIMIT
    assert 80_000 < paid(simulator) <= 100_000
    assert simulator.log.requests > 4, "some were asked again"


async def test_what_a_function_asks_is_held_for(
    limited: Limited, start_worker: StartWorker, simulator: Simulator, claude: ClaudeHandler
) -> None:
    async def asks(run: Run) -> Outcome:
        part = Run(run.task, purse=run.purse)
        for _ in range(3):
            await claude(part)
        run.usage, run.cost_micro = part.usage, part.cost_micro
        return Outcome(text="asked")

    await start_worker({"asks": asks}, slots=2)
    simulator.set_mode({"usage": {"input_tokens": 100, "output_tokens": 500}})
    ending, job = await limited.run(many(30, kind="asks"), 60_000, slots=2)

    assert ending is Ending.COST_LIMIT
    assert 40_000 < paid(simulator) <= 60_000
    assert job.tally.done >= 1


async def test_an_answer_without_a_price_counts_at_its_most(
    limited: Limited, start_worker: StartWorker, simulator: Simulator, claude: ClaudeHandler
) -> None:
    await start_worker({"claude": claude}, slots=10)
    events = [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "role": "assistant",
                "model": "claude-nova-9",
                "content": [],
                "usage": {"input_tokens": 100, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 9},
        },
        {"type": "message_stop"},
    ]
    simulator.set_mode({"raw": {"pieces": events}})
    ending, job = await limited.run(many(30), 50_000)

    assert ending is Ending.COST_LIMIT
    assert job.tally.cost_micro == 0
    assert job.tally.unpriced == {"claude-nova-9"}
    assert 36_000 < job.tally.unknown_micro <= 50_000
    assert job.tally.done == 4, "each counts at the 0.012 dollars that it may have cost"


@pytest.mark.parametrize("fault", ["drop_mid", "reset"])
async def test_what_broke_off_counts(
    limited: Limited,
    start_worker: StartWorker,
    simulator: Simulator,
    claude: ClaudeHandler,
    fault: str,
    tmp_path: Path,
) -> None:
    await start_worker({"claude": claude}, slots=10)
    simulator.set_mode({"fault": fault, "text": "word " * 400, "usage": {"input_tokens": 500}})
    ending, _ = await limited.run(many(30, max_attempts=2), 60_000)

    assert ending is Ending.COST_LIMIT
    requests = simulator.log.requests
    # Of an answer that nobody heard it counts what it may have cost at most; of a part, that part.
    assert requests <= (5 if fault == "reset" else 60)
    assert paid(simulator) <= 60_000
    # What was asked is in the results, with what was heard of it.
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert sum(row["attempts"] for row in rows) == requests
    assert fault == "reset" or round(sum(row["cost_usd"] * 1e6 for row in rows)) > 30_000

    simulator.set_mode({})
    done, job = await limited.run(many(30, max_attempts=2), 5_000_000)
    assert (done, job.tally.done) == (Ending.DONE, 30)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [*range(1, 31)]
    assert "withdrawn" not in {json.loads(line).get("reason") for line in lines}


async def test_what_the_api_refuses_costs_nothing(
    limited: Limited, start_worker: StartWorker, simulator: Simulator, claude: ClaudeHandler
) -> None:
    await start_worker({"claude": claude}, slots=4)
    simulator.set_mode({"status": 413})
    ending, job = await limited.run(many(30), 30_000)

    assert (ending, job.tally.failed, job.tally.unknown_micro) == (Ending.DONE, 30, 0)


async def test_a_budget_of_a_queue_lets_tasks_wait_until_it_is_raised(
    start_worker: StartWorker, simulator: Simulator, claude: ClaudeHandler, observer: Observer
) -> None:
    board = bucket.Board(observer.js)
    key = budgets.key("queue.default")
    await board.change(key, lambda _: budgets.encode(Budget(limit=15_000)))
    worker = await start_worker({"claude": claude}, slots=4)
    simulator.set_mode({"usage": {"input_tokens": 100, "output_tokens": 500}})
    for at in range(3):
        await observer.submit({"prompt": "A", "max_tokens": 1_000, "id": f"t{at}"})
    await until(lambda: simulator.log.requests == 1 and worker.gate_held == 2)

    await board.change(key, lambda _: budgets.encode(Budget(limit=90_000, spent=5_200)))
    for at in range(3):
        assert (await observer.ended(f"t{at}")).state == State.SUCCEEDED
    assert simulator.log.requests == 3


async def test_a_budget_may_let_tasks_fail(
    start_worker: StartWorker, simulator: Simulator, claude: ClaudeHandler, observer: Observer
) -> None:
    board = bucket.Board(observer.js)
    poor = Budget(limit=10, on_limit=OnLimit.FAIL)
    await board.change(budgets.key("label.team.docs"), lambda _: budgets.encode(poor))
    await start_worker({"claude": claude})
    await observer.submit({"prompt": "A", "labels": {"team": "docs"}, "id": "docs"})
    await observer.submit({"prompt": "A", "labels": {"team": "else"}, "id": "else"})

    ended = await observer.ended("docs")
    assert (ended.state, ended.reason) == (State.FAILED, "budget")
    assert ended.error is not None
    assert "the budget label.team.docs has no room" in ended.error.message
    assert (await observer.ended("else")).state == State.SUCCEEDED
    assert simulator.log.requests == 1


async def test_a_model_without_a_price_fails_where_a_budget_limits_it(
    start_worker: StartWorker, simulator: Simulator, claude: ClaudeHandler, observer: Observer
) -> None:
    board = bucket.Board(observer.js)
    await board.change(budgets.key("all"), lambda _: budgets.encode(Budget(limit=10**6)))
    await start_worker({"claude": claude})
    await observer.submit({"prompt": "A", "model": "claude-nova-9", "id": "nova"})

    ended = await observer.ended("nova")
    assert (ended.state, ended.reason) == (State.FAILED, "unpriced")
    assert simulator.log.requests == 0
