"""`agentflow run` as one job among others: nothing of one is run or paid by another, a job that
cannot go on says so and ends, and answers that are none are told.
"""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentflow.local.store import running
from agentflow.protocol import subjects
from tests.support import checker
from tests.support.jobs import Home, Program
from tests.support.until import until

SIMULATED = ("--simulate", "--workers", "1")


@pytest.fixture(name="home")
async def _home(tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(tmp_path)
    yield home
    assert home.end() == [], "a process was left behind"


def prompts(home: Home, name: str, count: int) -> str:
    return home.tasks([{"prompt": f"{name} {at}"} for at in range(count)], f"{name}.jsonl")


async def begun(home: Home, name: str, count: int, *options: str) -> Program:
    """A job of which so many tasks have ended."""
    program = home.start("run", prompts(home, name, 40), *SIMULATED, "-c", "3", *options)
    await until(lambda: len(home.results(f"{name}.results.jsonl")) >= count)
    return program


async def asked_of(home: Home, name: str) -> int:
    """How many attempts the store's logs have of a job's tasks."""
    async with home.streams() as js:
        logs = await checker.logs(js)
    starts = 0
    for log in logs.values():
        for entry in log:
            job = entry.record.labels.get("job", "") if entry.record else ""
            starts += entry.state == "running" and job.startswith(f"{name}-")
    return starts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_what_a_job_leaves_another_neither_runs_nor_pays(
    home: Home, number: signal.Signals
) -> None:
    program = await begun(home, "old", 3)
    program.signal(number)
    await program.done()
    await until(lambda: not home.processes(" worker"))
    before = await asked_of(home, "old")

    new = await home.command("run", prompts(home, "new", 2), *SIMULATED)
    assert new.code == 0, new.err
    assert await asked_of(home, "old") == before
    async with home.streams() as js:
        left = (await js.stream_info(subjects.TASKS))["state"]["messages"]
    assert (left == 0) == (number == signal.SIGINT), "withdrawn, or out of everybody's reach"

    again = await home.command("run", "old.jsonl", *SIMULATED, "-c", "20")
    assert again.code == 0, again.err
    results = home.results("old.results.jsonl")
    assert [line["line"] for line in results] == list(range(1, 41))
    assert await asked_of(home, "old") <= 40 + 3, "what had ended was not asked again"


async def test_after_kill_9_a_stack_runs_nothing_of_the_job_before_the_job_is_run(
    home: Home,
) -> None:
    program = await begun(home, "old", 3)
    program.signal(signal.SIGKILL)
    await program.done()
    await until(lambda: not home.processes(" worker"))
    before = await asked_of(home, "old")
    stack = await home.up("--workers", "1", "--latency", "0.1")
    task = await home.command("submit", "--kind", "echo", "--wait", "hello")
    assert task.code == 0, task.err
    jobs = await home.command("jobs", "--json")
    assert json.loads(jobs.out)["file"] == "old.jsonl"

    again = await home.command("run", "old.jsonl", *SIMULATED)
    assert again.code == 0, again.err
    assert "its workers run the tasks, in queue default; no effect here: --workers" in again.err
    assert len(home.results("old.results.jsonl")) == 40
    stack.signal(signal.SIGTERM)
    await stack.done()
    assert await asked_of(home, "old") <= 40 + before


async def test_what_a_killed_job_left_in_a_shared_queue_is_named_and_can_be_withdrawn(
    home: Home,
) -> None:
    stack = await home.up("--workers", "1", "-c", "1", "--latency", "0.5")
    program = home.start("run", prompts(home, "old", 40), "--simulate")
    await until(lambda: len(home.results("old.results.jsonl")) >= 1)
    program.signal(signal.SIGKILL)
    await program.done()
    job = json.loads((await home.command("jobs", "--json")).out)["id"]
    assert job.startswith("old-")
    new = home.start("run", prompts(home, "new", 1), "--simulate")
    await new.says(f"of job {job} too (old.jsonl, by ")
    withdrawn = await home.command("withdraw", job, "--json")
    assert json.loads(withdrawn.out)["withdrawn"] > 10
    before = len([prompt for prompt in home.asked() if prompt.startswith("old")])
    done = await new.done()
    assert done.code == 0, done.err
    assert f"To take back what waits: agentflow withdraw {job}" in done.err
    after = len([prompt for prompt in home.asked() if prompt.startswith("old")])
    assert after <= before + 1, "what ran at that moment"
    stack.signal(signal.SIGTERM)
    await stack.done()


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(None, marks=pytest.mark.long("a calmer end than the next")),
        signal.SIGINT,
        pytest.param(signal.SIGKILL, marks=pytest.mark.long("the one above, with fewer words")),
    ],
)
async def test_a_job_beside_another_outlives_it(home: Home, number: signal.Signals | None) -> None:
    first = await begun(home, "first", 1) if number else await begun(home, "first", 25)
    owner = running(home.store)
    assert owner is not None
    second = home.start("run", prompts(home, "second", 16), *SIMULATED, "-c", "4")
    await until(lambda: len(home.results("second.results.jsonl")) >= 1)
    if number is not None:
        first.signal(number)
    ended = await first.done()
    done = await second.done()

    assert ended.code == {None: 0, signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    assert done.code == 0, done.err
    assert "this job brings its own" in done.err
    assert len(home.results("second.results.jsonl")) == 16
    # What is cut off in the middle of an answer may be asked again; what has ended is not.
    assert await asked_of(home, "second") <= 16 + 4
    await until(lambda: not home.processes())


async def test_a_refused_key_ends_the_job_with_what_to_do_and_it_goes_on(home: Home) -> None:
    stack = await home.up("--workers", "1", "--latency", "0.05")
    home.simulator("mode", {"status": 401, "error_type": "authentication_error"})
    file = prompts(home, "rows", 8)
    done = await home.command("run", file, "--simulate", "--give-up", "3s")

    assert done.code == 5, done.err
    assert " wait: key refused" in done.err, done.err
    assert "agentflow: Gave up with 8 of 8 tasks left: 8 wait: key refused" in done.err
    assert "run the same command again" in done.err
    row = json.loads((await home.command("jobs", "--json")).out)
    assert (row["state"], row["done"], row["lines"]) == ("gave_up", 0, 8)

    home.simulator("mode", {})
    await home.command("resume", "--all")
    again = await home.command("run", file, "--simulate", "--give-up", "30s")
    assert again.code == 0, again.err
    assert len(home.results("rows.results.jsonl")) == 8
    stack.signal(signal.SIGTERM)
    await stack.done()


async def test_answers_that_are_none_are_told_and_asked_again(home: Home) -> None:
    file = home.tasks([{"prompt": "long", "max_tokens": 1, "id": "a"}, {"prompt": "x", "id": "b"}])
    done = await home.command("run", file, *SIMULATED, "--strict")
    assert done.code == 6, done.err
    assert "cut before their end" in done.out
    assert f"run {file} --simulate --workers 1 --strict --again cut" in done.err
    first = home.results()

    again = await home.command("run", file, *SIMULATED, "--again", "cut,empty")
    assert again.code == 0, again.err
    second = home.results()
    assert second[1] == first[1], "only those that are named"
    assert (second[0]["id"], second[0]["take"], second[0]["line"]) == ("a", 2, 1)
    assert second[0]["request_id"] != first[0]["request_id"]


async def test_a_job_is_listed_and_its_results_are_written_again(home: Home) -> None:
    (home.folder / "rows.csv").write_text("text,note\n" + "".join(f"{n},{n}\n" for n in "abcde"))
    done = await home.command("run", "rows.csv", "--prompt", "Rate {text}", *SIMULATED, "--json")
    job = json.loads(done.out)["job"]
    before = home.results("rows.results.jsonl")
    (home.folder / "rows.results.jsonl").unlink()

    listed = await home.command("jobs")
    assert job in listed.out
    assert "5/5 (100%)" in listed.out
    written = await home.command("results", job[:6])
    lines = [json.loads(line) for line in written.out.splitlines()]
    assert [(one["line"], one["text"], one["input"]) for one in lines] == [
        (one["line"], one["text"], one["input"]) for one in before
    ]
    assert lines[0]["input"] == {"note": "a"}
    table = await home.command("results", job, "-o", "again.csv")
    assert table.code == 0, table.err
    rows = (home.folder / "again.csv").read_text().splitlines()
    assert (len(rows), rows[0].endswith(",note"), rows[5].endswith(",e")) == (6, True, True)
    unknown = await home.command("results", "nothing")
    assert (unknown.code, unknown.err) == (
        2,
        "agentflow: there is no job 'nothing'; `agentflow jobs` lists them\n",
    )


async def test_failures_come_with_their_messages_and_the_next_command(home: Home) -> None:
    late = {"kind": "sleep", "params": {"seconds": 60}, "timeout": 0.1, "max_attempts": 1}
    done = await home.command("run", home.tasks([late, late]), *SIMULATED)
    assert done.code == 1
    assert "2 x timeout: " in done.err
    assert "(lines 1, 2)" in done.err
    assert "To run what failed again: agentflow run tasks.jsonl" in done.err
