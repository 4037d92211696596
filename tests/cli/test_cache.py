"""`agentflow run --cache` and `agentflow cache`: answers kept longer than their logs."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.protocol import streams
from tests.support.jobs import Home

JOB = ("--simulate", "--json", "--cache", "30")


@pytest.fixture(scope="module", name="stack")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    import asyncio

    home = Home(tmp_path_factory.mktemp("stack"))
    program = asyncio.run(home.up("--workers", "1"))
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
    yield home
    assert home.end() == []


def lines(home: Home, job: str, **fields: Any) -> str:
    """Three lines, two of them alike, with the ids of one job: their logs are empty."""
    prompts = [f"{home.folder.name} {text}" for text in ("one", "two", "three")]
    rows = [
        {"prompt": prompt, "id": f"{home.folder.name[-20:]}-{job}-{n}", **fields}
        for n, prompt in enumerate(prompts)
    ]
    name = f"{job}.jsonl"
    (home.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


async def run(home: Home, name: str, *options: str) -> dict[str, Any]:
    done = await home.command("run", name, *JOB, *options)
    assert done.code == 0, done.err
    figures: dict[str, Any] = json.loads(done.out)
    return figures


async def test_the_same_request_is_answered_from_the_cache_and_costs_nothing(home: Home) -> None:
    first = await run(home, lines(home, "a"))
    asked = home.simulator("stats")["requests"]
    second = await run(home, lines(home, "b"))

    assert (asked, home.simulator("stats")["requests"]) == (3, 3)
    assert (first["from_cache"], second["from_cache"]) == (0, 3)
    assert first["cost_usd"] == second["not_paid_usd"] > 0
    assert second["cost_usd"] == 0
    before, after = home.results("a.results.jsonl"), home.results("b.results.jsonl")
    assert [line["text"] for line in before] == [line["text"] for line in after]
    assert all(line["cached"] and line["id"].split("-")[-2] == "b" for line in after)
    assert not any("cached" in line for line in before)


async def test_another_request_is_another_answer(home: Home) -> None:
    await run(home, lines(home, "a"))
    assert (await run(home, lines(home, "b"), "--model", "claude-haiku-5-5"))["from_cache"] == 0
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert (await run(home, lines(home, "c", schema=schema)))["from_cache"] == 0
    assert (await run(home, lines(home, "d", schema=schema)))["from_cache"] == 3


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        ({}, {"params": {"tools": [{"name": "look", "input_schema": {"type": "object"}}]}}),
        ({"content": "max_tokens"}, {}),
        ({"content": "refusal", "text": "No."}, {}),
    ],
    ids=["tools", "cut", "refused"],
)
async def test_what_is_no_whole_answer_to_a_request_alone_is_not_kept(
    home: Home, mode: dict[str, Any], fields: dict[str, Any]
) -> None:
    home.simulator("mode", mode)
    await run(home, lines(home, "a", **fields))
    assert (await run(home, lines(home, "b", **fields)))["from_cache"] == 0


async def test_without_the_option_nothing_is_kept_or_taken(home: Home) -> None:
    done = await home.command("run", lines(home, "a"), "--simulate", "--json")
    assert done.code == 0
    assert (await run(home, lines(home, "b")))["from_cache"] == 0
    done = await home.command("run", lines(home, "c"), "--simulate", "--json")
    assert json.loads(done.out)["from_cache"] == 0


async def test_the_cache_is_shown_bounded_and_pruned(home: Home) -> None:
    await run(home, lines(home, "a"))
    shown = json.loads((await home.command("cache", "stats", "--json")).out)
    assert shown["answers"] >= 3
    assert shown["bytes"] < shown["max_bytes"] == 256 * 1024 * 1024

    assert "0 answers removed" in (await home.command("cache", "prune", "--older-than", "1")).out
    assert "up to 64 MiB" in (await home.command("cache", "create", "--max-mib", "64")).out
    assert "of 64 MiB" in (await home.command("cache", "stats")).out
    diff = await home.command("streams", "diff")
    assert diff.code == 0, diff.out

    removed = (await home.command("cache", "prune", "--older-than", "0")).out
    assert removed == f"{shown['answers']:,} answers removed.\n"
    assert (await run(home, lines(home, "b")))["from_cache"] == 0
    assert f"{3:,} answers" in (await home.command("cache", "prune")).out
    assert "0 answers, 0.0 of 64 MiB" in (await home.command("cache", "stats")).out
    await home.command("cache", "create")
    for name in ("show", "apply"):
        assert (await home.command("streams", name)).code == 0
    assert "KV_agentflow_cache" in (await home.command("streams", "show")).out


def test_the_cache_has_bounds() -> None:
    wanted = streams.cache()
    assert wanted["max_bytes"] > 0
    assert wanted["discard"] == "old"
    assert streams.differences(wanted, {**wanted, "max_bytes": 1}) == []
