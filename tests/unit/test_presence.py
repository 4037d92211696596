"""What heartbeats mean: who is lost, who serves, what runs; by the listener's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentflow.protocol import limits
from agentflow.protocol.control import Heartbeat
from agentflow.rules import presence
from agentflow.rules.presence import KEPT, News, Seen, Serving

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def beat(name: str = "w", **fields: Any) -> Heartbeat:
    return Heartbeat(**{
        "role": "worker", "actor": f"{name}-1", "name": name, "host": "h", "pid": 1,
        "version": "0", "started": NOW, "time": NOW, "interval_s": 2.0, **fields,
    })  # fmt: skip


def hear(seen: dict[str, Seen], spoken: Heartbeat, at: float) -> News | None:
    return presence.hear(seen, spoken, at, Seen)


@pytest.mark.parametrize(
    ("interval", "silent", "least", "lost"),
    [
        (2.0, 5.0, limits.LOST_AFTER, False),
        (2.0, 5.1, limits.LOST_AFTER, True),
        (0.1, 5.0, limits.LOST_AFTER, False),  # nobody sooner than one with the usual interval
        (60.0, 149.0, limits.LOST_AFTER, False),  # who speaks rarely is waited for
        (60.0, 151.0, limits.LOST_AFTER, True),
        (0.1, 0.4, 0.3, True),
        (0.1, 0.2, 0.3, False),
        (2.0, -3.0, limits.LOST_AFTER, False),  # a clock that was set back
    ],
)
def test_lost_is_who_is_silent_for_two_and_a_half_intervals(
    interval: float, silent: float, least: float, lost: bool
) -> None:
    seen = Seen(beat(interval_s=interval), 100.0)
    assert seen.lost(100.0 + silent, least) is lost


def test_each_heartbeat_tells_what_was_not_known() -> None:
    seen: dict[str, Seen] = {}
    told = [
        hear(seen, spoken, at)
        for at, spoken in (
            (0.0, beat()),
            (2.0, beat()),
            (20.0, beat()),
            (22.0, beat(stopping=True)),
            (24.0, beat(stopping=True)),
            (25.0, beat(interval_s=0.0)),
            (26.0, beat(interval_s=0.0)),
        )
    ]
    assert told == [News.NEW, None, News.BACK, News.DRAINING, None, News.LEFT, None]
    assert seen == {}


def test_a_heartbeat_that_comes_late_changes_nothing() -> None:
    seen: dict[str, Seen] = {}
    hear(seen, beat(done=2), 10.0)
    assert hear(seen, beat(done=1), 9.0) is None
    assert (seen["w-1"].beat.done, seen["w-1"].at) == (2, 10.0)


def test_what_could_not_be_heard_is_nobodys_silence() -> None:
    """Heard at 0 and at 90, deaf from 91 to 200."""
    seen: dict[str, Seen] = {}
    hear(seen, beat("long"), 0.0)
    hear(seen, beat("short"), 90.0)
    presence.hearing_again(seen.values(), 200.0, deaf_since=91.0)
    assert seen["long-1"].lost(201.0)  # it was lost before
    assert not seen["short-1"].lost(201.0)
    assert seen["short-1"].age(201.0) == 1.0
    assert seen["short-1"].lost(206.0)  # now the silence is its own
    hear(seen, beat("long"), 202.0)
    assert not seen["long-1"].lost(203.0)


def test_on_the_first_connection_everybody_has_the_time_to_speak() -> None:
    seen = {"w-1": Seen(beat(), 0.0)}
    presence.hearing_again(seen.values(), 100.0)
    assert not seen["w-1"].lost(101.0)


def test_who_is_lost_for_long_is_forgotten_and_so_is_the_longest_silent_of_too_many() -> None:
    seen = {name: Seen(beat(name), at) for name, at in (("a", 1.0), ("c", 30.0), ("b", 20.0))}
    presence.forget(seen, 1.0 + KEPT)
    assert list(seen) == ["a", "c", "b"]
    presence.forget(seen, 2.0 + KEPT)
    assert list(seen) == ["c", "b"]
    presence.forget(seen, 2.0 + KEPT, most=1)
    assert list(seen) == ["c"]


def test_silence_means_nothing_until_everybody_had_the_time_to_speak() -> None:
    assert not presence.is_settled(10.0, 10.0 + limits.LOST_AFTER)
    assert presence.is_settled(10.0, 10.1 + limits.LOST_AFTER)
    assert presence.ONE_BEAT > limits.HEARTBEAT


def test_a_queue_has_the_slots_of_those_that_take_from_it() -> None:
    living = [
        beat("a", queues=["q", "mail"], slots=4),
        beat("b", queues=["q"], slots=3),
        beat("c", queues=["q", "old"], slots=9, stopping=True),
    ]
    assert presence.by_queue(living) == {
        "q": Serving(2, 7),
        "mail": Serving(1, 4),
        "old": Serving(0, 0),
    }


@pytest.mark.parametrize(
    ("kinds", "kind", "knows"),
    [(["echo"], "echo", True), (["echo"], "claude", False), ([], "claude", True)],
)
def test_a_worker_knows_the_kinds_it_lists(kinds: list[str], kind: str, knows: bool) -> None:
    assert presence.knows(beat(kinds=kinds), kind) is knows


@pytest.mark.parametrize(
    ("messages", "workers", "pulls", "settled", "unserved"),
    [
        (1, 0, 0, True, True),
        (0, 0, 0, True, False),
        (1, 1, 0, True, False),  # a busy worker has no pull waiting
        (1, 0, 1, True, False),  # somebody who sends no heartbeats takes it
        (1, 0, 0, False, False),
    ],
)
def test_a_queue_is_unserved_when_it_holds_messages_and_nobody_takes_them(
    messages: int, workers: int, pulls: int, settled: bool, unserved: bool
) -> None:
    given = {"messages": messages, "workers": workers, "pulls": pulls}
    assert presence.is_unserved(**given, settled=settled) is unserved


@pytest.mark.parametrize(
    ("pulls", "in_hand", "paused", "served"),
    [
        (1, 0, False, True),
        (1, 5, True, True),
        (0, 5, False, None),
        (0, 0, True, None),
        (0, 0, False, False),
    ],
)
def test_consumers_tell_whether_a_queue_is_served_or_that_a_worker_must_be_asked(
    pulls: int, in_hand: int, paused: bool, served: bool | None
) -> None:
    assert presence.attended(pulls=pulls, in_hand=in_hand, paused=paused) is served


def test_a_view_says_what_the_heartbeat_says() -> None:
    spoken = beat(queues=["q"], kinds=["echo"], slots=3, running=2, held=1, stopping=True)
    view = presence.view(spoken, lost=True, age=1.23456, at=NOW)
    assert (view.actor, view.queues, view.slots, view.running, view.held) == (
        "w-1", ["q"], 3, 2, 1,
    )  # fmt: skip
    assert (view.lost, view.stopping, view.age_s, view.last_heartbeat) == (True, True, 1.235, NOW)
