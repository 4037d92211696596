"""The simulated prompt cache: what is read was written by an answer that had begun."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from agentflow.simulator import Simulator
from agentflow.simulator.caching import HOUR, LEAST, MINUTES, Cached, PromptCache, steps
from agentflow.simulator.wire import ENCODER

MODEL = "claude-sonnet-5-5"
LONG = "word " * LEAST


def body(prompt: str, system: str = LONG, ttl: str = "5m") -> dict[str, Any]:
    mark = {"type": "ephemeral", "ttl": ttl}
    return {
        "model": MODEL,
        "max_tokens": 50,
        "system": [{"type": "text", "text": system, "cache_control": mark}],
        "messages": [{"role": "user", "content": prompt}],
    }


def look(cache: PromptCache, asked: dict[str, Any], now: float) -> Cached:
    return cache.look(steps(ENCODER.encode(asked)), 100_000, now)


def keep(cache: PromptCache, asked: dict[str, Any], now: float, begins: float) -> list[bytes]:
    return cache.keep(steps(ENCODER.encode(asked)), now, begins)


async def test_the_second_request_reads_what_the_first_one_wrote(client: AsyncAnthropic) -> None:
    first = (await client.messages.create(**body("one"))).usage
    second = (await client.messages.create(**body("two"))).usage
    plain = (await client.messages.create(**body("two") | {"system": LONG})).usage
    assert first.cache_creation_input_tokens and not first.cache_read_input_tokens
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens
    assert not second.cache_creation_input_tokens
    assert not plain.cache_read_input_tokens
    read = second.cache_read_input_tokens
    assert read is not None
    assert abs(read + second.input_tokens - plain.input_tokens) < 30


@pytest.fixture(name="cache")
def _cache() -> PromptCache:
    return PromptCache()


def test_who_asks_before_the_answer_begins_reads_nothing(cache: PromptCache) -> None:
    keep(cache, body("one"), 0.0, begins=2.0)
    assert look(cache, body("two"), 1.9).read == 0
    assert look(cache, body("two"), 1.9).written > 0
    assert look(cache, body("two"), 2.0).read > 0
    assert look(cache, body("two", LONG + "!"), 2.0).read == 0


def test_an_answer_that_never_began_wrote_nothing(cache: PromptCache) -> None:
    cache.lose(keep(cache, body("one"), 0.0, begins=2.0), 1.0)
    assert look(cache, body("two"), 3.0).read == 0
    keep(cache, body("one"), 4.0, begins=5.0)
    cache.lose(keep(cache, body("two"), 5.5, begins=6.0), 5.6)
    assert look(cache, body("three"), 6.0).read > 0


def test_it_lives_for_five_minutes_after_its_last_use_or_an_hour(cache: PromptCache) -> None:
    keep(cache, body("one"), 0.0, begins=0.0)
    keep(cache, body("two"), 200.0, begins=201.0)
    assert look(cache, body("three"), 201.0 + MINUTES - 1).read > 0
    assert look(cache, body("three"), 201.0 + MINUTES).read == 0
    written = look(cache, body("one", ttl="1h"), 1_000.0)
    assert written.written == written.written_1h > 0
    keep(cache, body("one", ttl="1h"), 1_000.0, begins=1_000.0)
    assert look(cache, body("two", ttl="1h"), 1_000.0 + HOUR - 1).read > 0


def test_what_is_short_is_not_kept(cache: PromptCache) -> None:
    keep(cache, body("one", "short"), 0.0, begins=0.0)
    assert look(cache, body("two", "short"), 1.0) == Cached()


def test_a_conversation_reads_what_it_said_before(cache: PromptCache) -> None:
    def talk(*said: str) -> dict[str, Any]:
        turns = [
            {"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)
        ]
        mark = {"type": "ephemeral"}
        return {"model": MODEL, "messages": turns, "cache_control": mark}

    keep(cache, talk(LONG), 0.0, begins=0.0)
    longer = look(cache, talk(LONG, "yes", "and now?"), 1.0)
    assert longer.read >= LEAST
    assert 0 < longer.written < longer.read


async def test_a_client_that_hangs_up_leaves_nothing(
    simulator: Simulator, client: AsyncAnthropic
) -> None:
    simulator.set_mode({"latency": 30.0})
    asked = asyncio.create_task(client.messages.create(**body("one")))
    await simulator.wait_for(lambda: simulator.log.in_flight == 1)
    asked.cancel()
    await simulator.wait_for(lambda: simulator.log.in_flight == 0)
    simulator.set_mode({})
    usage = (await client.messages.create(**body("two"))).usage
    assert not usage.cache_read_input_tokens and usage.cache_creation_input_tokens
