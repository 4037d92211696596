"""Lanes: who gets how much of what a queue's workers do."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from agentflow.rules import lanes
from agentflow.rules.lanes import Lane, Shares


def work(
    shares: Shares,
    backlog: dict[str, int],
    cost: dict[str, int],
    slots: int,
    tasks: int,
    chance: random.Random,
) -> Counter[str]:
    """Tokens by lane of so many tasks, `slots` at once, that end in any order."""
    used: Counter[str] = Counter()
    running: list[tuple[str, float]] = []
    left = Counter(backlog)
    for _ in range(tasks):
        while len(running) < slots and (ready := {lane for lane in left if left[lane] > 0}):
            lane, most = shares.turn(ready)
            for _ in range(min(most, slots - len(running), left[lane])):
                left[lane] -= 1
                running.append((lane, shares.started(lane)))
            if not left[lane]:
                shares.empty(lane)
        if not running:
            break
        lane, charged = running.pop(chance.randrange(len(running)))
        tokens = int(cost[lane] * chance.uniform(0.2, 1.8))
        used[lane] += tokens
        shares.ended(lane, charged, tokens)
    return used


def share(used: Counter[str]) -> dict[str, float]:
    return {lane: tokens / used.total() for lane, tokens in sorted(used.items())}


NAMES = ("a", "b", "c", "d")


@pytest.mark.parametrize("slots", [1, 10, 100])
def test_lanes_with_backlogs_of_any_size_get_the_same_tokens(slots: int) -> None:
    backlog = dict(zip(NAMES, (1_000, 10_000, 100_000, 1_000_000), strict=True))
    cost = dict.fromkeys(NAMES, 700)
    used = work(Shares(), backlog, cost, slots, 3_500, random.Random(1))
    assert share(used) == pytest.approx(dict.fromkeys(NAMES, 0.25), abs=0.03)


def test_they_share_by_tokens_and_not_by_tasks() -> None:
    cost = {"a": 100, "b": 1_000, "c": 3_000, "d": 300}
    used = work(Shares(), dict.fromkeys(NAMES, 10**6), cost, 40, 20_000, random.Random(2))
    assert share(used) == pytest.approx(dict.fromkeys(NAMES, 0.25), abs=0.03)


def test_by_weight_that_may_change_meanwhile() -> None:
    shares, chance = Shares(), random.Random(3)
    backlog, cost = dict.fromkeys("ab", 10**6), dict.fromkeys("ab", 500)
    shares.weigh("a", 3.0)
    assert share(work(shares, backlog, cost, 20, 8_000, chance))["a"] == pytest.approx(
        0.75, abs=0.03
    )
    shares.weigh("a", 0.5)
    assert share(work(shares, backlog, cost, 20, 8_000, chance))["a"] == pytest.approx(
        0.333, abs=0.03
    )


def test_what_one_began_alone_is_not_held_against_it() -> None:
    shares = Shares()
    assert shares.turn({"a"})[0] == "a"
    charged = [shares.started("a") for _ in range(100)]
    begun = Counter[str]()
    for number in range(50):
        lane, _ = shares.turn({"a", "b"})
        begun[lane] += 1
        shares.ended(lane, shares.started(lane), 500)
        shares.ended("a", charged[number], 500)
    assert begun == {"a": 25, "b": 25}


def test_who_was_idle_has_saved_nothing_up_and_owes_little() -> None:
    shares, chance = Shares(), random.Random(4)
    cost = dict.fromkeys("ab", 500)
    work(shares, {"a": 5_000, "b": 10}, cost, 20, 5_000, chance)
    used = work(shares, dict.fromkeys("ab", 10**6), cost, 20, 4_000, chance)
    assert share(used) == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.03)


def test_tasks_without_tokens_share_by_their_number() -> None:
    used = Counter[str]()
    shares = Shares()
    for _ in range(900):
        lane, _ = shares.turn({"a", "b", "c"})
        shares.ended(lane, shares.started(lane), 0)
        used[lane] += 1
    assert max(used.values()) - min(used.values()) <= 10


def test_what_did_not_run_is_not_charged() -> None:
    shares = Shares()
    shares.turn({"a", "b"})
    for _ in range(100):
        shares.ended("a", shares.started("a"), None)
    begun = Counter[str]()
    for _ in range(8):
        lane, _ = shares.turn({"a", "b"})
        shares.started(lane)
        begun[lane] += 1
    assert begun == {"a": 4, "b": 4}


def test_keys() -> None:
    assert lanes.parse_key(lanes.key("mail", "acme")) == ("mail", "acme")
    assert lanes.parse_key(lanes.key("mail", "")) == ("mail", "")
    assert lanes.read(None) is None
    assert lanes.read(b"{}") == Lane()
    assert lanes.read(b'{"weight": 0}') == lanes.PLAIN
    assert lanes.read(b'{"weight": 2, "cap": 5, "later": 1}') == Lane(weight=2.0, cap=5)
