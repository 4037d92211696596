"""What a worker writes of Claude's answers: paused turns, broken and late ones, their cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.protocol.record import Record, State
from agentflow.simulator import Simulator
from agentflow.views.result import result_of_record
from tests.integration.conftest import StartWorker
from tests.support.observer import Observer

USAGE = {"input_tokens": 1_000, "output_tokens": 100}


@pytest.fixture(autouse=True)
def _own_prices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AGENTFLOW_PRICES", raising=False)


@pytest.fixture(name="claude")
async def _claude(start_worker: StartWorker) -> AsyncIterator[Simulator]:
    """A worker that asks this simulator."""
    async with Simulator() as simulator:
        handler = ClaudeHandler(api_key="sk-ant-test-0123456789", base_url=simulator.url)
        await handler.start()
        await start_worker({"claude": handler})
        yield simulator
        await handler.close()


async def ended(observer: Observer, **fields: Any) -> Record:
    await observer.submit({"id": "t", "prompt": "Write a haiku", **fields})
    return await observer.ended("t")


async def test_a_paused_turn_is_continued_and_all_of_it_is_counted(
    observer: Observer, claude: Simulator
) -> None:
    claude.add_script(
        [
            {"content": "pause_turn", "text": "One. ", "usage": USAGE},
            {"content": "pause_turn", "text": "Two. ", "usage": USAGE},
            {"text": "Three.", "usage": USAGE},
        ]
    )
    record = await ended(observer)
    assert (record.state, record.attempt, record.text) == (State.SUCCEEDED, 1, "One. Two. Three.")
    assert record.stop_reason == "end_turn"
    assert (record.usage.input_tokens, record.usage.output_tokens) == (3_000, 300)
    assert len(record.usage_told["turns"]) == 3
    assert claude.stats().requests == 3
    assert record.cost_usd == pytest.approx(3 * (1_000 * 2 + 100 * 10) / 1e6)


async def test_a_turn_that_is_paused_without_end_is_no_silent_success(
    observer: Observer, claude: Simulator
) -> None:
    claude.set_mode({"content": "pause_turn", "text": "Hm. ", "usage": USAGE})
    record = await ended(observer)
    assert (record.state, record.reason, record.attempt) == (State.FAILED, "paused", 1)
    assert (record.text, record.partial) == ("Hm. " * 10, True)
    assert claude.stats().requests == 10
    assert record.usage.output_tokens == 1_000
    assert record.cost_usd == pytest.approx(10 * (1_000 * 2 + 100 * 10) / 1e6)


async def test_an_answer_that_broke_off_is_kept_and_paid_for_each_time(
    observer: Observer, claude: Simulator
) -> None:
    usage = {"input_tokens": 1_000, "output_tokens": 2_000}
    claude.set_mode({"fault": "drop_mid", "text": "word " * 2_000, "usage": usage})
    record = await ended(observer, max_attempts=2)
    assert (record.state, record.reason) == (State.FAILED, "dropped")
    assert record.partial and record.text is not None and record.text.startswith("word word")
    assert record.estimated and record.usage.output_tokens > len(record.text) / 5
    asked = claude.stats().requests
    assert asked == 2
    assert record.cost_usd is not None and record.cost_usd > 2 * 1_000 * 2 / 1e6
    result = result_of_record(record, 1)
    assert (result.partial, result.estimated, result.text) == (True, True, record.text)


async def test_a_timeout_within_a_healthy_answer_is_final_and_keeps_the_text(
    observer: Observer, claude: Simulator
) -> None:
    claude.set_mode({"tokens_per_s": 50, "text": "word " * 2_000})
    record = await ended(observer, timeout=1.5)
    assert (record.state, record.reason, record.attempt) == (State.FAILED, "timeout", 1)
    assert record.partial and record.text and record.text.startswith("word")
    assert record.error is not None and "still coming" in record.error.message
    assert claude.stats().requests == 1


async def test_a_timeout_in_a_silence_is_tried_again(observer: Observer, claude: Simulator) -> None:
    claude.add_script([{"fault": "hang"}, {"text": "Here."}])
    record = await ended(observer, timeout=1.0)
    assert (record.state, record.text, record.failures) == (State.SUCCEEDED, "Here.", 1)


async def test_why_there_is_no_cost_stands_in_the_record(
    observer: Observer, claude: Simulator
) -> None:
    record = await ended(observer, model="claude-new-9")
    assert (record.cost_usd, record.unpriced) == (None, "no price for claude-new-9")
    assert not record.partial
