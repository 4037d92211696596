"""What an answer's usage comes to, and what has no price and why."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest

from agentflow.handlers.claude.estimate import FIRST, Ratio
from agentflow.handlers.price_file import load
from agentflow.protocol.record import TOKENS_MOST, Usage, counted
from agentflow.rules.routes import prices
from agentflow.rules.routes import usage as told
from agentflow.rules.routes.prices import Cost

SONNET, OPUS = "claude-sonnet-5-5", "claude-opus-5-5"
TABLE = load({"XDG_CONFIG_HOME": "/nowhere"})

Object = dict[str, Any]


def cost(usage: Object, model: str = SONNET) -> Cost:
    return prices.cost(told.billed(model, usage).parts, TABLE)


def tokens(read: int, written: int, **more: Any) -> Object:
    return {"input_tokens": read, "output_tokens": written, **more}


COMPACTION = tokens(180_000, 3_500, type="compaction")
MESSAGE = tokens(23_000, 1_000, type="message")
ADVICE = tokens(20_000, 1_500, type="advisor_message", model=OPUS)

PRICED: dict[str, tuple[Object, Usage, int]] = {
    "plain": (tokens(1_000, 100), Usage(1_000, 100), 3_000),
    "with a compaction": (
        tokens(23_000, 1_000, iterations=[COMPACTION, MESSAGE]),
        Usage(203_000, 4_500),
        451_000,
    ),
    "with a compaction alone": (
        tokens(23_000, 1_000, iterations=[COMPACTION]),
        Usage(203_000, 4_500),
        451_000,
    ),
    "advised by another model": (
        tokens(23_000, 1_000, iterations=[MESSAGE, ADVICE]),
        Usage(43_000, 2_500),
        56_000 + 20_000 * 4 + 1_500 * 20,
    ),
    "an advised model reads again": (
        # The counts beside the list have the first prompt only.
        tokens(
            23_000,
            1_500,
            iterations=[MESSAGE, ADVICE, tokens(24_000, 500, type="message")],
        ),
        Usage(67_000, 3_000),
        56_000 + 48_000 + 5_000 + 110_000,
    ),
    "answered by another model in the end": (
        tokens(
            5_000,
            100,
            iterations=[
                tokens(5_000, 10, type="message", model=SONNET),
                tokens(5_000, 100, type="fallback_message", model=OPUS),
            ],
        ),
        Usage(10_000, 110),
        10_000 + 100 + 20_000 + 2_000,
    ),
    "turns that the counts have already": (
        tokens(2_000, 200, iterations=[tokens(1_000, 100, type="message")] * 2),
        Usage(2_000, 200),
        6_000,
    ),
    "iterations that are none": (
        tokens(1_000, 100, iterations=[None, 3]),
        Usage(1_000, 100),
        3_000,
    ),
    "iterations null": (tokens(1_000, 100, iterations=None), Usage(1_000, 100), 3_000),
    "written for an hour": (
        tokens(
            1_000,
            100,
            cache_creation_input_tokens=10_000,
            cache_creation={"ephemeral_1h_input_tokens": 10_000},
        ),
        Usage(1_000, 100, 10_000),
        3_000 + 40_000,
    ),
    "written, told by lifetime only": (
        tokens(
            0,
            100,
            cache_creation={"ephemeral_5m_input_tokens": 2_000, "ephemeral_1h_input_tokens": 1_000},
        ),
        Usage(0, 100, 3_000),
        1_000 + 5_000 + 4_000,
    ),
    "a batch": (tokens(1_000, 100, service_tier="batch"), Usage(1_000, 100), 1_500),
    "searches and fetches": (
        tokens(1_000, 100, server_tool_use={"web_search_requests": 2, "web_fetch_requests": 9}),
        Usage(1_000, 100),
        3_000 + 20_000,
    ),
    "fields that are new": (tokens(1_000, 100, moon={"phase": 3}), Usage(1_000, 100), 3_000),
    "standard in every way": (
        tokens(1_000, 100, service_tier="standard", speed="standard", inference_geo="global"),
        Usage(1_000, 100),
        3_000,
    ),
    "numbers as text and with a point": (
        {"input_tokens": "1000", "output_tokens": 100.0},
        Usage(1_000, 100),
        3_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRICED)
def test_what_is_paid(name: str) -> None:
    usage, sums, micro = PRICED[name]
    assert told.billed(SONNET, usage).usage == sums
    assert cost(usage) == Cost(micro)


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        ({"service_tier": "priority"}, "no price for service tier priority"),
        ({"service_tier": "flex\n\x1b[1m"}, "no price for service tier flex[1m"),
        ({"speed": "fast"}, "no price for fast mode"),
        ({"speed": "slow"}, "no price for speed slow"),
        ({"inference_geo": "us"}, "no price for region us"),
        ({"inference_geo": 7}, "no price for region int"),
        ({"input_tokens": 10**30}, "no price for a number of tokens that cannot be true"),
        ({"iterations": [{"type": "dream"}]}, "no price for an iteration of type dream"),
        (
            {"iterations": [{"type": "advisor_message", "model": "new-9", "input_tokens": 1}]},
            "no price for new-9",
        ),
        ({"iterations": [COMPACTION], "speed": "fast"}, "no price for fast mode"),
    ],
)
def test_what_has_no_price(usage: Object, reason: str) -> None:
    assert cost(tokens(1_000, 100) | usage) == Cost(None, reason)
    assert cost(tokens(1, 1), "claude-new-9") == Cost(None, "no price for claude-new-9")


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0),
        (7, 7),
        (7.0, 7),
        ("7", 7),
        (10**30, TOKENS_MOST),
        (float("inf"), TOKENS_MOST),
        ("9" * 31, TOKENS_MOST),
        ("9" * 5_000, None),
        (float("nan"), None),
        (-1, None),
        (True, None),
        (None, None),
        ("many", None),
        ([], None),
    ],
)
def test_a_count_as_it_was_told(value: object, count: int | None) -> None:
    assert counted(value) == count


def test_sums_of_nonsense_fit_a_record() -> None:
    many = {"iterations": [tokens(10**30, 10**30, type="compaction")] * 9}
    usage = told.billed(SONNET, tokens(10**30, 10**30, cache_creation={"a": 10**30}) | many).usage
    assert usage == Usage(TOKENS_MOST, TOKENS_MOST, TOKENS_MOST)
    msgspec.json.encode(usage)


def test_later_usage_is_laid_over_what_was_told_before() -> None:
    sums: Object = {}
    told.add(sums, tokens(100, 1, service_tier="standard", cache_creation=None))
    told.add(sums, {"output_tokens": 50, "input_tokens": 0, "service_tier": None})
    told.add(sums, {"cache_creation": {"ephemeral_1h_input_tokens": 5}})
    told.add(sums, {"cache_creation": {"ephemeral_5m_input_tokens": 2}, "new": [1]})
    told.add(sums, None)
    told.add(sums, [3])
    assert sums == {
        "input_tokens": 100,
        "output_tokens": 50,
        "service_tier": "standard",
        "cache_creation": {"ephemeral_1h_input_tokens": 5, "ephemeral_5m_input_tokens": 2},
        "new": [1],
    }
    assert told.kept(sums) == sums


def test_usage_that_no_record_could_hold_is_not_kept() -> None:
    assert told.kept({}) is None
    for usage in ({"a": {1, 2j}}, {"a": "x" * 100_000}, {"a": "\ud83d"}):
        assert told.kept(usage) == {"unreadable": True}


class TestRatio:
    def test_it_begins_with_few_characters_a_token(self) -> None:
        assert Ratio().tokens(int(3_000 * FIRST)) == 3_000
        assert Ratio().tokens(1) == 1
        assert Ratio().tokens(0) == 0

    def test_it_learns(self) -> None:
        ratio = Ratio()
        for _ in range(100):
            ratio.learn(50_000, 10_000)
        assert ratio.tokens(50_000) == pytest.approx(10_000, rel=0.02)
        for _ in range(100):
            ratio.learn(20_000, 10_000)
        assert ratio.tokens(50_000) > 20_000, "what it learned long ago counts less and less"

    def test_hidden_thinking_teaches_nothing(self) -> None:
        ratio = Ratio()
        ratio.learn(10, 100_000)
        ratio.learn(0, 5)
        ratio.learn(5, 0)
        assert ratio.tokens(3_000) == Ratio().tokens(3_000)


def test_the_table_says_its_age() -> None:
    assert TABLE.retrieved_at is not None
    day = date.fromordinal(TABLE.retrieved_at.toordinal() + prices.STALE_DAYS + 1)
    age = prices.age_days(TABLE, day)
    assert age is not None
    assert age > prices.STALE_DAYS
    assert prices.age_days(prices.Prices(models={}), day) is None
    assert prices.price_of("claude-haiku-4-5-20251001", TABLE) is not None
    assert prices.price_of("claude-new-9", TABLE) is None
