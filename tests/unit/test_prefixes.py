"""Of requests that begin alike one writes the prompt cache, and the others wait for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow.handlers.claude import prefixes
from agentflow.handlers.claude.prefixes import MINUTES, MOST, PATIENCE, Lead, Prefixes, marks

MARK = {"type": "ephemeral"}


def request(system: str = "A long document.", prompt: str = "?", **fields: Any) -> dict[str, Any]:
    return {
        "model": "claude-sonnet-5-5",
        "system": [{"type": "text", "text": system, "cache_control": MARK}],
        "messages": [{"role": "user", "content": prompt}],
        **fields,
    }


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="known")
def _known(clock: Clock) -> Prefixes:
    return Prefixes(clock)


async def now(known: Prefixes, arguments: dict[str, Any]) -> Lead:
    async with asyncio.timeout(5):
        return await known.turn(marks(arguments))


async def waiting(known: Prefixes, arguments: dict[str, Any]) -> asyncio.Task[Lead]:
    task = asyncio.create_task(known.turn(marks(arguments)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    return task


class TestMarks:
    def test_what_marks_nothing_has_none(self) -> None:
        assert marks(request(system="x") | {"system": "x"}) == []
        assert marks({"model": "m", "messages": [{"role": "user", "content": "hi"}]}) == []

    def test_the_prefix_ends_at_the_mark(self) -> None:
        assert marks(request(prompt="one")) == marks(request(prompt="two"))
        assert marks(request("one")) != marks(request("two"))
        assert marks(request()) != marks(request(model="claude-haiku-5-5"))

    def test_each_mark_ends_one_and_the_last_block_where_the_whole_is_marked(self) -> None:
        document = {"type": "text", "text": "own", "cache_control": {**MARK, "ttl": "1h"}}
        both = request(messages=[{"role": "user", "content": [document, {"type": "text"}]}])
        assert [lifetime for _, lifetime in marks(both)] == [290.0, 3_590.0]
        whole = marks(request() | {"system": "same", "cache_control": MARK})
        assert len(whole) == 1
        other = marks(request(prompt="!") | {"system": "same", "cache_control": MARK})
        assert whole != other
        extra = request() | {"system": "same", "extra_body": {"cache_control": MARK}}
        assert marks(extra) == whole


async def test_the_others_wait_until_the_first_answer_begins(known: Prefixes) -> None:
    first = await now(known, request(prompt="1"))
    others = [await waiting(known, request(prompt=str(at))) for at in range(2, 9)]
    assert first.first
    first.began()
    leads = await asyncio.gather(*others)
    assert not any(lead.first for lead in leads)
    assert not (await now(known, request(prompt="later"))).first


async def test_another_prefix_waits_for_nobody(known: Prefixes) -> None:
    assert (await now(known, request("one"))).first
    assert (await now(known, request("two"))).first


async def test_where_the_first_ends_without_an_answer_the_next_goes_first(known: Prefixes) -> None:
    first = await now(known, request(prompt="1"))
    second, third = [await waiting(known, request(prompt=each)) for each in "23"]
    first.end()
    lead = await second
    assert lead.first
    await asyncio.sleep(0)
    assert not third.done()
    lead.began()
    assert not (await third).first


async def test_who_gives_up_waiting_holds_up_nobody(known: Prefixes) -> None:
    first = await now(known, request(prompt="1"))
    second, third = [await waiting(known, request(prompt=each)) for each in "23"]
    second.cancel()
    await asyncio.sleep(0)
    first.end()
    assert (await third).first


async def test_who_leads_without_an_answer_for_too_long_leads_no_more(
    known: Prefixes, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefixes, "PATIENCE", 0.01)
    stuck = await now(known, request(prompt="1"))
    second = await waiting(known, request(prompt="2"))
    clock.now += 1.0
    lead = await second
    assert lead.first
    stuck.end()  # it is no longer its to end
    third = await waiting(known, request(prompt="3"))
    lead.began()
    assert not (await third).first
    assert PATIENCE < MINUTES


async def test_what_was_not_used_for_five_minutes_is_written_again(
    known: Prefixes, clock: Clock
) -> None:
    (await now(known, request())).began()
    clock.now += 200.0
    (await now(known, request())).began()
    clock.now += 200.0
    assert not (await now(known, request())).first
    clock.now += 91.0
    assert (await now(known, request())).first


async def test_a_longer_prefix_is_read_with_the_shorter_one_in_it(
    known: Prefixes, clock: Clock
) -> None:
    def two(document: str) -> dict[str, Any]:
        block = {"type": "text", "text": document, "cache_control": MARK}
        return request(messages=[{"role": "user", "content": [block]}])

    first = await now(known, two("a"))
    other = await waiting(known, two("b"))
    same = await waiting(known, two("a"))
    first.began()
    lead, read = await asyncio.gather(other, same)
    assert lead.first and not read.first  # of its own document, that nobody had
    third = await waiting(known, two("b"))
    assert not (await now(known, two("a"))).first
    lead.end()
    assert (await third).first


async def test_only_so_many_are_remembered(known: Prefixes) -> None:
    first = await now(known, request("0"))
    waiter = await waiting(known, request("0"))
    for at in range(1, MOST + 1):
        await known.turn([(at.to_bytes(4, "big"), MINUTES)])
    assert len(known._known) == MOST
    first.end()
    assert (await asyncio.wait_for(waiter, 5)).first
