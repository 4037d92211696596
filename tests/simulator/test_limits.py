"""Token buckets, as rules and through the real SDK. Time passes only when a test says so."""

from __future__ import annotations

import datetime
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from agentflow.simulator import Limits, Simulator
from agentflow.simulator.limits import Bucket, Limiter, Meter, family, retry_after

from .conftest import Clock


async def ask(client: AsyncAnthropic, *, model: str = "claude-opus-5-5") -> Any:
    return await client.messages.with_raw_response.create(
        model=model, max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
    )


def test_a_bucket_refills_without_steps_up_to_its_capacity() -> None:
    bucket = Bucket(60, burst=10, now=0.0)  # 1 a second, holds 10
    bucket.take(10, now=0.0)

    assert bucket.level(0.25) == 0.25
    assert bucket.wait(3, now=0.5) == 2.5
    assert bucket.until_full(now=4.0) == 6.0
    assert bucket.level(1000.0) == 10.0


def test_a_bucket_in_debt_pays_it_back_first() -> None:
    bucket = Bucket(60, burst=10, now=0.0)
    bucket.take(15, now=0.0)

    assert bucket.level(0.0) == -5.0
    assert bucket.wait(1, now=0.0) == 6.0


def test_more_than_a_bucket_holds_waits_for_a_full_one_and_not_for_ever() -> None:
    bucket = Bucket(60, burst=10, now=0.0)

    assert bucket.wait(1_000_000, now=0.0) == 0.0


def test_waiting_as_long_as_told_is_enough() -> None:
    for limit in (7.0, 50.0, 333.0, 4001.0):
        meter, now = Meter(Limits(requests=limit, input_tokens=limit * 11), 0.0), 0.0
        for _ in range(2 * int(limit)):
            if wait := meter.admit(13, now):
                now += retry_after(wait)
                assert meter.admit(13, now) == 0.0
        assert now > 0


def test_a_clock_that_jumps_back_takes_nothing_away() -> None:
    bucket = Bucket(60, burst=10, now=100.0)
    bucket.take(5, now=100.0)

    assert bucket.level(90.0) == 5.0


def test_models_of_a_line_share_their_buckets() -> None:
    limiter = Limiter(Limits(requests=1))

    assert limiter.meter("claude-opus-5-5", 0.0) is limiter.meter("claude-opus-4-8", 0.0)
    assert limiter.meter("claude-opus-5-5", 0.0) is not limiter.meter("claude-haiku-5-5", 0.0)
    assert family("my-own-model") == "my-own-model"


async def test_requests_over_the_limit_are_429_until_the_bucket_refills(
    client: AsyncAnthropic, simulator: Simulator, clock: Clock
) -> None:
    """6 requests a minute: one every 10 s."""
    simulator.set_mode({"limits": {"requests": 6}})
    left = [(await ask(client)).headers["anthropic-ratelimit-requests-remaining"] for _ in range(6)]
    with pytest.raises(anthropic.RateLimitError) as caught:
        await ask(client)
    headers = caught.value.response.headers
    clock.now += 9.9
    with pytest.raises(anthropic.RateLimitError) as again:
        await ask(client)
    clock.now += 0.1
    await ask(client)

    assert left == ["5", "4", "3", "2", "1", "0"]
    assert caught.value.type == "rate_limit_error"
    assert headers["retry-after"] == "10"
    assert again.value.response.headers["retry-after"] == "1"
    assert headers["anthropic-ratelimit-requests-limit"] == "6"
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    reset = datetime.datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
    ahead = reset - datetime.datetime.now(datetime.UTC)
    assert 50 < ahead.total_seconds() <= 61


async def test_the_twelve_headers_follow_the_buckets(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.set_mode(
        {
            "limits": {"requests": 100, "input_tokens": 50_000, "output_tokens": 20_000},
            "usage": {"input_tokens": 10_400, "output_tokens": 600},
        }
    )
    await ask(client)
    headers = (await ask(client)).headers
    shown = {
        name: (
            headers[f"anthropic-ratelimit-{name}-limit"],
            headers[f"anthropic-ratelimit-{name}-remaining"],
        )
        for name in ("requests", "input-tokens", "output-tokens", "tokens")
    }

    assert shown == {
        "requests": ("100", "98"),
        "input-tokens": ("50000", "29000"),  # 29,200, told in thousands
        "output-tokens": ("20000", "19000"),  # 19,400: the second answer is not yet produced
        "tokens": ("70000", "48000"),
    }


async def test_input_counts_with_cache_writes_and_without_cache_reads(
    client: AsyncAnthropic, simulator: Simulator, clock: Clock
) -> None:
    usage = {
        "input_tokens": 100,
        "cache_creation_input_tokens": 400,
        "cache_read_input_tokens": 90_000,
    }
    simulator.set_mode({"limits": {"input_tokens": 1000}, "usage": usage})
    await ask(client)
    await ask(client)
    with pytest.raises(anthropic.RateLimitError) as caught:
        await ask(client)
    clock.now += int(caught.value.response.headers["retry-after"])
    await ask(client)

    assert caught.value.response.headers["retry-after"] == "30"


async def test_output_is_taken_as_it_is_produced_and_can_fall_into_debt(
    client: AsyncAnthropic, simulator: Simulator, clock: Clock
) -> None:
    """1200 tokens a minute are 20 a second: 1800 leave a debt of 600, paid back in 30 s."""
    simulator.set_mode({"limits": {"output_tokens": 1200}, "usage": {"output_tokens": 1800}})
    await ask(client)
    with pytest.raises(anthropic.RateLimitError) as caught:
        await ask(client)
    clock.now += int(caught.value.response.headers["retry-after"])
    await ask(client)

    assert caught.value.response.headers["retry-after"] == "31"
    assert caught.value.response.headers["anthropic-ratelimit-output-tokens-remaining"] == "0"


async def test_output_that_a_client_did_not_wait_for_is_not_taken(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.set_mode(
        {
            "limits": {"output_tokens": 1000},
            "usage": {"output_tokens": 1000},
            "stall": 60,
            "stall_after": 2,
            "chunks": 10,
        }
    )
    async with client.messages.stream(
        model="claude-opus-5-5", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
    ) as stream:
        texts = stream.text_stream
        await anext(texts)
        await anext(texts)
    await simulator.wait_for(lambda: simulator.log.in_flight == 0)

    assert simulator.stats().log[0].output_tokens == 200
    simulator.set_mode({"limits": {"output_tokens": 1000}})
    await ask(client)


async def test_output_of_a_json_answer_is_taken_before_the_answer_is_sent(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    """A tenth at a time; here the third tenth does not come while the client waits."""
    simulator.set_mode(
        {
            "limits": {"output_tokens": 1000},
            "usage": {"output_tokens": 1000},
            "stall": 60,
            "stall_after": 3,
        }
    )
    with pytest.raises(anthropic.APITimeoutError):
        await ask(client.with_options(timeout=0.1))
    await simulator.wait_for(lambda: simulator.log.in_flight == 0)

    assert simulator.stats().log[0].output_tokens == 200


async def test_a_new_mode_with_the_same_limits_keeps_the_buckets(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.set_mode({"limits": {"requests": 1}})
    await ask(client)
    simulator.set_mode({"limits": {"requests": 1}, "chunks": 3})
    with pytest.raises(anthropic.RateLimitError):
        await ask(client)
    simulator.reset()
    simulator.set_mode({"limits": {"requests": 1}})
    await ask(client)
    await ask(client, model="claude-haiku-5-5")
