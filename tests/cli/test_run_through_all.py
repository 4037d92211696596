"""A job of a user's day: a CSV with a schema under limits, interrupted twice, through an outage and
a refused key that is mended meanwhile; some answers break the schema. Every row is once in the
results, in the order of the input, and what they cost is what the API counted.

`make faults` runs it with 5,000 rows.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.jobs import Home, Program

SCHEMA: Final = {
    "type": "object",
    "properties": {"stars": {"type": "integer", "minimum": 1}, "word": {"enum": ["good", "bad"]}},
    "required": ["stars", "word"],
}
MODEL: Final = "claude-haiku-4-5"
INPUT_MICRO, OUTPUT_MICRO = 1.0, 5.0
"""What a token of the model costs, in micro-dollars."""


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    found = Home(tmp_path)
    yield found
    found.end()


class Day:
    """The job, and what happens to it."""

    def __init__(self, home: Home, rows: int) -> None:
        self._home = home
        self._rows = rows
        lines = "".join(f"page {number},{number}\n" for number in range(rows))
        (home.folder / "pages.csv").write_text(f"text,shelf\n{lines}")
        (home.folder / "rated.json").write_text(json.dumps(SCHEMA))
        self._mode: dict[str, Any] = {
            "breaking": 0.01,
            "seed": 3,
            "limits": {"requests": 3_000, "burst": 2.0},
        }

    def answers(self, **knobs: Any) -> None:
        """What the API does from here on."""
        self._home.simulator("mode", {**self._mode, **knobs})

    def start(self) -> Program:
        return self._home.start(
            *("run", "pages.csv", "--prompt", "Rate: {text}", "--schema", "rated.json"),
            *("--model", MODEL, "--max-tokens", "64", "--simulate", "--json"),
        )

    async def until(self, program: Program, share: float) -> None:
        """Return when this share of the rows has a result."""
        while len(self.results()) < share * self._rows:
            assert program.process.poll() is None, (await program.done()).err
            await asyncio.sleep(0.05)

    def results(self) -> list[dict[str, Any]]:
        return self._home.results("pages.results.jsonl")

    async def waits(self, program: Program) -> None:
        """Return when nothing has come for a while: all of it waits."""
        before = -1
        while before != (before := len(self.results())):
            assert program.process.poll() is None, (await program.done()).err
            await asyncio.sleep(1.5)

    def paid_micro(self) -> float:
        """By the count of the API itself."""
        stats = self._home.simulator("stats")
        paid: float = INPUT_MICRO * stats["input_tokens"] + OUTPUT_MICRO * stats["output_tokens"]
        return paid


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "rows",
    [200, pytest.param(5_000, marks=[pytest.mark.long("two minutes"), pytest.mark.timeout(900)])],
)
async def test_every_row_is_there_once_and_costs_what_was_counted(home: Home, rows: int) -> None:
    stack = await home.up("--workers", "2", "-c", "20", "--latency", "0.05")
    day = Day(home, rows)
    day.answers()

    program = day.start()
    await day.until(program, 0.1)
    program.signal(signal.SIGINT)
    assert (await program.done()).code == 130

    program = day.start()
    await day.until(program, 0.3)
    day.answers(status=529)  # the service is overloaded
    await day.waits(program)
    day.answers()
    await day.until(program, 0.5)
    program.signal(signal.SIGINT)
    assert (await program.done()).code == 130

    program = day.start()
    await day.until(program, 0.7)
    day.answers(status=401, error_type="authentication_error")
    await day.waits(program)
    day.answers()  # somebody has mended the key
    resumed = await home.command("resume", "--all")
    assert resumed.code in (0, 1), resumed.err
    done = await program.done()

    assert done.code == 0, done.err
    results = day.results()
    assert [line["line"] for line in results] == list(range(2, rows + 2))
    assert [line["input"]["shelf"] for line in results] == [str(n) for n in range(rows)]
    assert all(line["state"] == "succeeded" and line["value"]["stars"] >= 1 for line in results)
    cost = sum(line["cost_usd"] for line in results)
    assert cost == pytest.approx(day.paid_micro() / 1e6, rel=1e-9)
    told = json.loads(done.out)
    assert told["cost_usd"] == pytest.approx(cost)
    assert told["repaired"] >= 1
    stack.signal(signal.SIGTERM)
    await stack.done()
