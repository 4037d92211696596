"""Prompts counted by the API for an estimate: the real SDK on the simulator."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from agentflow.handlers.claude import counting as api
from agentflow.job import counting
from agentflow.job.estimate import Counted, Learned, estimate
from agentflow.job.source import Reading, Source
from agentflow.rules.routes.prices import Prices
from agentflow.simulator import Simulator
from tests.integration.claude.conftest import KEY, run_of


def lines(count: int) -> Source:
    rows = [
        json.dumps({"prompt": f"word {at} " * (20 + at), "max_tokens": 100}) for at in range(count)
    ]
    return Source("-", io.BytesIO("\n".join(rows).encode()), Reading())


async def test_a_sample_is_counted_and_the_rest_is_by_its_ratio(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lines(100)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    counted = await asyncio.to_thread(counting.count, source)

    assert (counted.tasks, counted.why) == (counting.SAMPLE, "")
    assert simulator.stats().paths == {"POST /v1/messages/count_tokens": counting.SAMPLE}
    figures = estimate(source.models, Prices(models={}), Learned(), slots=1, counted=counted)
    tasks = [run_of(prompt=item.body.prompt).task for item in source]
    told = sum(tokens or 0 for tokens in (await api.count(tasks)).tokens)
    assert figures.input_tokens.low <= told <= figures.input_tokens.high
    assert figures.input_tokens.high < 1.2 * told, "a narrow range"


async def test_an_api_that_does_not_count_is_said(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.set_mode({"status": 404})
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)

    counted = await asyncio.to_thread(counting.count, lines(3))
    assert (counted.tasks, counted.why) == (0, "NotFoundError")
    assert counting.count(lines(3), {}).why == "ANTHROPIC_API_KEY is not set"


def test_the_limits_say_how_long_it_takes() -> None:
    counted = Counted.of([(1_000, 250)], whole=False, limits={"input-tokens-limit": "1000"})
    source = lines(10)
    figures = estimate(source.models, Prices(models={}), Learned(), slots=1, counted=counted)

    assert figures.limited
    assert figures.duration is not None
    assert figures.seconds == pytest.approx(60 * figures.input_tokens.likely / 1_000)
    assert figures.duration.low < figures.duration.likely < figures.duration.high
