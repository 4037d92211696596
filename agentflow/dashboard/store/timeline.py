"""The past as a store: records in the stream's order, folded up to a place by the same reducer.

Copies of the store on the way (checkpoints) make stepping back quick. They are bounded: the further
from where one is, the fewer stay, so that a step costs little and a leap no more than it must.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agentflow.dashboard.store.store import Store
from agentflow.views import feed
from agentflow.views.row import Row

EVERY: Final = 2_000
"""Records between two checkpoints."""
MOST: Final = 24
ROWS: Final = 500_000
"""Rows in all checkpoints together: a copy has a hundred bytes for each."""


@dataclass(frozen=True, slots=True, order=True)
class Checkpoint:
    """The picture after the record of a sequence."""

    sequence: int
    store: Store = field(compare=False)


class Timeline:
    """The fold of the records after `base`, and where it stands.

    `store` is the picture after the record `place`, which was stored at `at` (seconds since 1970);
    before any record it is empty and `place` is `base`.
    """

    def __init__(self, base: int, *, older: int = 0, every: int = EVERY) -> None:
        self.base = base
        self.older = older
        """Records before those that are folded."""
        self.every = every
        self.place = base
        self.at = 0.0
        self.store = self._empty()
        self.checkpoints: list[Checkpoint] = []
        self._since = 0

    def _empty(self) -> Store:
        store = Store()
        store.known.older = self.older
        return store

    def back(self, sequence: int) -> None:
        """Go to the last place at or before `sequence` from which folding on is shortest.

        What is still missing up to there is after `place`.
        """
        at = bisect_right(self.checkpoints, sequence, key=_sequence)
        checkpoint = self.checkpoints[at - 1] if at else None
        nearest = checkpoint.sequence if checkpoint is not None else self.base
        if nearest <= self.place <= sequence:
            return
        self.place = nearest
        self.store = checkpoint.store.copy() if checkpoint is not None else self._empty()
        self.at = self.store.heard
        self._since = 0

    def fold(self, rows: Sequence[Row]) -> None:
        """Take the records that follow, in their order; others are left out."""
        ahead = [row for row in rows if row.sequence > self.place]
        while ahead:
            part, ahead = ahead[: self.every - self._since], ahead[self.every - self._since :]
            last = part[-1]
            self.store.apply(feed.Rows(at=last.updated / 1000, rows=part))
            self.place, self.at = last.sequence, last.updated / 1000
            self._since += len(part)
            if self._since >= self.every:
                self._since = 0
                self._keep()

    def _keep(self) -> None:
        """Make a checkpoint here, and let go of those that are missed least."""
        at = bisect_right(self.checkpoints, self.place, key=_sequence)
        if at and self.checkpoints[at - 1].sequence == self.place:
            return
        insort(self.checkpoints, Checkpoint(self.place, self.store.copy()), key=_sequence)
        while len(self.checkpoints) > 1 and (
            len(self.checkpoints) > MOST
            or sum(len(each.store.rows) for each in self.checkpoints) > ROWS
        ):
            del self.checkpoints[self._least()]

    def _least(self) -> int:
        """The checkpoint without which the way grows least, for how far it is from here."""

        def worth(at: int) -> float:
            before = self.checkpoints[at - 1].sequence if at else self.base
            last = at + 1 == len(self.checkpoints)
            after = self.place if last else self.checkpoints[at + 1].sequence
            here = self.checkpoints[at].sequence
            return (max(after, here) - before) / (self.every + abs(here - self.place))

        return min(range(len(self.checkpoints)), key=worth)


def _sequence(checkpoint: Checkpoint) -> int:
    return checkpoint.sequence
