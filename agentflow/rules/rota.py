"""Whose turn it is: queues of several priorities, asked one after the other. Pure.

Priorities are strict, but for two turns in eight: one begins with the lowest, one with the middle,
so that none starves. The queues of one priority take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

Source = TypeVar("Source")

CYCLE: Final = 8
"""Turns after which the order begins anew; each priority but the highest leads in one of them."""


class _Tier(Generic[Source]):
    """The sources of one priority, and which is next."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._next = 0

    def pick(self, ready: Callable[[Source], bool]) -> Source | None:
        count = len(self._sources)
        for step in range(count):
            at = (self._next + step) % count
            if ready(self._sources[at]):
                self._next = (at + 1) % count
                return self._sources[at]
        return None


class Rota(Generic[Source]):
    """The order of `tiers`, highest priority first."""

    def __init__(self, tiers: Sequence[Sequence[Source]]) -> None:
        self._tiers = [_Tier(tier) for tier in tiers]
        self._leads = {CYCLE * at // (len(tiers) - 1) - 1: at for at in range(1, len(tiers))}
        self._turn = -1

    def next(self, ready: Callable[[Source], bool]) -> Source | None:
        """The source whose turn it is, of those that are `ready`; None when none is."""
        self._turn = (self._turn + 1) % CYCLE
        lead = self._leads.get(self._turn, 0)
        for tier in (self._tiers[lead], *self._tiers):
            source = tier.pick(ready)
            if source is not None:
                return source
        return None
