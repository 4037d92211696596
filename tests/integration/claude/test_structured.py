"""Answers to a schema: asked for, checked, asked for again, and what that cost."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.errors import InvalidTask
from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.handlers.contract import AttemptFailed
from agentflow.rules.retry import decide
from agentflow.simulator import Simulator

from .conftest import run_of

RATED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "stars": {"type": "integer", "minimum": 3, "maximum": 5},
        "word": {"type": "string", "minLength": 12},
    },
    "required": ["stars", "word"],
    "additionalProperties": False,
}
RIGHT = '{"stars": 4, "word": "wonderfully long"}'
WRONG = '{"stars": 9, "word": "wonderfully long"}'
TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["children"],
}


class TestSchemas:
    async def test_the_answer_is_asked_for_by_the_schema_and_is_the_value(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        outcome = await handler(run_of(schema=RATED))
        assert outcome.value == {"stars": 3, "word": "SIMULATED..."}
        assert outcome.text == '{"stars":3,"word":"SIMULATED..."}'
        assert simulator.stats().requests == 1

    async def test_a_breaking_answer_is_shown_its_fault_and_asked_again(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.add_script([{"text": WRONG}, {"text": RIGHT}])
        run = run_of(schema=RATED)
        outcome = await handler(run)
        assert outcome.value == {"stars": 4, "word": "wonderfully long"}
        first, second = simulator.stats().log
        assert "9 is greater than the maximum of 5 (at $.stars)" in second.prompt
        assert run.repair is not None
        assert run.repair.turns == 1
        assert run.repair.usage.input_tokens == second.input_tokens
        assert run.usage.input_tokens == first.input_tokens + second.input_tokens
        assert second.input_tokens > first.input_tokens
        assert run.repair.cost_usd is not None
        assert run.cost_micro is not None
        assert 0 < run.repair.cost_usd * 1_000_000 < run.cost_micro

    async def test_an_answer_that_stays_wrong_fails_with_its_text(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"breaking": 1})
        run = run_of(schema=RATED, repair=1)
        with pytest.raises(AttemptFailed) as caught:
            await handler(run)
        assert caught.value.failure.type == "schema"
        assert "no JSON" in caught.value.failure.message
        decision = decide(caught.value.signal, failures=0, max_attempts=5, chance=0.5)
        assert (decision.retry, decision.reason) == (False, "schema")
        assert simulator.stats().requests == 2
        assert run.partial is not None
        assert run.partial.text == "[SIMULATED] This breaks the schema."
        assert run.repair is not None
        assert run.repair.turns == 1

    async def test_without_repair_it_is_asked_once(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"breaking": 1})
        run = run_of(schema=RATED, repair=0)
        with pytest.raises(AttemptFailed):
            await handler(run)
        assert simulator.stats().requests == 1
        assert run.repair is None

    @pytest.mark.parametrize(
        ("mode", "reason"),
        [({"content": "max_tokens"}, "max_tokens"), ({"content": "refusal"}, "refusal")],
    )
    async def test_a_cut_or_refused_answer_is_what_it_is(
        self, handler: ClaudeHandler, simulator: Simulator, mode: dict[str, Any], reason: str
    ) -> None:
        simulator.set_mode(mode)
        outcome = await handler(run_of(schema=RATED))
        assert outcome.stop_reason == reason
        assert simulator.stats().requests == 1

    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({"model": "claude-3-5-haiku-20241022", "schema": RATED}, f"```json\n{RIGHT}\n```"),
            ({"schema": TREE}, '{"children": [{"children": []}]}'),
            ({"schema": {"type": "object", "additionalProperties": {"type": "integer"}}}, "{}"),
        ],
    )
    async def test_what_the_api_cannot_hold_is_asked_in_words(
        self, handler: ClaudeHandler, simulator: Simulator, fields: dict[str, Any], text: str
    ) -> None:
        await handler(run_of())
        plain = simulator.stats().log[-1].input_tokens
        simulator.set_mode({"text": text})
        outcome = await handler(run_of(**fields))
        assert isinstance(outcome.value, dict)
        assert simulator.stats().log[-1].input_tokens > plain + 30
        simulator.set_mode({})
        with pytest.raises(AttemptFailed):
            await handler(
                run_of(**fields, repair=0)
            )  # nothing but words: the simulator tells prose
        assert simulator.stats().requests == 3

    @pytest.mark.parametrize(
        ("schema", "why"),
        [
            ({"$ref": "http://127.0.0.1:1/schema.json"}, "nothing is fetched"),
            ({"type": "objct"}, '"objct"'),
        ],
    )
    async def test_a_schema_that_is_none_costs_nothing(
        self, handler: ClaudeHandler, simulator: Simulator, schema: dict[str, Any], why: str
    ) -> None:
        with pytest.raises(InvalidTask, match=why):
            await handler(run_of(schema=schema))
        assert simulator.stats().requests == 0

    async def test_a_format_beside_the_schema_is_one_too_many(self, handler: ClaudeHandler) -> None:
        form = {"format": {"type": "json_schema", "schema": RATED}}
        with pytest.raises(InvalidTask, match="both schema and a format"):
            await handler(run_of(schema=RATED, params={"output_config": form}))
        outcome = await handler(run_of(schema=RATED, params={"output_config": {"effort": "low"}}))
        assert outcome.value is not None


async def test_an_unknown_field_of_a_request_is_refused_as_by_the_api(
    handler: ClaudeHandler,
) -> None:
    with pytest.raises(AttemptFailed, match="temprature: Extra inputs are not permitted"):
        await handler(run_of(params={"temprature": 1}))
