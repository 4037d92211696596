"""What an answer becomes: text, content, usage, cost."""

from __future__ import annotations

import asyncio
import json

import pytest

from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.handlers.contract import Outcome
from agentflow.handlers.price_file import load as load_prices
from agentflow.protocol.record import Usage
from agentflow.rules.routes.prices import Detail, cost_micro
from agentflow.simulator import Simulator

from .conftest import run_of


class TestAnswers:
    async def test_text_arrives_piece_by_piece_and_whole(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"text": "Grüße, 世界! " * 40, "chunks": 10})
        shown: list[str] = []
        run = run_of(shown)
        outcome = await handler(run)
        assert outcome == Outcome(text="Grüße, 世界! " * 40, stop_reason="end_turn")
        assert len(shown) == 10
        assert "".join(shown) == outcome.text

    async def test_what_an_attempt_spent_is_in_the_run(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode(
            {
                "usage": {
                    "input_tokens": 1_000,
                    "output_tokens": 500,
                    "cache_creation_input_tokens": 300,
                    "cache_read_input_tokens": 10_000,
                    "ephemeral_1h_input_tokens": 100,
                }
            }
        )
        run = run_of(model="claude-opus-5-5")
        await handler(run)
        assert run.usage == Usage(1_000, 500, 300, 10_000)
        hour = Detail(written_1h=100)
        assert run.cost_micro == cost_micro("claude-opus-5-5", run.usage, load_prices(), hour)
        assert run.cost_micro == 4_000 + 10_000 + 200 * 5 + 100 * 8 + 2_000
        assert run.model == "claude-opus-5-5"
        assert run.request_id == simulator.stats().log[0].request_id
        assert run.simulated
        assert run.first_token_s is not None
        assert run.first_token_s > 0

    async def test_a_model_without_a_price_has_no_cost(self, handler: ClaudeHandler) -> None:
        run = run_of(model="claude-new-9")
        await handler(run)
        assert run.usage.output_tokens > 0
        assert run.cost_micro is None

    async def test_the_defaults_are_those_of_the_readme(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"text": "word " * 10_000})
        run = run_of()
        outcome = await handler(run)
        assert simulator.stats().log[0].model == "claude-sonnet-5-5"
        assert simulator.stats().log[0].stream
        assert (outcome.stop_reason, run.usage.output_tokens) == ("max_tokens", 4096)

    async def test_long_answers_are_allowed(self, handler: ClaudeHandler) -> None:
        """Without streaming the SDK refuses more than 21,333 tokens."""
        assert (await handler(run_of(max_tokens=64_000))).text

    async def test_a_conversation_in_params(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"content": "echo"})
        messages = [
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Two"},
            {"role": "user", "content": [{"type": "text", "text": "Three"}]},
        ]
        params = {"messages": messages, "model": "claude-opus-5-5", "max_tokens": 99}
        outcome = await handler(run_of(prompt=None, params=params))
        assert outcome.text == "Three"
        assert simulator.stats().log[0].model == "claude-opus-5-5"

    async def test_a_stop_sequence_is_told(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"text": "one two three"})
        outcome = await handler(run_of(params={"stop_sequences": ["three"]}))
        assert outcome == Outcome(
            text="one two ", stop_reason="stop_sequence", value={"stop_sequence": "three"}
        )

    async def test_tool_calls_are_content(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        given = {"city": "Zürich", "days": [1, 2], "deep": {"a": None}}
        simulator.set_mode({"tools": [[{"name": "weather", "input": given}, {"name": "clock"}]]})
        outcome = await handler(run_of())
        assert (outcome.text, outcome.stop_reason) == (None, "tool_use")
        assert [(b["type"], b["name"], b["input"]) for b in outcome.content] == [
            ("tool_use", "weather", given),
            ("tool_use", "clock", {}),
        ]
        assert all(block["id"] for block in outcome.content)
        json.dumps(outcome.content)

    async def test_thinking_is_content_and_not_text(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"content": "thinking", "thinking": "Hm. " * 30, "text": "Yes. " * 9})
        shown: list[str] = []
        outcome = await handler(run_of(shown))
        assert outcome.text == "".join(shown) == "Yes. " * 9
        thought, answer = outcome.content
        assert (thought["type"], thought["thinking"]) == ("thinking", "Hm. " * 30)
        assert thought["signature"]
        assert answer == {"type": "text", "text": "Yes. " * 9}

    @pytest.mark.parametrize("content", ["refusal", "max_tokens"])
    async def test_endings_that_are_results(
        self, content: str, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"content": content})
        outcome = await handler(run_of())
        assert outcome.stop_reason == content
        if content == "refusal":
            assert outcome.text is None
            assert outcome.value["stop_details"]["category"] == "general_harms"

    async def test_content_goes_into_the_next_request_as_it_is(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        """What is stored is what an agent's next turn has to send back."""
        simulator.set_mode({"tools": [{"name": "weather"}]})
        outcome = await handler(run_of())
        turns = [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": outcome.content},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": outcome.content[0]["id"],
                        "content": "dry",
                    }
                ],
            },
        ]
        second = await handler(run_of(prompt=None, params={"messages": turns}))
        assert second.stop_reason == "end_turn"

    async def test_a_hundred_at_once_on_one_client(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"content": "echo", "latency": 0.2})
        prompts = [f"prompt {number}" for number in range(100)]
        outcomes = await asyncio.gather(*(handler(run_of(prompt=text)) for text in prompts))
        assert [outcome.text for outcome in outcomes] == prompts
        assert simulator.stats().max_in_flight > 10
        assert handler.pools()[handler.pool]["sonnet"]["in_flight"] == 0
