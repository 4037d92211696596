"""The filter language."""

from __future__ import annotations

import msgspec
import pytest

from agentflow.dashboard.reader.pane import Pane
from agentflow.protocol.record import Usage
from agentflow.views import query
from agentflow.views.query import QueryError, parse
from agentflow.views.row import Row, encode_labels

CATASTROPHES = (
    "(a+)+$",
    "(a|a)*#",
    "(a|aa)+$",
    "(a*)*#",
    "([a-z]+)*#\\d",
    "(.*)*#",
    "(.*a){20}#",
    "(\\w+\\s?)*#",
    "(a+a+)+#",
    "^(([a-z])+.)+#([a-z])+$",
)
"""Patterns at which a matcher that goes back tries more ways than there are seconds."""

NOW = 1_790_000_000.0
ROW = Row(
    id="pr-3127",
    sequence=7,
    state="running",
    queue="review",
    updated=round((NOW - 10) * 1000),
    priority="high",
    kind="claude",
    model="claude-opus-4-5",
    labels=encode_labels({"team": "core", "note": "two words"}),
    attempt=2,
    failures=1,
    actor="w-031-5c1e",
    submitted=round((NOW - 700) * 1000),
    started=round((NOW - 600) * 1000),
    reason="overloaded",
    stop_reason="end_turn",
    usage=Usage(1_000, 500),
    cost=250_000,
    note="the lock is taken twice",
    error="APITimeoutError: no answer",
    fingerprint="3f9c21",
)


FIRST = msgspec.structs.replace(ROW, due=ROW.submitted)


def wants(text: str, row: Row = FIRST) -> bool:
    return parse(text).wants(row, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "state:running",
        "state:queued,running",
        "state:run*",
        "queue:review",
        "kind:claude",
        "model:claude-opus-4-5",
        "model:*opus*",
        "worker:w-031",
        "worker:w-031-5c1e",
        "priority:high",
        "reason:overloaded",
        "error:APITimeoutError*",
        "stop:end_turn",
        "group:3f9c",
        "id:pr-3127",
        "label:team",
        "label:team=core",
        "label:team=c*",
        'label:"note=two words"',
        "cost>0.2",
        "cost>=$0.25",
        "cost=0.25",
        "cost<1",
        "age>10m",
        "age<1h",
        "wait>1m",
        "wait<=100s",
        "run>=10m",
        "run<700000ms",
        "attempt>=2",
        "attempt=2",
        "failures>0",
        "tokens>1k",
        "out=500",
        "lock",
        "LOCK.*twice",
        '"taken twice"',
        "timeout",
        "opus",
        "https://?",
        "!state:failed",
        "!queue:default lock",
        'label:note="two words"',
        "state:running kind:claude !label:team=web",
        "state:failed or queue:review",
        "queue:review or state:failed",
        "state:failed | queue:review kind:claude",
        "state:run",
        "",
    ],
)
def test_a_term_finds_the_task_it_describes(text: str) -> None:
    if text == "https://?":
        assert not wants(text)
        return
    assert wants(text)
    if text and " " not in text and not text.startswith("!"):
        assert not wants(f"!{text}")


@pytest.mark.parametrize(
    "text",
    [
        "state:failed",
        "queue:rev-iew",
        "worker:w-032",
        "label:team=web",
        "label:owner",
        "cost>0.3",
        "age>1h",
        "attempt>2",
        "lock$",
        "!running !lock",
        "state:running queue:default",
    ],
)
def test_a_term_leaves_out_the_others(text: str) -> None:
    assert not wants(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stat:failed", "there is no field stat"),
        ("owner:me", "there is no field owner"),
        ("state:faild", "there is no state faild; did you mean failed"),
        ("!state:running,don", "there is no state don"),
        ("priority:hihg", "did you mean high"),
        ("cost>abc", "cost>abc cannot be read: write it like cost>0.5"),
        ("cost>10m", "cannot be read"),
        ("age>10", None),
        ("age>10k", "cannot be read: write it like age>10m"),
        ("cost:1", "cost is a number: cost>1"),
        ("size>3", "there is no field size"),
        ("or lock", "stands between two sides"),
        ("lock or", "stands between two sides"),
        ("lock or or x", "stands between two sides"),
        ("(?=a)b", "there is no look-around"),
        ("(a)\\1", "there are no back-references"),
        ("a" * 2_000, "at most 1,000"),
        ('"open', "a quotation mark is open"),
        ("(broken", "is no pattern"),
        ("*x", "is no pattern"),
    ],
)
def test_what_is_no_filter_is_refused_with_what_to_type(text: str, said: str | None) -> None:
    if said is None:
        parse(text)
        return
    with pytest.raises(QueryError, match=said):
        parse(text)


def test_every_field_can_be_asked_for() -> None:
    for field in query.FIELDS:
        value = query.VALUES.get(field, ("x",))[0]
        parse(f"{field}>1" if field in query._NUMBER else f"{field}:{value}")


@pytest.mark.parametrize("text", CATASTROPHES)
def test_no_pattern_takes_more_time_than_the_text_is_long(text: str) -> None:
    """Each of them would take the standard library longer than this test run."""
    row = msgspec.structs.replace(ROW, error="a" * 110 + "!", note="a " * 60 + "!")
    found = parse(text)
    assert not found.wants(row, NOW)
    assert not any(found.wants(row, NOW) for _ in range(100))
    pane = Pane()
    pane.search(text)
    pane.next(1, ["a" * 10_000 + "!"])
    assert pane.said == "not found"


def test_only_what_the_clock_moves_is_timed() -> None:
    assert parse("age>10m").timed
    assert parse("kind:x !wait>5s").timed
    assert not parse("cost>1 state:failed").timed


def test_a_task_without_a_price_or_a_start_passes_no_comparison() -> None:
    bare = Row(id="a", sequence=1, state="queued", queue="q", updated=0, cost=None)
    assert not wants("cost<1", bare)
    assert not wants("run>0", bare)
    assert not wants("wait>0", bare)


@pytest.mark.parametrize("value", ["core", "two words", 'a "b"', "x,y", "[z]*", "q'r"])
def test_a_term_made_for_a_value_finds_it(value: str) -> None:
    row = Row(
        id="a",
        sequence=1,
        state="queued",
        queue="q",
        updated=0,
        labels=encode_labels({"team": value}),
    )
    assert wants(query.term("label", f"team={value}"), row)


def test_waiting_and_running_times() -> None:
    first = msgspec.structs.replace(ROW, attempt=1)
    assert query.wait(first, NOW) == pytest.approx(100)
    # When the lost worker's attempt might have started again nobody knows.
    assert query.wait(ROW, NOW) is None
    due = msgspec.structs.replace(ROW, due=round((NOW - 603) * 1000))
    assert query.wait(due, NOW) == pytest.approx(3)
    parked = msgspec.structs.replace(ROW, state="retrying", resume_at=round((NOW + 5) * 1000))
    assert query.wait(parked, NOW) is None
    assert query.wait(parked, NOW + 7) == pytest.approx(2)
    assert query.run(ROW, NOW) == pytest.approx(600)
    assert query.age(ROW, NOW) == pytest.approx(700)
