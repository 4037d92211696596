"""Whose turn it is among queues and priorities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.rules.rota import CYCLE, Rota

TIERS = (("a-high", "b-high"), ("a-normal", "b-normal"), ("a-low", "b-low"))
EVERY = frozenset(name for tier in TIERS for name in tier)


def turns(rota: Rota[str], count: int, ready: Collection[str] = EVERY) -> list[str | None]:
    return [rota.next(lambda source: source in ready) for _ in range(count)]


def priorities(picked: list[str | None]) -> list[str]:
    return [source.partition("-")[2] for source in picked if source is not None]


def test_of_eight_turns_one_goes_to_normal_first_and_one_to_low() -> None:
    order = priorities(turns(Rota(TIERS), 2 * CYCLE))
    assert order[:CYCLE] == ["high", "high", "high", "normal", "high", "high", "high", "low"]
    assert order[CYCLE:] == order[:CYCLE]


def test_without_a_backlog_of_its_own_a_leading_priority_gives_its_turn_to_the_highest() -> None:
    assert priorities(turns(Rota(TIERS), CYCLE, TIERS[0])) == ["high"] * CYCLE
    assert priorities(turns(Rota(TIERS), CYCLE, ("a-normal", "a-low"))) == [
        *["normal"] * (CYCLE - 1),
        "low",
    ]


def test_the_queues_of_a_priority_take_turns() -> None:
    assert turns(Rota([["a", "b", "c"]]), 7, "abc") == ["a", "b", "c", "a", "b", "c", "a"]


def test_a_queue_that_is_not_ready_loses_its_turn_to_the_next() -> None:
    rota = Rota([["a", "b", "c"]])
    assert turns(rota, 3, "ac") == ["a", "c", "a"]
    assert turns(rota, 2, "abc") == ["b", "c"]


def test_none_is_ready() -> None:
    assert turns(Rota(TIERS), 3, ()) == [None, None, None]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_priority_leads_in_one_turn_of_a_cycle(count: int) -> None:
    names = [str(number) for number in range(count)]
    picked = Counter(turns(Rota([[name] for name in names]), CYCLE, names))
    assert picked["0"] == CYCLE - (count - 1)
    assert all(picked[name] == 1 for name in names[1:])


@given(st.sets(st.sampled_from(sorted(EVERY)), min_size=1))
def test_whoever_stays_ready_is_reached(ready: set[str]) -> None:
    assert set(turns(Rota(TIERS), 4 * CYCLE, ready)) == ready
