"""`agentflow run` and `submit` where an id, or a request, was asked before."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import Done, Home
from tests.support.until import until


@pytest.fixture(scope="module", name="stack")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with `up --simulate`."""
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


def file(home: Home, name: str, *lines: dict[str, Any]) -> str:
    """Tasks whose ids no other test has."""
    own = [{**line, "id": f"{home.folder.name}-{line['id']}"[-64:]} for line in lines]
    return home.tasks(own, name)


Q1 = {"id": "1", "prompt": "capital of France?"}
Q2 = {"id": "2", "prompt": "capital of Spain?"}


async def refused(home: Home, *arguments: str, told: str) -> Done:
    asked = home.asked()
    done = await home.command(*arguments)
    assert done.code == 2, done
    assert told in done.err, done.err
    assert "another request" in done.err
    assert home.asked() == asked, "nothing was sent"
    return done


@pytest.mark.parametrize(
    ("lines", "options", "told"),
    [
        ((Q1, Q2), ["--model", "claude-opus-4-6"], "model claude-haiku-4-5 then and claude-opus"),
        ((Q1, Q2), ["--system", "Be brief."], "a system now and none then"),
        ((Q1, Q2), ["--max-tokens", "7"], "max_tokens none then and 7 now"),
        ((Q1, Q2), ["--temperature", "0"], "a params now and none then"),
        ((Q1, {**Q2, "prompt": "2+2?"}), [], "line 2: the id"),
        ((Q1, {**Q2, "model": "claude-opus-4-6"}), [], "line 2: the id"),
        ((Q1, {**Q2, "system": "s"}), [], "line 2: the id"),
        ((Q1, {**Q2, "params": {"temperature": 1}}), [], "line 2: the id"),
        ((Q1, {**Q2, "kind": "echo"}), [], "line 2: the id"),
    ],
    ids=str,
)
async def test_the_ids_of_another_job_are_refused_with_what_differs(
    home: Home, lines: tuple[dict[str, Any], ...], options: list[str], told: str
) -> None:
    model = [] if "--model" in options else ["--model", "claude-haiku-4-5"]
    name = file(home, "q.jsonl", Q1, Q2)
    first = ("run", name, "--simulate", "--model", "claude-haiku-4-5", "-o", "first.jsonl")
    done = await home.command(*first)
    assert done.code == 0, done.err

    other = file(home, "r.jsonl", *lines)
    done = await refused(
        home, "run", other, "--simulate", *model, *options, "-o", "other.jsonl", told=told
    )
    assert "nothing was submitted" in done.err
    assert "Traceback" not in done.err
    assert home.results("other.jsonl") == []
    if lines[0] is Q1 and not options:
        assert "line 1:" not in done.err


async def test_the_same_requests_are_answered_from_before(home: Home) -> None:
    name = file(
        home,
        "q.jsonl",
        Q1,
        {**Q2, "params": {"stop_sequences": ["qqq"], "metadata": {"user_id": "u"}}},
    )
    assert (await home.command("run", name, "--simulate")).code == 0
    # Written otherwise, and run otherwise.
    again = file(
        home,
        "r.jsonl",
        {
            "params": {"metadata": {"user_id": "u"}, "stop_sequences": ["qqq"]},
            "timeout": 9,
            **Q2,
            "labels": {"a": "b"},
        },
        {"kind": "claude", **Q1, "max_attempts": 2},
    )
    asked = home.asked()
    done = await home.command("run", again, "--simulate")
    assert done.code == 0, done.err
    assert home.asked() == asked
    first = {line["id"]: line for line in home.results("q.results.jsonl")}
    second = {line["id"]: line for line in home.results("r.results.jsonl")}
    assert {name: line["text"] for name, line in first.items()} == {
        name: line["text"] for name, line in second.items()
    }
    paid = sum(line["cost_usd"] for line in first.values())
    assert f"2 answered from before, ${paid:,.4f} not paid" in done.out

    done = await home.command("run", again, "--simulate", "-o", "third.jsonl", "--json")
    told = json.loads(done.out)
    assert (told["answered_from_before"], told["succeeded"]) == (2, 2)
    assert told["not_paid_usd"] == pytest.approx(paid)


async def test_requests_without_ids_are_answered_from_before(home: Home) -> None:
    (home.folder / "a.txt").write_text(f"apple {home.folder}\npear {home.folder}\n")
    (home.folder / "b.txt").write_text(f"plum {home.folder}\npear {home.folder}\n")
    first = await home.command("run", "a.txt", "--simulate", "--json")
    assert json.loads(first.out)["answered_from_before"] == 0
    second = await home.command("run", "b.txt", "--simulate", "--json")
    told = json.loads(second.out)
    assert (told["answered_from_before"], told["had_results_before"]) == (1, 0)
    assert len(home.asked()) == 3
    again = await home.command("run", "b.txt", "--simulate", "--json")
    told = json.loads(again.out)
    assert (told["answered_from_before"], told["had_results_before"]) == (0, 2)


