"""`agentflow run`, as a process, on a simulated stack that runs already: what it makes of its
input and options, and what its exit code says. test_run_interrupted.py has the rest."""

from __future__ import annotations

import json
import os
import pty
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.local.store import running
from tests.support.jobs import Home


@pytest.fixture(scope="module", name="stack")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with `up --simulate`."""
    import asyncio

    home = Home(tmp_path_factory.mktemp("stack"))
    program = asyncio.run(home.up("--workers", "1", "--latency", "0.05"))
    yield home
    program.signal(signal.SIGTERM)
    ended = asyncio.run(program.done())
    left = home.end()
    assert (ended.code, left) == (0, []), ended.err


@pytest.fixture(name="home")
async def _home(stack: Home, tmp_path: Path) -> AsyncIterator[Home]:
    """A folder of a test's own, and the stack's store."""
    home = Home(tmp_path)
    home.store = stack.store
    home.environment["AGENTFLOW_STORE"] = str(stack.store)
    home.simulator("reset", {})
    yield home
    assert home.end() == []


def summary(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)
    return found


class TestInput:
    async def test_lines_of_text(self, home: Home) -> None:
        (home.folder / "p.txt").write_bytes("one text\r\n\r\nGrüße\r\n".encode())
        done = await home.command("run", "p.txt", "--simulate", "--json")

        assert (done.code, done.err) == (0, "")
        assert summary(done.out)["succeeded"] == 2
        assert sorted(home.asked()) == ["Grüße", "one text"]
        assert [line["line"] for line in home.results("p.results.jsonl")] == [1, 3]

    async def test_standard_input(self, home: Home) -> None:
        lines = b'{"prompt": "an object", "id": "given"}\na text\n'
        done = await home.command("run", "-", "--simulate", "-o", "o.jsonl", stdin=lines)

        assert done.code == 0
        assert sorted(home.asked()) == ["a text", "an object"]
        assert "given" in [line["id"] for line in home.results("o.jsonl")]

    async def test_bad_lines_are_listed_and_nothing_is_started(self, home: Home) -> None:
        (home.folder / "t.jsonl").write_text('{"prompt": "fine"}\nno\n{"promt": "x"}\n')
        home.environment["AGENTFLOW_STORE"] = str(home.folder / "unused")
        done = await home.command("run", "t.jsonl", "--simulate")

        assert (done.code, done.out) == (2, "")
        assert "t.jsonl: 2 bad lines; nothing was submitted." in done.err
        assert "  line 2: " in done.err
        assert "  line 3: Object contains unknown field `promt`" in done.err
        assert os.listdir(home.folder) == ["t.jsonl"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["absent.jsonl"], "cannot read absent.jsonl: No such file or directory"),
            (["t.jsonl", "--out", "t.jsonl"], "t.jsonl is the input; name another file"),
            (["t.jsonl", "--queue", "No!"], "queue 'No!' is not allowed"),
            *(
                (["t.jsonl", "--max-cost", limit], f"'{limit}' is no amount of dollars above 0")
                for limit in ("0", "-1", "nan", "inf", "1e400", "", "5$", "0.0000001")
            ),
            (["t.jsonl", "--nats", "nats://127.0.0.1:1"], "the workers are those that run else"),
        ],
    )
    async def test_wrong_usage_is_one_sentence(
        self, home: Home, arguments: list[str], said: str
    ) -> None:
        home.tasks([{"prompt": "A"}], "t.jsonl")
        done = await home.command("run", *arguments, "--simulate")

        assert done.code == 2
        assert said in " ".join(done.err.split())
        assert "Traceback" not in done.err
        assert home.asked() == []

    async def test_without_a_key_it_names_simulate(self, home: Home) -> None:
        file = home.tasks([{"prompt": "A"}])
        done = await home.command("run", file, AGENTFLOW_STORE=str(home.folder / "own"))

        assert (done.code, done.out) == (3, "")
        assert "ANTHROPIC_API_KEY is not set" in done.err
        assert "--simulate" in done.err
        assert home.processes() == []

    async def test_a_real_job_does_not_use_a_simulated_stack(self, home: Home) -> None:
        done = await home.command("run", home.tasks([{"prompt": "A"}]))
        assert done.code == 2
        assert "a simulated stack runs on" in done.err

        info = running(home.store)
        assert info is not None
        done = await home.command("run", home.tasks([{"prompt": "A"}]), "--nats", info.url)
        assert done.code == 2
        assert "line 1: task" in done.err
        assert "got a simulated answer: a worker that serves queue default" in done.err


class TestResults:
    async def test_a_finished_job_is_finished(self, home: Home) -> None:
        file = home.tasks([{"prompt": "A1"}, {"prompt": "A1"}, {"prompt": "hello", "kind": "echo"}])
        first = await home.command("run", file, "--simulate", "--json")
        written = home.out.read_bytes()
        again = await home.command("run", file, "--simulate", "--json")

        assert (first.code, again.code) == (0, 0)
        assert home.asked() == ["A1", "A1"], "two tasks, as two lines are; and none twice"
        assert home.out.read_bytes() == written
        assert summary(again.out)["had_results_before"] == 3
        assert summary(again.out)["cost_usd"] == summary(first.out)["cost_usd"] > 0

        first_line, second_line, _ = written.splitlines(keepends=True)
        for lost, before in ((b"", 0), (first_line + second_line[:50], 1)):
            home.out.write_bytes(lost)
            done = await home.command("run", file, "--simulate", "--json")
            assert done.code == 0
            assert summary(done.out)["had_results_before"] == before
            assert len(home.results()) == 3, "what the file has lost, the server's log has"
            assert len(home.asked()) == 2

    async def test_only_failures_run_again_and_only_when_asked(self, home: Home) -> None:
        home.simulator("script", {"match": "[bad once]", "steps": [{"status": 400}]})
        tasks = [{"prompt": f"B{number}"} for number in range(3)] + [{"prompt": "B [bad once]"}]
        file = home.tasks(tasks)
        first = await home.command("run", file, "--simulate", "--json")
        asked = home.asked()

        assert first.code == 1
        assert (summary(first.out)["succeeded"], summary(first.out)["failed"]) == (3, 1)
        [failed] = [line for line in home.results() if line["state"] == "failed"]
        assert (failed["line"], failed["error"]["status"]) == (4, 400)
        assert len(asked) == 4

        again = await home.command("run", file, "--simulate", "--json")
        assert again.code == 1
        assert home.asked() == asked

        retried = await home.command("run", file, "--simulate", "--json", "--retry-failed")
        assert retried.code == 0
        assert home.asked() == [*asked, "B [bad once]"]
        assert summary(retried.out)["had_results_before"] == 3
        assert [line["line"] for line in home.results()] == [1, 2, 3, 4], "replaced, and in order"
        last = home.results()[-1]
        assert (last["id"], last["state"], last["attempts"]) == (failed["id"], "succeeded", 2)

    async def test_a_file_of_results_belongs_to_one_run(self, home: Home) -> None:
        file = home.tasks([{"prompt": "never answered"}])
        program = home.start("run", file, "--simulate", "--queue", "nobody")
        assert program.process.stderr is not None
        program.process.stderr.readline()  # it is under way
        done = await home.command("run", file, "--simulate")
        program.signal(signal.SIGINT)
        first = await program.done()

        assert done.code == 2
        assert "tasks.results.jsonl is being written by another run" in done.err
        assert first.code == 130


class TestLimit:
    async def test_the_limit_on_the_cost_stops_the_job_and_a_higher_one_continues_it(
        self, home: Home
    ) -> None:
        home.simulator("mode", {"usage": {"input_tokens": 500, "output_tokens": 400}})
        # Each costs half a cent, and may cost 0.7 cents.
        file = home.tasks({"prompt": f"C{number}", "max_tokens": 500} for number in range(30))
        job = ("run", file, "--simulate", "--json", "-c", "2", "--max-cost")
        stopped = await home.command(*job, "0.0245")
        asked = home.asked()

        assert stopped.code == 4
        assert summary(stopped.out)["succeeded"] == 4, "a fifth might cost more than is left"
        assert summary(stopped.out)["not_run"] == 26
        assert len(asked) == len(home.results()) == 4
        assert "with 26 tasks not asked: the job has cost $0.0200" in stopped.err
        assert "the next request may cost $0.00" in stopped.err

        still = await home.command(*job, "0.0245")
        assert (still.code, home.asked()) == (4, asked), "earlier runs count"

        done = await home.command(*job, "1")
        assert done.code == 0
        assert Counter(home.asked()) == Counter(f"C{number}" for number in range(30))
        assert summary(done.out)["cost_usd"] == pytest.approx(0.15)

    async def test_without_a_price_no_limit_can_hold(self, home: Home) -> None:
        tasks = [
            {"prompt": "D0"},
            *({"prompt": f"D{at}", "model": "claude-nova-9"} for at in (1, 2)),
        ]
        tasks.append({"prompt": "D3", "params": {"speed": "fast"}})
        job = ("run", home.tasks(tasks), "--simulate", "--json", "-c", "1")
        refused = await home.command(*job, "--max-cost", "100")
        assert refused.code == 2
        for line, what in ((2, "claude-nova-9"), (3, "claude-nova-9"), (4, "fast mode")):
            assert f"line {line}: --max-cost cannot hold: no price for {what}" in refused.err
        assert home.asked() == []

        assert (await home.command(*job)).code == 0


class TestDisplay:
    async def test_a_terminal_sees_a_bar_that_says_simulated(self, home: Home) -> None:
        master, slave = pty.openpty()
        home.environment["COLUMNS"] = "100"
        file = home.tasks({"prompt": f"E{number}"} for number in range(5))
        program = home.start("run", file, "--simulate", stderr=slave)
        os.close(slave)
        done = await program.done()
        shown = os.read(master, 100_000).decode()
        os.close(master)

        assert done.code == 0
        assert "SIMULATED" in shown
        assert "5 ok" in shown
        assert "SIMULATED run: no answer is real, nothing was paid" in done.out

    async def test_the_workers_of_a_simulated_stack_say_so(self, home: Home) -> None:
        done = await home.command("workers", "--json")
        shown = [json.loads(line) for line in done.out.splitlines()]
        assert [worker["simulated"] for worker in shown] == [True]

    async def test_a_queue_that_nobody_serves_is_named(self, home: Home) -> None:
        file = home.tasks([{"prompt": "F"}])
        program = home.start("run", file, "--simulate", "--json", "--queue", "other")
        assert program.process.stderr is not None
        line = program.process.stderr.readline().decode()
        program.signal(signal.SIGINT)
        done = await program.done()

        assert line.startswith("no worker serves the queue other; the job waits until one does")
        assert (done.code, summary(done.out)["not_run"]) == (130, 1)
        assert "Run the same command again to go on" in done.err
