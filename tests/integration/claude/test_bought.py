"""What was bought is kept and counted: whole answers, answers that broke, usage that is strange."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from agentflow.handlers.claude.handler import HOUR, ClaudeHandler
from agentflow.handlers.contract import Outcome, defaults_of
from agentflow.protocol.record import TOKENS_MOST, Usage
from agentflow.rules.retry import Signal
from agentflow.simulator import Simulator

from .conftest import failure_of, run_of, started

Object = dict[str, Any]

USAGE: Final = {"input_tokens": 1_000, "output_tokens": 1}


def start(usage: Any = USAGE, model: str = "claude-sonnet-5-5") -> Object:
    return {
        "type": "message_start",
        "message": {"id": "msg_1", "model": model, "content": [], "usage": usage},
    }


def text(piece: str) -> Object:
    return {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": piece},
    }


BLOCK: Final = {
    "type": "content_block_start",
    "index": 0,
    "content_block": {"type": "text", "text": ""},
}


def end(**usage: Any) -> list[Object]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]


def answers(simulator: Simulator, *pieces: Any, **raw: Any) -> None:
    simulator.set_mode({"raw": {"pieces": list(pieces), **raw}})


class TestBroken:
    """3,500 characters are taken for 1,000 tokens until answers taught otherwise."""

    PARTIAL: Final = Outcome(text="word " * 700)
    COST: Final = 1_000 * 2 + 1_000 * 10

    @pytest.mark.parametrize(
        ("more", "raw", "signal"),
        [
            ([], {"end": "close"}, Signal(exception="dropped")),
            ([], {"end": "reset"}, Signal(exception="dropped")),
            ([], {"end": "end"}, Signal(exception="dropped")),
            ([], {"end": "hang"}, Signal(exception="stalled")),
            (["data: {garbage\n\n"], {}, Signal(exception="broken_json")),
            (
                [{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}],
                {},
                Signal(status=200, type="overloaded_error"),
            ),
        ],
        ids=["closed", "reset", "ended", "silent", "garbage", "error"],
    )
    async def test_keeps_its_text_and_counts_it(
        self, more: list[Any], raw: Object, signal: Signal, simulator: Simulator
    ) -> None:
        answers(simulator, start(), BLOCK, text("word " * 350), text("word " * 350), *more, **raw)
        run = run_of()
        async with started(base_url=simulator.url, stall=1.0) as handler:
            error = await failure_of(handler, run)
        assert error.signal == signal
        assert run.partial == self.PARTIAL
        assert (run.usage, run.estimated) == (Usage(1_000, 1_000), True)
        assert (run.cost_micro, run.unpriced) == (self.COST, None)
        assert run.usage_told == USAGE
        assert "output_tokens" in run.assumed

    async def test_one_that_is_ended_from_outside_too(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        answers(simulator, start(), BLOCK, text("word " * 700), end="hang")
        shown: list[str] = []
        run = run_of(shown)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await handler(run)
        assert run.partial == self.PARTIAL
        assert (run.usage, run.cost_micro) == (Usage(1_000, 1_000), self.COST)

    async def test_the_estimate_learns_from_what_came_whole(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        answers(simulator, start(), BLOCK, text("word " * 60_000), *end(output_tokens=60_000))
        whole = run_of()
        await handler(whole)
        assert not whole.estimated
        answers(simulator, start(), BLOCK, text("word " * 700), end="close")
        run = run_of()
        await failure_of(handler, run)
        assert run.usage.output_tokens == pytest.approx(700, rel=0.05)

    async def test_one_that_breaks_before_its_start_cost_nothing_that_is_known(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        answers(simulator, {"type": "ping"}, end="close")
        run = run_of()
        error = await failure_of(handler, run)
        assert error.signal == Signal(exception="dropped")
        assert (run.usage, run.cost_micro, run.partial) == (Usage(), 0, None)

    async def test_tool_calls_that_were_cut_are_kept(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        block = {"type": "tool_use", "id": "t", "name": "n", "input": {}}
        answers(
            simulator,
            start(),
            {"type": "content_block_start", "index": 0, "content_block": block},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": '{"a": "b'},
            },
            end="close",
        )
        run = run_of()
        await failure_of(handler, run)
        assert run.partial == Outcome(content=[block | {"input": '{"a": "b'}])


class TestMoney:
    @pytest.mark.parametrize(
        ("first", "last", "cost", "unpriced"),
        [
            (USAGE, {"output_tokens": 50}, 2_500, None),
            (USAGE, {"output_tokens": 50, "service_tier": "batch"}, 1_250, None),
            (
                USAGE | {"service_tier": "priority"},
                {"output_tokens": 50},
                None,
                "no price for service tier priority",
            ),
            (USAGE | {"speed": "fast"}, {"output_tokens": 50}, None, "no price for fast mode"),
            (USAGE | {"inference_geo": "us"}, {"output_tokens": 5}, None, "no price for region us"),
            (
                USAGE | {"cache_creation_input_tokens": 1_000},
                {"output_tokens": 50, "cache_creation": {"ephemeral_1h_input_tokens": 1_000}},
                6_500,
                None,
            ),
            (
                USAGE | {"input_tokens": 23_000},
                {
                    "output_tokens": 1_000,
                    "iterations": [
                        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
                        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
                    ],
                },
                451_000,
                None,
            ),
            (None, {"output_tokens": 50}, None, "the answer told no usage"),
            (
                {"input_tokens": 0, "output_tokens": 0},
                {"output_tokens": 0},
                None,
                "the answer told no usage",
            ),
            (None, {}, None, "the answer told no usage"),
            (
                {"input_tokens": 10**30},
                {"output_tokens": 10**30},
                None,
                "no price for a number of tokens that cannot be true",
            ),
        ],
    )  # fmt: skip
    async def test_is_right_or_unknown(
        self,
        first: Any,
        last: Object,
        cost: int | None,
        unpriced: str | None,
        handler: ClaudeHandler,
        simulator: Simulator,
    ) -> None:
        answers(simulator, start(first), BLOCK, text("Hi"), *end(**last))
        run = run_of()
        assert (await handler(run)).text == "Hi"
        assert (run.cost_micro, run.unpriced) == (cost, unpriced)
        assert max(run.usage.input_tokens, run.usage.output_tokens) <= TOKENS_MOST

    async def test_an_answer_that_does_not_tell_its_output_is_estimated(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        answers(simulator, start(), BLOCK, text("word " * 700), {"type": "message_stop"})
        run = run_of()
        await handler(run)
        assert (run.usage, run.estimated) == (Usage(1_000, 1_000), True)
        assert run.cost_micro == 2_000 + 10_000
        assert run.assumed == ["stop_reason", "output_tokens"]

    async def test_usage_is_kept_as_it_came(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        answers(
            simulator,
            start(USAGE | {"service_tier": "standard", "moon": {"phase": [3]}}),
            BLOCK,
            *end(output_tokens=50, server_tool_use={"web_fetch_requests": 2}),
        )
        run = run_of()
        await handler(run)
        assert run.usage_told == {
            "input_tokens": 1_000,
            "output_tokens": 50,
            "service_tier": "standard",
            "moon": {"phase": [3]},
            "server_tool_use": {"web_fetch_requests": 2},
        }
        assert run.cost_micro == 2_500

    async def test_a_model_that_has_no_price(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        answers(simulator, start(model="claude-new-9"), BLOCK, text("Hi"), *end(output_tokens=5))
        run = run_of()
        await handler(run)
        assert (run.cost_micro, run.unpriced) == (None, "no price for claude-new-9")


class TestNoAnswer:
    PAGE: Final = (
        "<!DOCTYPE html><html><head><title>Sign in</title><style>p {color: red}</style></head>"
        "<body><script>track()</script><p>Please &amp; sign in</p></body></html>"
    )

    @pytest.mark.parametrize(
        ("body", "kind", "end_of_text"),
        [
            (PAGE, "text/html", "(text/html): Sign in Please & sign in"),
            (PAGE, "text/event-stream", "(text/event-stream): Sign in Please & sign in"),
            ("Bad gateway", "text/plain", "(text/plain): Bad gateway"),
            ('{"choices": []}', "application/json", '(application/json): {"choices": []}'),
            ("[]", "application/json", "(application/json): []"),
        ],
    )
    async def test_is_told_as_what_it_is(
        self, body: str, kind: str, end_of_text: str, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        answers(simulator, body, content_type=kind)
        error = await failure_of(handler, run_of())
        assert error.signal == Signal(status=200, type="not_an_answer")
        assert error.failure.message.endswith(end_of_text)

    @pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
    async def test_an_error_with_status_200_is_that_error(
        self, kind: str, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        body = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
        answers(simulator, body, content_type=kind)
        error = await failure_of(handler, run_of())
        assert error.signal == Signal(status=200, type="overloaded_error")
        assert error.failure.message == "Overloaded"

    @pytest.mark.parametrize(
        ("pieces", "category", "message"),
        [
            ([], "dropped", "the answer ended before its first event"),
            ([{"type": "ping"}], "dropped", "the answer ended before its first event"),
            ([{"type": "message_stop"}], "dropped", "the answer ended before its first event"),
            ([start()], "dropped", "the answer ended before its last event"),
            (['{"type":"message","con'], "broken_json", "the answer cannot be read: "),
        ],
    )
    async def test_what_is_nothing(
        self,
        pieces: list[Any],
        category: str,
        message: str,
        handler: ClaudeHandler,
        simulator: Simulator,
    ) -> None:
        answers(simulator, *pieces)
        error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception=category)
        assert error.failure.message.startswith(message)


class TestWholeMessages:
    async def test_a_message_instead_of_a_stream(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        body = (
            '{"id":"m","type":"message","role":"assistant","model":"claude-sonnet-5-5",'
            '"content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn",'
            '"usage":{"input_tokens":1000,"output_tokens":50}}'
        )
        answers(simulator, body, content_type="application/json")
        shown: list[str] = []
        run = run_of(shown)
        assert await handler(run) == Outcome(text="Hi", stop_reason="end_turn")
        assert shown == ["Hi"]
        assert (run.usage, run.cost_micro) == (Usage(1_000, 50), 2_500)
        assert (run.assumed, run.estimated) == ([], False)

    async def test_bytes_that_are_no_text_and_halves_of_characters(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        from base64 import b64encode

        body = (
            b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
            b'"text":"a\xff\\ud83d"}}\n\n'
            b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
            b'"text":"\\ude00"}}\n\n'
        )
        answers(simulator, start(), {"base64": b64encode(body).decode()}, *end(output_tokens=5))
        shown: list[str] = []
        assert (await handler(run_of(shown))).text == "".join(shown) == "a�😀"


def test_without_a_timeout_of_its_own_a_task_has_an_hour() -> None:
    handlers = {"claude": ClaudeHandler(api_key="x")}
    assert defaults_of(handlers)["claude"].timeout == HOUR == 3_600.0
