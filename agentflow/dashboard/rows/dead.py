"""Failed tasks as rows: by the cause that they have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agentflow.dashboard.reader.scene import Letter, Scene
from agentflow.dashboard.rows.units import Instant, dollars, instant
from agentflow.views.row import decode_labels

NO_CAUSE: Final = "unknown"
MOST_IDS: Final = 1000
"""Tasks that a group names."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Failed tasks of one cause. `group` is the fingerprint of their error, None where unknown."""

    group: str | None
    tasks: int
    reason: str | None
    error: str | None
    first: Instant
    last: Instant
    wasted_usd: float
    ids: list[str]


@dataclass(slots=True)
class Cause:
    """Letters with one fingerprint; `first` is when the first of them failed."""

    fingerprint: str
    newest: Letter
    letters: list[Letter] = field(default_factory=list)
    wasted: int = 0
    first: float = float("inf")
    kinds: Counter[str] = field(default_factory=Counter)
    queues: Counter[str] = field(default_factory=Counter)

    def add(self, letter: Letter, wasted: int) -> None:
        """One more."""
        self.letters.append(letter)
        self.wasted += wasted
        self.first = min(self.first, letter.at)
        if (letter.at, letter.id) > (self.newest.at, self.newest.id):
            self.newest = letter
        self.kinds[letter.kind] += 1
        self.queues[letter.queue] += 1


def cause_of(letter: Letter) -> str:
    """The cause of a letter."""
    return letter.fingerprint or NO_CAUSE


def causes(scene: Scene, letters: Iterable[Letter]) -> dict[str, Cause]:
    """The letters by fingerprint."""
    by_cause: dict[str, Cause] = {}
    for letter in letters:
        name = cause_of(letter)
        cause = by_cause.get(name)
        if cause is None:
            cause = by_cause[name] = Cause(name, letter)
        cause.add(letter, scene.store.wasted(letter.id))
    return by_cause


def failed(scene: Scene) -> list[Letter]:
    """The failed tasks of the store, as letters."""
    rows = (scene.store.rows.get(task_id) for task_id in scene.store.totals.failed)
    return [
        Letter(
            id=row.id,
            queue=row.queue,
            kind=row.kind,
            reason=row.reason or "",
            error=row.error or "",
            fingerprint=row.fingerprint,
            attempts=row.attempt,
            at=row.updated / 1000,
            labels=decode_labels(row.labels) if row.labels else {},
        )
        for row in rows
        if row is not None
    ]


def groups(scene: Scene) -> list[Group]:
    """The failed tasks of the store, so the newest that are known; the most of one cause first."""
    rows = scene.store.rows
    by_cause = sorted(causes(scene, failed(scene)).values(), key=lambda cause: -len(cause.letters))
    return [
        Group(
            group=cause.letters[0].fingerprint or None,
            tasks=len(cause.letters),
            reason=cause.letters[0].reason or None,
            error=cause.letters[0].error or None,
            first=instant(cause.first),
            last=instant(cause.newest.at),
            wasted_usd=dollars(sum(rows[letter.id].cost or 0 for letter in cause.letters)),
            ids=[letter.id for letter in cause.letters[:MOST_IDS]],
        )
        for cause in by_cause
    ]
