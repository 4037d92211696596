"""`agentflow run`, as a process, on a stack of its own: a whole job, and every way to break it off.

What it may not do twice is read from the task logs in the store, once all processes have ended.
"""

from __future__ import annotations

import asyncio
import csv
import json
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentflow.audit import verify
from agentflow.audit.evidence import Submission
from agentflow.audit.trail import Kind
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.local.store import running
from agentflow.protocol import subjects
from tests.support import checker
from tests.support.jobs import Home
from tests.support.tools import ROOT
from tests.support.until import until

TASKS = [{"prompt": f"Task {number}", "id": f"t{number}"} for number in range(12)]
RUN = ("run", "tasks.jsonl", "--simulate", "--workers", "1", "--concurrency", "4")


@pytest.fixture(name="home")
async def _home(tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(tmp_path)
    yield home
    assert home.end() == [], "a process was left behind"


def ids(lines: list[dict[str, Any]]) -> list[str]:
    return [line["id"] for line in lines]


async def check_logs(home: Home, before: list[dict[str, Any]], *, twice: int) -> None:
    """Every task has ended once; those in `before` were left alone, and `twice` may have begun a
    second time at most."""
    async with home.streams() as js:
        logs = await checker.logs(js)
        ledger = [Submission(task["id"], state="succeeded") for task in TASKS]
        report = await verify(js, ledger=ledger, complete=True)
    # What was submitted again leaves no trace but in the log of its worker.
    assert [each for each in report.findings if each.kind != Kind.UNPROVED] == []
    for log in logs.values():
        assert [entry.state for entry in log].count("succeeded") == 1
    for line in before:
        records = [entry.record for entry in logs[line["id"]] if entry.record is not None]
        assert [record.state for record in records] == ["running", "succeeded"]
        assert records[-1].attempt == line["attempts"] == 1
    starts = sum(entry.state == "running" for log in logs.values() for entry in log)
    # On a busy machine a task may outlast the grace period: it is handed back, and runs anew.
    handed_back = sum(entry.state == "queued" for log in logs.values() for entry in log)
    assert starts <= len(TASKS) + twice + handed_back


async def test_the_examples(home: Home) -> None:
    file = str(ROOT / "examples" / "prompts.jsonl")
    tasks = [json.loads(line) for line in Path(file).read_text().splitlines()]
    done = await home.command("run", file, "--simulate", "--concurrency", "40")

    assert done.code == 0, done.err
    assert "SIMULATED run: no answer is real, nothing was paid" in done.out
    first, *progress = done.err.splitlines()
    assert first == f"{file}: {len(tasks)} tasks, read as JSON lines"
    *progress, last = progress
    assert progress.pop(0) == "results go to prompts.results.jsonl"
    assert progress.pop(0).startswith("starting workers: ")
    # One is answered 529, so on a slow machine the others may be seen to wait.
    others = [line for line in progress if not line.startswith("SIMULATED ")]
    told = (" wait: ", " is open again")
    assert [line for line in others if not any(each in line for each in told)] == []
    assert last.startswith("To ask again where the answer is none: agentflow run")
    assert last.endswith("--again cut")
    assert f"/{len(tasks)} done, 0 failed, " in done.err
    results = {line["line"]: line for line in home.results("prompts.results.jsonl")}
    assert list(results) == [number for number, _ in enumerate(tasks, 1)]
    for number, task in enumerate(tasks, 1):
        line = results[number]
        assert (line["state"], line["error"]) == ("succeeded", None)
        assert line["text"].startswith("[SIMULATED]")
        assert line["simulated"] is True
        assert line["attempts"] == (2 if "[meets-529]" in task["prompt"] else 1)
        assert line["cost_usd"] > 0
        assert line["usage"]["output_tokens"] > 0
        assert line["timings"]["submitted"] < line["timings"]["started"] < line["timings"]["ended"]
    assert {line["stop_reason"] for line in results.values()} >= {"end_turn", "max_tokens"}
    assert home.processes() == []


async def test_after_ctrl_c_it_goes_on_where_it_was(home: Home) -> None:
    home.tasks(TASKS)
    program = home.start(*RUN)
    await home.until_results(3)
    program.signal(signal.SIGINT)
    first = await program.done()
    before = home.results()

    assert first.code == 130
    assert home.processes() == []
    assert 3 <= len(before) < len(TASKS)
    assert "stopping; running tasks have 10 s (Ctrl-C again to hurry)" in first.err
    left = len(TASKS) - len(before)
    assert f"Interrupted with {left} of {len(TASKS)} tasks left. Run the same" in first.err

    second = await home.command(*RUN, "--json")
    assert second.code == 0, second.err
    assert json.loads(second.out)["had_results_before"] == len(before)
    assert ids(home.results()) == [task["id"] for task in TASKS], "once each, in input order"
    assert [line for line in home.results() if line in before] == sorted(
        before, key=lambda line: line["line"]
    ), "as they were"
    await check_logs(home, before, twice=0)


async def parked(home: Home, *states: str) -> None:
    """Return once the log of each task `later...` has these states, while the job runs."""
    await until(lambda: running(home.store) is not None and home.results())
    stack = running(home.store)
    assert stack is not None
    async with await Connection.open(Connect(urls=(stack.url,)), "test") as connection:
        while True:
            logs = await checker.logs(JetStream(connection))
            told = {name: [str(entry.state) for entry in log] for name, log in logs.items()}
            found = [told.get(f"later{n}") for n in range(3)]
            if all(one == list(states) for one in found):
                return
            await asyncio.sleep(0.05)


async def test_ctrl_c_withdraws_what_is_parked_and_the_same_job_goes_on(home: Home) -> None:
    instant = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    later = [{"id": f"later{n}", "prompt": "x", "not_before": instant} for n in range(3)]
    home.tasks([{"id": "now", "prompt": "x", "kind": "echo"}, *later])
    states = ["scheduled"]
    for _ in range(2):  # the second time it goes on with what was withdrawn
        program = home.start(*RUN)
        await parked(home, *states)
        program.signal(signal.SIGINT)
        done = await program.done()
        assert (done.code, "Interrupted with 3 of 4 tasks left" in done.err) == (130, True)
        states += ["failed", "scheduled"]

    assert ids(home.results()) == ["now"], "what was withdrawn is no result"
    async with home.streams() as js:
        assert (await js.stream_info(subjects.SCHEDULE))["state"]["messages"] == 0
        assert (await js.stream_info(subjects.TASKS))["state"]["messages"] == 0
        logs = await checker.logs(js)
        for name in ("later0", "later1", "later2"):
            assert [str(entry.state) for entry in logs[name]] == [*states[:-1]]
            record = logs[name][-1].record
            assert record is not None
            assert record.reason == "withdrawn"
            assert await js.last(subjects.DEAD, subjects.dead("*", name)) is not None


async def test_after_kill_9_it_goes_on_where_it_was(home: Home) -> None:
    home.tasks(TASKS)
    program = home.start(*RUN, "--workers", "2", "--concurrency", "2")
    await home.until_results(3)
    program.signal(signal.SIGKILL)
    await program.done()
    before = home.results()
    assert home.processes("nats-server"), "it outlives who started it"

    program = home.start(*RUN)
    await home.until_results(len(before) + 1)
    assert len(home.processes("nats-server")) == 1, "never two servers on a store"
    second = await program.done()

    assert second.code == 0, second.err
    assert sorted(ids(home.results())) == sorted(task["id"] for task in TASKS)
    await check_logs(home, before, twice=4)


async def test_ctrl_c_while_it_starts(home: Home) -> None:
    home.tasks(TASKS)
    program = home.start(*RUN)
    await until((home.store / "nats.conf").exists)
    program.signal(signal.SIGINT)
    done = await program.done()

    assert done.code == 130
    assert home.processes() == []
    assert home.results() == []


async def test_a_second_ctrl_c_hands_back_what_runs(home: Home) -> None:
    home.tasks([{"kind": "sleep", "params": {"seconds": 600}, "id": "sleeper"}])
    program = home.start(*RUN)
    assert program.process.stderr is not None
    while b"1 running" not in (line := program.process.stderr.readline()):
        assert line
    program.signal(signal.SIGINT)
    assert program.process.stderr.readline().startswith(b"stopping")
    program.signal(signal.SIGINT)
    done = await program.done()

    assert done.code == 130
    assert home.processes() == []
    async with home.streams() as js:
        log = (await checker.logs(js))["sleeper"]
        letter = await js.last(subjects.DEAD, subjects.dead("*", "sleeper"))
    assert [entry.state for entry in log] == ["running", "queued", "failed"]
    assert log[-1].record is not None
    assert log[-1].record.reason == "withdrawn"
    assert log[-1].record.attempt == 0, "the attempt does not count"
    assert letter is not None
    assert home.results() == [], "what is withdrawn has no result"


async def test_when_the_stack_that_it_used_ends_it_starts_its_own(home: Home) -> None:
    home.tasks(TASKS)
    stack = await home.up("--workers", "1", "--concurrency", "2", "--latency", "0.5")
    program = home.start(*RUN)
    before = await home.until_results(3)
    assert len(home.asked()) < len(TASKS)
    stack.signal(signal.SIGTERM)
    assert (await stack.done()).code == 0
    done = await program.done()

    assert done.code == 0, done.err
    assert "the stack that this job used has ended; looking for another" in done.err
    assert running(home.store) is None
    assert sorted(ids(home.results())) == sorted(task["id"] for task in TASKS)
    await check_logs(home, before, twice=0)


async def test_two_jobs_at_once_share_a_stack(home: Home) -> None:
    for name in ("a", "b"):
        home.tasks([{"prompt": f"{name} {number}"} for number in range(3)], f"{name}.jsonl")
    jobs = [
        home.start("run", f"{name}.jsonl", "--simulate", "--out", f"{name}.out", "--workers", "1")
        for name in ("a", "b")
    ]
    ended = [await job.done() for job in jobs]

    assert [done.code for done in ended] == [0, 0], ended
    assert (len(home.results("a.out")), len(home.results("b.out"))) == (3, 3)


async def test_a_table_broken_off_twice_has_every_row_once_and_in_order(home: Home) -> None:
    rows = "".join(f"r{number},Text {number}\n" for number in range(24))
    (home.folder / "rows.csv").write_text("name,text\n" + rows)
    job = ("run", "rows.csv", "--prompt", "Say {text}", "-o", "out.csv", "--simulate")
    journal = "out.csv.jsonl"
    program = home.start(*job, "--workers", "1", "--concurrency", "4")
    await until(lambda: len(home.results(journal)) >= 3)
    program.signal(signal.SIGINT)
    assert (await program.done()).code == 130
    before = len(home.results(journal))
    assert len((home.folder / "out.csv").read_text().splitlines()) == before + 1

    program = home.start(*job, "--workers", "1", "--concurrency", "4")
    await until(lambda: len(home.results(journal)) >= before + 3)
    program.signal(signal.SIGKILL)
    await program.done()
    done = await home.command(*job, "--workers", "1", "--concurrency", "8", "--json")

    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert summary["had_results_before"] >= before + 3
    with (home.folder / "out.csv").open(newline="") as file:
        out = list(csv.DictReader(file))
    assert [row["name"] for row in out] == [f"r{number}" for number in range(24)]
    assert {row["state"] for row in out} == {"succeeded"}
    assert sum(float(row["cost_usd"]) for row in out) == pytest.approx(summary["cost_usd"])


async def test_what_a_killed_worker_held_counts_and_the_limit_holds(home: Home) -> None:
    file = home.tasks({"prompt": f"K{number}", "max_tokens": 500} for number in range(40))
    job = ("run", file, "--simulate", "--json", "-c", "2")
    program = home.start(*job, "--max-cost", "0.06")
    await until(lambda: running(home.store) is not None and len(home.asked()) >= 1)
    home.simulator("mode", {"latency": 20.0})
    # Both workers hold for two requests, and no answer comes before one of them is dead.
    await until(lambda: home.simulator("stats")["in_flight"] == 4)
    home.processes(" worker ")[0].kill()
    usage = {"input_tokens": 500, "output_tokens": 400}  # half a cent
    home.simulator("mode", {"latency": 0.1, "usage": usage})
    stopped = await program.done()

    assert stopped.code == 4, stopped.err
    figures = json.loads(stopped.out)
    lost = figures["held_for_unknown_usd"]
    assert 0.007 < lost < 0.015, "two requests of at most 0.7 cents, which nobody heard the end of"
    assert 0.05 < figures["cost_usd"] + lost <= 0.06
    assert f"${lost:.4f} count for requests whose cost is not known" in stopped.err
    done = await home.command(*job, "--max-cost", "1")
    assert (done.code, len(home.results())) == (0, 40)