@pytest.mark.parametrize("how", ["csv", "json", "gz"])
async def test_ids_of_any_file_are_compared(home: Home, how: str) -> None:
    assert (await home.command("run", file(home, "q.jsonl", Q1), "--simulate")).code == 0
    row = {"id": f"{home.folder.name}-1"[-64:], "prompt": "Another?"}
    if how == "csv":
        (home.folder / "r.csv").write_text(f"id,prompt\n{row['id']},{row['prompt']}\n")
    elif how == "json":
        (home.folder / "r.json").write_text(json.dumps([row]))
    else:
        (home.folder / "r.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    name = {"csv": "r.csv", "json": "r.json", "gz": "r.jsonl.gz"}[how]
    await refused(home, "run", name, "--simulate", told="another prompt")
    await refused(home, "run", name, "--simulate", "-o", "-", told="another prompt")
    await refused(home, "submit", "--file", name, told="another prompt")


async def test_submit_refuses_the_id_of_another_request(home: Home) -> None:
    task_id = f"{home.folder.name}-s"[-64:]
    submit = ("submit", "--kind", "echo", "--id", task_id)
    done = await home.command(*submit, "--wait", "--", "one")
    assert (done.code, done.out.strip()) == (0, "one")
    await refused(home, *submit, "--", "two", told="another prompt")
    await refused(home, *submit, "--model", "m", "--", "one", told="model none then and m now")
    again = await home.command(*submit, "--wait", "--label", "a=b", "--", "one")
    assert (again.code, again.out.strip()) == (0, "one")
    rows = ({"id": "s", "prompt": "two", "kind": "echo"}, {"id": "new", "prompt": "x"})
    before = await home.command("get", f"{home.folder.name}-new"[-64:])
    await refused(home, "submit", "--file", file(home, "f.jsonl", *rows), told="line 1: the id")
    assert before.code == (await home.command("get", f"{home.folder.name}-new"[-64:])).code != 0


async def test_a_failed_line_may_be_corrected_and_tried_again(home: Home) -> None:
    home.simulator("script", {"match": "[bad]", "steps": [{"status": 400}]})
    bad = file(home, "q.jsonl", {"id": "1", "prompt": "[bad]"})
    assert (await home.command("run", bad, "--simulate", "-o", "a.jsonl")).code == 1
    good = file(home, "r.jsonl", {"id": "1", "prompt": "good"})
    await refused(home, "run", good, "--simulate", "-o", "b.jsonl", told="another prompt")
    done = await home.command("run", good, "--simulate", "-o", "b.jsonl", "--retry-failed")
    assert done.code == 0, done.err
    again = await home.command("run", good, "--simulate", "-o", "c.jsonl")
    assert again.code == 0, again.err
    assert home.results("c.jsonl")[0]["text"] == home.results("b.jsonl")[0]["text"]
    assert home.asked().count("good") == 1


# --fresh.


async def test_fresh_asks_anew_and_replaces(home: Home) -> None:
    texts = [f"{fruit} {home.folder}" for fruit in ("apple", "pear", "pear")]
    (home.folder / "a.txt").write_text("\n".join(texts))
    job = ("run", "a.txt", "--simulate", "--json")
    for count, options in enumerate(((), ("--fresh",), ("--fresh",)), 1):
        done = await home.command(*job, *options)
        assert done.code == 0, done.err
        told = json.loads(done.out)
        assert (told["succeeded"], told["answered_from_before"]) == (3, 0)
        assert sorted(home.asked()) == sorted(texts * count)
        lines = home.results("a.results.jsonl")
        assert [line["line"] for line in lines] == [1, 2, 3], "once each, in input order"
        assert len({line["id"] for line in lines}) == 3
    # Without it the results that are there are these tasks'.
    done = await home.command(*job)
    assert (done.code, json.loads(done.out)["had_results_before"]) == (0, 3)
    assert len(home.asked()) == 9
    # And without them it is an ordinary job again, answered from the log.
    (home.folder / "a.results.jsonl").unlink()
    done = await home.command(*job)
    assert json.loads(done.out)["answered_from_before"] == 3
    assert not (home.folder / "a.results.jsonl.fresh").exists()
    assert len(home.asked()) == 9


@pytest.mark.parametrize("options", [("--fresh",), ()], ids=["again with it", "without it"])
async def test_an_interrupted_fresh_run_pays_nothing_twice(
    home: Home, options: tuple[str, ...]
) -> None:
    texts = [f"{number} {home.folder}" for number in range(12)]
    (home.folder / "a.txt").write_text("\n".join(texts))
    job = ("run", "a.txt", "--simulate", "--json")
    assert (await home.command(*job)).code == 0
    home.simulator("reset", {})
    home.simulator("mode", {"latency": 0.5})
    program = home.start(*job, "--fresh")
    await until(lambda: len(home.asked()) >= 2)
    program.signal(signal.SIGKILL)  # it may not have kept one result
    await program.done()

    home.simulator("mode", {"latency": 0.0})
    done = await home.command(*job, *options)
    assert done.code == 0, done.err
    assert sorted(home.asked()) == sorted(texts), "each once more, and no more"
    assert [line["line"] for line in home.results("a.results.jsonl")] == list(range(1, 13))


async def test_fresh_refuses_lines_with_ids_of_their_own(home: Home) -> None:
    name = file(home, "q.jsonl", Q1)
    done = await home.command("run", name, "--simulate", "--fresh")
    assert done.code == 2
    assert "line 1: --fresh makes new ids" in done.err
    assert not (home.folder / "q.results.jsonl.fresh").exists()


async def test_fresh_without_a_file_of_results_asks_each_time(home: Home) -> None:
    (home.folder / "a.txt").write_text(f"apple {home.folder}\n")
    for count in (1, 2, 3):
        options = ("--fresh",) if count > 1 else ()
        done = await home.command("run", "a.txt", "--simulate", "-o", "-", *options)
        assert done.code == 0, done.err
        assert len(home.asked()) == count
