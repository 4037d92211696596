"""Every kind of answer, read by the real SDK with strict validation."""

from __future__ import annotations

import json
import time
from typing import Any

import anthropic
import pydantic
import pytest
from anthropic import AsyncAnthropic

from agentflow.simulator import Simulator

MODEL = "claude-sonnet-5-5"


def asking(
    prompt: str = "Compare wind turbines with tidal turbines", **more: Any
) -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": prompt}],
        **more,
    }


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


WEATHER = {
    "name": "weather",
    "description": "The weather of a place",
    "input_schema": {
        "type": "object",
        "properties": {"place": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
        "required": ["place", "days"],
    },
}


async def test_an_answer_is_marked_and_counted(client: AsyncAnthropic) -> None:
    message = await client.messages.create(**asking())

    assert text_of(message).startswith("[SIMULATED] ")
    assert message.stop_reason == "end_turn"
    assert message.model == MODEL
    assert message.usage.input_tokens == 14  # 41 characters, and 3 for the turn
    assert message.usage.output_tokens == -(-len(text_of(message)) // 4)
    assert message._request_id is not None
    assert message._request_id.startswith("req_")


async def test_the_same_prompt_gets_the_same_text(client: AsyncAnthropic) -> None:
    first, again, other = [
        text_of(await client.messages.create(**asking(prompt)))
        for prompt in ("Name the planets", "Name the planets", "Name the rivers of Europe")
    ]

    assert first == again
    assert first != other


async def test_the_raw_stream_carries_the_same_message(client: AsyncAnthropic) -> None:
    whole = text_of(await client.messages.create(**asking()))
    kinds: list[str] = []
    text = ""
    async for event in await client.messages.create(**asking(), stream=True):
        kinds.append(event.type)
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text += event.delta.text
        if event.type == "message_delta":
            assert event.usage.output_tokens == -(-len(whole) // 4)

    assert text == whole
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert kinds.count("content_block_delta") == 20


async def test_the_stream_helper_builds_the_message(client: AsyncAnthropic) -> None:
    async with client.messages.stream(
        **asking(extra_headers={"x-fake": '{"chunks": 5}'})
    ) as stream:
        parts = [part async for part in stream.text_stream]
        message = await stream.get_final_message()

    assert len(parts) == 5
    assert "".join(parts) == text_of(message)
    assert message.stop_reason == "end_turn"
    assert stream.request_id is not None


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("knobs", "stop_reason", "kinds"),
    [
        ({"text": "exactly this"}, "end_turn", ["text"]),
        ({"text": ""}, "end_turn", ["text"]),
        ({"content": "echo"}, "end_turn", ["text"]),
        ({"content": "thinking"}, "end_turn", ["thinking", "text"]),
        ({"content": "refusal"}, "refusal", []),
        ({"content": "max_tokens"}, "max_tokens", ["text"]),
        ({"content": "pause_turn"}, "pause_turn", ["text"]),
        ({"tools": [{"name": "weather", "input": {"a": 1}}]}, "tool_use", ["tool_use"]),
        ({"tools": [[{"name": "a"}, {"name": "b"}]]}, "tool_use", ["tool_use", "tool_use"]),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
async def test_every_kind_of_content(
    client: AsyncAnthropic, knobs: dict[str, Any], stop_reason: str, kinds: list[str], stream: bool
) -> None:
    request = asking(extra_headers={"x-fake": json.dumps(knobs)})
    if stream:
        async with client.messages.stream(**request) as events:
            message: Any = await events.get_final_message()
    else:
        message = await client.messages.create(**request)

    assert message.stop_reason == stop_reason
    assert [block.type for block in message.content] == kinds
    if "text" in knobs:
        assert text_of(message) == knobs["text"]
    if knobs.get("content") == "echo":
        assert text_of(message) == request["messages"][0]["content"]
    if stop_reason == "refusal":
        assert message.stop_details.category == "general_harms"
    if "thinking" in kinds:
        assert message.content[0].thinking
        assert message.content[0].signature
        assert message.usage.output_tokens_details.thinking_tokens > 0
    if stop_reason == "tool_use":
        wanted = knobs["tools"][0]
        wanted = wanted if isinstance(wanted, list) else [wanted]
        assert [(block.name, block.input) for block in message.content] == [
            (call["name"], call.get("input", {})) for call in wanted
        ]
        assert len({block.id for block in message.content}) == len(wanted)


async def test_max_tokens_cuts_the_text(client: AsyncAnthropic) -> None:
    whole = text_of(await client.messages.create(**asking()))
    cut = await client.messages.create(**asking() | {"max_tokens": 10})

    assert cut.stop_reason == "max_tokens"
    assert cut.usage.output_tokens == 10
    assert text_of(cut) == whole[:40]


async def test_a_stop_sequence_ends_the_text(client: AsyncAnthropic) -> None:
    message = await client.messages.create(
        **asking(stop_sequences=["END", "here"], extra_headers={"x-fake": '{"text":"up to here."}'})
    )

    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "here")
    assert text_of(message) == "up to "


async def test_tools_are_called_turn_by_turn_until_the_script_ends(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.set_mode({"tools": [{"name": "weather"}, {"name": "weather"}], "text": "sunny"})
    request: dict[str, Any] = asking(tools=[WEATHER])
    reasons: list[str] = []
    answers: list[str] = []
    while len(reasons) < 3:
        message = await client.messages.create(**request)
        reasons.append(message.stop_reason)
        answers.append(text_of(message))
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "12 degrees"}
            for block in message.content
            if block.type == "tool_use"
        ]
        turns = [{"role": "assistant", "content": message.content}]
        request["messages"] += [*turns, {"role": "user", "content": results}]

    assert reasons == ["tool_use", "tool_use", "end_turn"]
    assert answers == ["", "", "sunny"]


async def test_an_offered_tool_is_called_with_an_input_that_fits(client: AsyncAnthropic) -> None:
    message = await client.messages.create(
        **asking(tools=[WEATHER], extra_headers={"x-fake": '{"content":"tool_use"}'})
    )

    block = message.content[0]
    assert block.type == "tool_use"
    assert block.input == {"place": "SIMULATED", "days": 2}


async def test_the_sdk_s_tool_runner_runs_to_its_end(client: AsyncAnthropic) -> None:
    @anthropic.beta_async_tool
    async def weather(place: str) -> str:
        """The weather.

        Args:
            place: where
        """
        return f"sun in {place}"

    runner = client.beta.messages.tool_runner(
        **asking(tools=[weather], extra_headers={"x-fake": '{"content":"tool_use"}'})
    )
    messages = [message async for message in runner]

    assert [message.stop_reason for message in messages] == ["tool_use", "end_turn"]


async def test_structured_output_fits_its_schema(client: AsyncAnthropic) -> None:
    class Author(pydantic.BaseModel):
        name: str
        mail: str | None

    class Book(pydantic.BaseModel):
        title: str
        pages: int
        authors: list[Author]
        in_print: bool

    message = await client.messages.parse(**asking(), output_format=Book)

    book = message.parsed_output
    assert book is not None
    assert book.title == "SIMULATED"
    assert len(book.authors) == 1


async def test_usage_can_be_set(client: AsyncAnthropic) -> None:
    knobs = {
        "usage": {
            "input_tokens": 7,
            "output_tokens": 90_000,
            "cache_creation_input_tokens": 500,
            "ephemeral_1h_input_tokens": 200,
            "cache_read_input_tokens": 3,
        }
    }
    async with client.messages.stream(
        **asking(extra_headers={"x-fake": json.dumps(knobs)})
    ) as stream:
        usage = (await stream.get_final_message()).usage

    assert (usage.input_tokens, usage.output_tokens) == (7, 90_000)
    assert (usage.cache_creation_input_tokens, usage.cache_read_input_tokens) == (500, 3)
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_5m_input_tokens == 300
    assert usage.cache_creation.ephemeral_1h_input_tokens == 200


async def test_count_tokens_agrees_with_usage(client: AsyncAnthropic) -> None:
    prompt: list[Any] = [{"role": "user", "content": "x" * 4000}]
    counted = await client.messages.count_tokens(model=MODEL, messages=prompt, system="Be brief")
    message = await client.messages.create(
        model=MODEL, max_tokens=50, messages=prompt, system="Be brief"
    )

    assert counted.input_tokens == message.usage.input_tokens
    assert 1000 <= counted.input_tokens <= 1010


async def test_a_picture_counts_as_a_picture(client: AsyncAnthropic) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 400_000}
    prompt: list[Any] = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    counted = await client.messages.count_tokens(model=MODEL, messages=prompt)

    assert counted.input_tokens == 1603


async def test_models_are_listed_page_by_page_and_found(client: AsyncAnthropic) -> None:
    every = [model async for model in await client.models.list(limit=3)]
    whole = await client.models.list()
    deprecated = await client.models.retrieve("claude-sonnet-4-5")

    assert [model.id for model in every] == [model.id for model in whole.data]
    assert MODEL in {model.id for model in every}
    assert whole.has_more is False
    assert deprecated.id == "claude-sonnet-4-5-20250929"
    assert deprecated.lifecycle == "deprecated"
    before = await client.models.list(before_id=every[4].id, limit=2)
    assert [model.id for model in before.data] == [model.id for model in every[2:4]]


async def test_every_response_says_that_it_is_simulated(client: AsyncAnthropic) -> None:
    raw = await client.messages.with_raw_response.create(**asking())
    assert raw.headers["x-simulated"] == "true"
    with pytest.raises(anthropic.NotFoundError) as caught:
        await client.models.retrieve("claude-nobody")
    assert caught.value.response.headers["x-simulated"] == "true"


async def test_latency_and_pace_order_the_stream_in_time(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    """80 characters are 20 tokens: 0.05 s to the first, then 0.1 s at 200 a second.

    Only what is never too early holds on a busy machine: the first token may be late by any time.
    """
    simulator.set_mode({"latency": 0.05, "tokens_per_s": 200, "text": "x" * 80})
    start = time.monotonic()
    times = []
    async with client.messages.stream(**asking()) as stream:
        async for _ in stream.text_stream:
            times.append(time.monotonic() - start)
    total = time.monotonic() - start

    assert len(times) == 20
    assert times[0] >= 0.05
    assert total >= 0.15
    assert times[10] >= 0.05 + 10 / 200
    assert times == sorted(times)
