"""The batch lane holds in every interleaving, and each of its rules is needed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.batchmodel.model import Model
from tests.support.batchmodel.scenarios import BROKEN, LARGE, RULES

HOLDS = [
    pytest.param(
        *one,
        id=one[0],
        marks=[pytest.mark.long("up to two minutes each")] if one[0] in LARGE else [],
    )
    for one in RULES
]


@pytest.mark.parametrize(("name", "flags", "spend"), HOLDS)
def test_no_task_is_lost_or_paid_twice(name: str, flags: Any, spend: dict[str, Any]) -> None:
    verdict, worlds, way = Model(flags, **spend).search()

    assert verdict == "holds", way
    print(f"{name}: {worlds:,} worlds")


@pytest.mark.parametrize(
    ("name", "flags", "spend"), BROKEN, ids=[flags[0] for _, flags, _ in BROKEN]
)
def test_a_broken_rule_is_caught(name: str, flags: Any, spend: dict[str, Any]) -> None:
    verdict, worlds, way = Model(flags, **spend).search()

    assert verdict.startswith("VIOLATION"), f"{name} holds in {worlds:,} worlds"
    assert way
    print(f"{name}: {verdict} after {worlds:,} worlds")
