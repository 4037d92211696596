"""A job whose lines go half live and half through batches, broken off twice: each line is once in
the results, each answer was paid once, and the cost is what the simulated API counted.

`make faults` runs it with 5,000 lines.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.jobs import Home, Program

QUICK = '{"gather": 0.5, "look": 0.1, "poll": 0.2, "flush": 0.05}'
MODEL = "claude-sonnet-5-5"
INPUT_MICRO, OUTPUT_MICRO = 2, 10
"""What a token of the model costs live, in micro-dollars; half of it is a whole number too."""


@pytest.fixture(name="home")
async def _home(tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(tmp_path)
    home.environment["AGENTFLOW_BATCHES"] = QUICK
    yield home
    home.end()


def start(home: Home) -> Program:
    return home.start("run", "rows.jsonl", "--model", MODEL, "--simulate", "--json")


async def until(home: Home, program: Program, count: int) -> None:
    """Return when so many lines have a result."""
    while len(home.results("rows.results.jsonl")) < count:
        assert program.process.poll() is None, (await program.done()).err
        await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(200, marks=pytest.mark.long("five processes, one after the other")),
        pytest.param(5_000, marks=[pytest.mark.long("a minute"), pytest.mark.timeout(600)]),
    ],
)
async def test_each_line_is_there_once_and_costs_what_was_counted(home: Home, rows: int) -> None:
    stack = await home.up("--workers", "2", "-c", "20", "--latency", "0.05")
    home.simulator("mode", {"batches": {"processing": 1.0, "cut": 0.2, "errored": 0.01}, "seed": 3})
    lines = [{"prompt": f"P{at}", "max_tokens": 64, "batch": at % 2 == 0} for at in range(rows)]
    (home.folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    for share in (0.2, 0.6):
        program = start(home)
        await until(home, program, int(share * rows))
        program.signal(signal.SIGINT)
        assert (await program.done()).code == 130
    done = await start(home).done()
    assert done.code == 0, done.err

    results = home.results("rows.results.jsonl")
    assert [line["line"] for line in results] == list(range(1, rows + 1))
    assert {line["state"] for line in results} == {"succeeded"}
    batched = [line for line in results if line["request_id"].startswith("msgbatch_")]
    assert Counter(line["line"] % 2 for line in batched) == {1: (rows + 1) // 2}

    live, bought = home.simulator("stats"), home.simulator("batches")
    assert set(bought["paid"].values()) == {1}
    assert len(bought["paid"]) == len(batched)
    micro = INPUT_MICRO * live["input_tokens"] + OUTPUT_MICRO * live["output_tokens"]
    half = INPUT_MICRO * bought["input_tokens"] + OUTPUT_MICRO * bought["output_tokens"]
    cost = sum(line["cost_usd"] for line in results)
    assert round(cost * 1e6) == micro + half // 2
    told = json.loads(done.out)
    assert told["cost_usd"] == pytest.approx(cost)
    assert told["saved_usd"] == pytest.approx(half / 2 / 1e6)
    stack.signal(signal.SIGTERM)
    await stack.done()
