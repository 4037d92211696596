"""Which knobs win, and to whom a scripted step belongs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from agentflow.simulator import KnobError, Knobs, LogNormal, Simulator, Uniform, parse_scripts
from agentflow.simulator.knobs import Chance, overlay


async def outcome(client: AsyncAnthropic, prompt: str, **knobs: Any) -> int | str:
    """The status of an error, or the text."""
    try:
        message = await client.messages.create(
            model="claude-haiku-5-5",
            max_tokens=100,
            messages=[{"role": "user", "content": prompt}],
            extra_headers={"x-fake": json.dumps(knobs)} if knobs else {},
        )
    except anthropic.APIStatusError as error:
        return error.status_code
    block = message.content[0]
    return block.text if block.type == "text" else block.type


async def test_a_script_with_a_match_follows_its_task_through_any_interleaving(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.add_script([{"status": 529}, {"status": 500}, {"text": "third"}], match="[meets-529]")
    simulator.add_script([{"status": 403}], match="[forbidden]")

    async def task(prompt: str) -> list[int | str]:
        return [await outcome(client, prompt) for _ in range(3)]

    hit, forbidden, *others = await asyncio.gather(
        task("Sort this [meets-529]"),
        task("Sort that [forbidden]"),
        *(task(f"plain {number}") for number in range(5)),
    )

    assert hit == [529, 500, "third"]
    assert forbidden[0] == 403
    assert all(isinstance(each, str) for row in [forbidden[1:], *others] for each in row)


async def test_a_script_without_a_match_takes_the_next_requests(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.add_script([{"status": 503}, {"text": "second"}])

    assert [await outcome(client, "Go") for _ in range(2)] == [503, "second"]
    assert simulator.stats().script_steps == 0


async def test_a_match_is_found_in_earlier_turns_too(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.add_script([{"text": "found"}], match="[needle]")
    message = await client.messages.create(
        model="claude-haiku-5-5",
        max_tokens=100,
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "with a [needle]"}]},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "go on"},
        ],
    )

    assert message.content[0].type == "text"
    assert message.content[0].text == "found"


async def test_a_wrong_request_uses_up_no_step(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.add_script([{"status": 503}])

    assert await outcome(client, "Go", no_such_knob=1) == 400
    assert simulator.stats().script_steps == 1


async def test_a_request_over_the_limit_uses_up_no_step(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.set_mode({"limits": {"requests": 1}})
    simulator.add_script([{"text": "first"}, {"text": "second"}])

    assert [await outcome(client, "Go") for _ in range(2)] == ["first", 429]
    assert simulator.stats().script_steps == 1


async def test_the_four_layers_in_their_order(client: AsyncAnthropic) -> None:
    async with Simulator(Knobs(text="default")) as simulator:
        other = client.copy(base_url=simulator.url)
        answers = [await outcome(other, "Go")]
        simulator.set_mode({"text": "mode"})
        answers.append(await outcome(other, "Go"))
        simulator.add_script([{"text": "script"}, {"text": "script"}])
        answers.append(await outcome(other, "Go"))
        answers.append(await outcome(other, "Go", text="header"))
        simulator.set_mode({})
        answers.append(await outcome(other, "Go"))

    assert answers == ["default", "mode", "script", "header", "default"]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        pytest.param([{"latency": 1}, {"chunks": 2}], {"latency": 1, "chunks": 2}, id="fields"),
        pytest.param(
            [{"status": 529, "p": 0.1}, {"status": 400}], {"status": 400}, id="failure as a whole"
        ),
        pytest.param(
            [{"fault": "drop"}, {"status": 200}], {"status": 200}, id="success over a failure"
        ),
        pytest.param(
            [{"status": 529, "p": 0.1}, {"latency": 1}],
            {"status": 529, "p": 0.1, "latency": 1},
            id="failure untouched",
        ),
        pytest.param([{"content": "echo"}, {"text": "x"}], {"text": "x"}, id="content as a whole"),
        pytest.param([{"status": 529}, {"status": None}], {"status": None}, id="none takes back"),
    ],
)
def test_layers_are_laid_over_each_other(
    layers: list[dict[str, Any]], expected: dict[str, Any]
) -> None:
    assert overlay(*layers) == expected


@pytest.mark.parametrize(
    "text",
    [
        b'{"steps": [{"status": 99}]}',
        b'{"steps": [{"latency": -1}]}',
        b'{"steps": [{"latency": {"kind": "pareto"}}]}',
        b'{"steps": [{"limits": {"requests": 1}}]}',
        b'{"steps": [{"fault": "flood"}]}',
        b'{"step": []}',
        b"not json",
    ],
)
def test_a_script_that_means_nothing_is_refused_before_it_is_needed(text: bytes) -> None:
    with pytest.raises(KnobError):
        parse_scripts(text)


def test_a_script_file_holds_one_script_or_many() -> None:
    one = parse_scripts(b'{"match": "a", "steps": [{"status": 500}]}')
    many = parse_scripts(b'[{"match": "a", "steps": [{"status": 500}]}]')

    assert one == many


def draws(knobs: Knobs, prompts: list[str]) -> dict[str, tuple[bool, float]]:
    return {
        prompt: (chance.fails(knobs), chance.latency(knobs))
        for prompt in prompts
        for chance in [Chance(knobs.seed, prompt, 1)]
    }


def test_chance_depends_on_seed_and_prompt_and_not_on_order() -> None:
    prompts = [f"task {number}" for number in range(2000)]
    knobs = Knobs(status=529, p=0.25, latency=LogNormal(p50=2.0, p99=10.0), seed=7)
    forward, backward = draws(knobs, prompts), draws(knobs, prompts[::-1])

    assert forward == backward
    assert forward != draws(Knobs(status=529, p=0.25, latency=Uniform(0, 1), seed=8), prompts)
    failed = sum(fails for fails, _ in forward.values())
    assert 400 < failed < 600  # 2000 * 0.25, five standard deviations wide
    latencies = sorted(latency for _, latency in forward.values())
    assert 1.8 < latencies[1000] < 2.2
    assert 8.0 < latencies[1980] < 13.0


async def test_a_share_of_failures_is_the_same_at_every_run(client: AsyncAnthropic) -> None:
    async def run() -> list[int | str]:
        async with Simulator(Knobs(status=529, p=0.5, seed=3, text="ok")) as simulator:
            other = client.copy(base_url=simulator.url)
            rows = await asyncio.gather(*(outcome(other, f"task {n}") for n in range(20)))
            return list(rows)

    first, second = await run(), await run()

    assert first == second
    assert set(first) == {529, "ok"}
