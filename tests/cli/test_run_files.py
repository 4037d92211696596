"""`agentflow run` as a process: files of every kind in, files of results out, and what is shown
before anything is paid."""

from __future__ import annotations

import csv
import gzip
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.protocol import limits
from tests.support.jobs import Home

PROMPT = ("--prompt", "Translate {text} into {language}")
ECHO = ("--simulate", "--workers", "1")


def table(name: str) -> str:
    """Rows that no other test has asked about: the log of the stack remembers."""
    return f'id,text,language\nx1,"one, two",{name}\nx2,three,{name}\nx3,four,{name}\n'


@pytest.fixture(scope="module", name="stack")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    import asyncio

    home = Home(tmp_path_factory.mktemp("stack"))
    program = asyncio.run(home.up("--workers", "1", "--latency", "0.05"))
    yield home
    program.signal(signal.SIGTERM)
    asyncio.run(program.done())
    home.end()


@pytest.fixture(name="home")
async def _home(stack: Home, tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(tmp_path)
    home.store = stack.store
    home.environment["AGENTFLOW_STORE"] = str(stack.store)
    home.simulator("reset", {})
    (tmp_path / "rows.csv").write_text(table(tmp_path.name))
    yield home
    assert home.end() == []


def summary(out: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(out)
    return shown


async def test_a_table_in_and_its_columns_out(home: Home) -> None:
    done = await home.command("run", "rows.csv", *PROMPT, "--simulate", "--with", "text")

    assert done.code == 0, done.err
    assert done.err.startswith("rows.csv: 3 tasks, read as CSV\n")
    lines = home.results("rows.results.jsonl")
    assert [line["line"] for line in lines] == [2, 3, 4]
    assert lines[0]["input"] == {"id": "x1", "text": "one, two"}
    assert lines[0]["latency_s"] > 0
    assert lines[0]["request_id"].startswith("req_")
    assert f"Translate one, two into {home.folder.name}" in home.asked()


async def test_a_table_out(home: Home) -> None:
    (home.folder / "rows.csv.gz").write_bytes(gzip.compress(table(home.folder.name).encode()))
    job = ("run", "rows.csv.gz", *PROMPT, "--simulate", "-o", "out.csv", "--json")
    done = await home.command(*job)

    assert done.code == 0, done.err
    with (home.folder / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["line"], row["input.id"], row["state"]) for row in rows] == [
        ("2", "x1", "succeeded"),
        ("3", "x2", "succeeded"),
        ("4", "x3", "succeeded"),
    ]
    assert (home.folder / "out.csv.jsonl").exists()
    asked = home.asked()
    (home.folder / "out.csv").unlink()
    again = await home.command(*job)
    assert (again.code, summary(again.out)["had_results_before"]) == (0, 3)
    assert (home.folder / "out.csv").exists()
    assert home.asked() == asked


async def test_parquet_in_and_out(home: Home) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"text": f"P{number}", "number": number} for number in range(3)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), home.folder / "rows.parquet")
    done = await home.command(
        *("run", "rows.parquet", "--prompt", "Say {text}", "--simulate", "-o", "out.parquet")
    )

    assert done.code == 0, done.err
    table = parquet.read_table(home.folder / "out.parquet").to_pylist()
    assert [(row["line"], row["number"], row["state"]) for row in table] == [
        (1, 0, "succeeded"),
        (2, 1, "succeeded"),
        (3, 2, "succeeded"),
    ]


async def test_results_on_standard_output(home: Home) -> None:
    lines = b'{"prompt": "O1", "kind": "echo"}\n{"prompt": "O2", "kind": "echo"}\n'
    done = await home.command("run", "-", "--simulate", "-o", "-", stdin=lines)

    assert done.code == 0, done.err
    assert sorted(json.loads(line)["text"] for line in done.out.splitlines()) == ["O1", "O2"]
    assert "succeeded" in done.err
    assert [path.name for path in home.folder.iterdir()] == ["rows.csv"]


async def test_a_file_of_other_results_is_left_alone(home: Home) -> None:
    for name, text in (("a", "A"), ("b", "B")):
        home.tasks([{"prompt": text, "kind": "echo"}], f"{name}.jsonl")
        assert (await home.command("run", f"{name}.jsonl", "--simulate")).code == 0
    assert [line["text"] for line in home.results("b.results.jsonl")] == ["B"], "a file each"
    written = (home.folder / "b.results.jsonl").read_bytes()

    refused = await home.command("run", "a.jsonl", "--simulate", "-o", "b.results.jsonl")
    assert (refused.code, refused.out) == (2, "")
    assert "b.results.jsonl holds 1 result of other requests than these" in refused.err
    assert (home.folder / "b.results.jsonl").read_bytes() == written

    done = await home.command("run", "a.jsonl", "--simulate", "-o", "b.results.jsonl", "--append")
    assert done.code == 0
    assert [line["text"] for line in home.results("b.results.jsonl")] == ["B", "A"]


async def test_a_file_of_results_that_is_taken_away_ends_the_job(home: Home) -> None:
    file = home.tasks([{"prompt": "never answered"}])
    for how, said in (("gone", "is gone"), ("read-only", "has become read-only")):
        program = home.start("run", file, "--simulate", "--queue", "nobody")
        await program.says("no worker serves the queue")
        if how == "gone":
            home.out.unlink()
        else:
            home.out.chmod(0o444)
        done = await program.done()
        assert (done.code, done.out) == (1, "")
        assert f"tasks.results.jsonl {said}" in done.err
        assert "run the same command again to get them" in done.err


