"""Tasks that begin alike: one writes the prompt cache of the API, the others read it."""

from __future__ import annotations

import asyncio
from typing import Any

from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.handlers.contract import AttemptFailed, Run
from agentflow.simulator import Simulator
from tests.integration.claude.conftest import run_of

MARKED = {"type": "text", "text": "word " * 2_000, "cache_control": {"type": "ephemeral"}}


def runs(count: int) -> list[Run]:
    params = {"system": [MARKED]}
    return [run_of(prompt=f"Question {number}?", params=params) for number in range(count)]


async def ask(handler: ClaudeHandler, asked: list[Run]) -> list[Any]:
    async with asyncio.timeout(30):
        return await asyncio.gather(*map(handler, asked), return_exceptions=True)


async def test_all_but_the_first_read(handler: ClaudeHandler, simulator: Simulator) -> None:
    simulator.set_mode({"latency": 0.2, "ttft": 0.5})
    asked = runs(30)
    await ask(handler, asked)
    written = [run.usage.cache_creation_input_tokens for run in asked]
    read = [run.usage.cache_read_input_tokens for run in asked]
    assert sum(map(bool, written)) == 1
    assert sum(map(bool, read)) == 29
    assert max(read) == max(written) > 2_000
    dearest = max(run.cost_micro or 0 for run in asked)
    assert sum((run.cost_micro or 0) < dearest / 3 for run in asked) == 29


async def test_where_the_first_fails_the_next_goes_first(
    handler: ClaudeHandler, simulator: Simulator
) -> None:
    simulator.add_script([{"status": 529, "error_after": 0.05}])
    asked = runs(10)
    ends = await ask(handler, asked)
    assert [type(end) for end in ends].count(AttemptFailed) == 1
    assert sum(run.usage.cache_creation_input_tokens > 0 for run in asked) == 1
    assert sum(run.usage.cache_read_input_tokens > 0 for run in asked) == 8


async def test_where_the_first_is_cancelled_the_next_goes_first(
    handler: ClaudeHandler, simulator: Simulator
) -> None:
    simulator.set_mode({"latency": 60.0})
    asked = runs(3)
    works = [asyncio.ensure_future(handler(run)) for run in asked]
    await simulator.wait_for(lambda: simulator.log.in_flight == 1)
    simulator.set_mode({})
    works[0].cancel()
    async with asyncio.timeout(30):
        await asyncio.gather(*works[1:])
    assert sum(run.usage.cache_read_input_tokens > 0 for run in asked) == 1


async def test_what_marks_nothing_waits_for_nobody(
    handler: ClaudeHandler, simulator: Simulator
) -> None:
    simulator.set_mode({"latency": 60.0})
    works = [asyncio.ensure_future(handler(run_of(prompt=f"{at}", system="x"))) for at in range(3)]
    await simulator.wait_for(lambda: simulator.log.in_flight == 3)
    for work in works:
        work.cancel()
    await asyncio.gather(*works, return_exceptions=True)