async def test_a_kind_that_nobody_serves_is_told_before_anything_is_asked(home: Home) -> None:
    file = home.tasks([{"prompt": "A"}, {"prompt": "A", "kind": "cluade"}])
    for store in (str(home.store), str(home.folder / "own")):
        done = await home.command("run", file, "--simulate", AGENTFLOW_STORE=store)
        assert (done.code, done.out) == (2, "")
        assert "line 2: no worker of this job runs the kind 'cluade'" in done.err
    assert home.asked() == []


class TestBefore:
    async def test_a_dry_run_prints_what_would_be_asked(self, home: Home) -> None:
        options = ("--system", "Be brief", "--max-tokens", "9", "--temperature", "0.5")
        done = await home.command("run", "rows.csv", *PROMPT, "--dry-run", "--limit", "1", *options)

        assert done.code == 0
        [shown] = [json.loads(line) for line in done.out.splitlines()]
        assert shown["request"] == {
            "model": "claude-sonnet-5-5",
            "system": "Be brief",
            "max_tokens": 9,
            "temperature": 0.5,
            "messages": [
                {"role": "user", "content": f"Translate one, two into {home.folder.name}"}
            ],
        }
        assert [path.name for path in home.folder.iterdir()] == ["rows.csv"]
        assert home.asked() == []

    async def test_a_limit_runs_the_first_and_keeps_the_others(self, home: Home) -> None:
        job = ("run", "rows.csv", *PROMPT, "--simulate", "--json")
        first = await home.command(*job, "--limit", "2")
        assert (first.code, summary(first.out)["tasks"], len(home.asked())) == (0, 2, 2)
        whole = await home.command(*job)
        assert (whole.code, summary(whole.out)["had_results_before"]) == (0, 2)
        again = await home.command(*job, "--limit", "1")
        assert (again.code, len(home.asked())) == (0, 3)
        assert [line["line"] for line in home.results("rows.results.jsonl")] == [2, 3, 4]

    async def test_an_estimate_asks_nothing_and_learns_from_answers(self, home: Home) -> None:
        job = ("run", "rows.csv", *PROMPT, "--simulate")
        rough = await home.command(*job, "--estimate")
        assert rough.code == 0
        assert "estimate of 3 tasks, by the size of the texts and max_tokens" in rough.out
        assert home.asked() == []

        home.simulator("mode", {"usage": {"input_tokens": 500, "output_tokens": 400}})
        assert (await home.command(*job, "--limit", "2")).code == 0
        learned = await home.command(*job, "--estimate", "--json")
        figures = json.loads(learned.out)
        assert (figures["tasks"], figures["learned_from"]) == (3, 2)
        assert figures["output_tokens"]["likely"] == pytest.approx(1200)
        assert figures["input_tokens"]["likely"] == pytest.approx(1500, rel=0.2)
        assert figures["cost_micro"]["likely"] == pytest.approx(15_000, rel=0.2)

    async def test_a_sample_shows_answers_and_asks_before_the_rest(self, home: Home) -> None:
        job = ("run", "rows.csv", *PROMPT, "--simulate", "--sample", "2")
        asked = await home.command(*job)
        assert asked.code == 2
        assert asked.err.count("--- line ") == 2
        assert "estimate of 3 tasks, by 2 answers of this job" in asked.err
        assert "1 tasks are left: run it again without --sample, or with --yes" in asked.err
        first = home.asked()
        assert len(first) == 2

        done = await home.command(*job, "--yes")
        assert done.code == 0
        assert len(home.asked()) == 3, "the same sample, and what is left of the others"
        assert len(home.results("rows.results.jsonl")) == 3


async def test_lines_too_long_for_a_message_and_files_beside_them(home: Home) -> None:
    (home.folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * limits.TASK_BYTES)
    block = {"type": "image", "path": "a.png"}
    long = f"{home.folder.name} " + "x" * limits.TASK_BYTES
    home.tasks(
        [
            {"prompt": long, "max_tokens": 9},
            {"messages": [{"role": "user", "content": [block]}], "max_tokens": 9},
            {"prompt": f"{home.folder.name} short", "max_tokens": 9},
        ],
        "big.jsonl",
    )
    done = await home.command("run", "big.jsonl", "--simulate")

    assert done.code == 0, done.err
    lines = home.results("big.results.jsonl")
    assert [line["state"] for line in lines] == ["succeeded"] * 3
    assert lines[0]["usage"]["input_tokens"] > limits.TASK_BYTES // 5
    assert lines[1]["usage"]["input_tokens"] > 1


async def test_a_kind_that_nobody_runs_is_told_with_the_other_faults(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.tasks([{"prompt": "a"}, {"prompt": "b", "kind": "cluade"}, {"promt": "c"}], "bad.jsonl")
    done = await home.command("run", "bad.jsonl", "--simulate")

    assert done.code == 2
    assert "line 2: no worker of this job runs the kind 'cluade'" in done.err
    assert "did you mean claude?" in done.err
    assert "line 3: Object contains unknown field `promt`" in done.err


async def test_a_deadline_that_has_passed_is_told_before_a_job_begins(tmp_path: Path) -> None:
    home = Home(tmp_path)
    late = {"prompt": "b", "deadline": "2020-01-01T00:00:00Z"}
    home.tasks([{"prompt": "a"}, late], "late.jsonl")
    done = await home.command("run", "late.jsonl", "--simulate")

    assert done.code == 2
    assert "line 2: its deadline 2020-01-01T00:00:00+00:00 has passed" in done.err
