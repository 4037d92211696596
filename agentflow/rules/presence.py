"""What heartbeats mean: who is there, who is lost, who serves a queue, what is run. Pure.

An actor speaks every `interval_s`. Who is silent for two and a half of them is lost until it speaks
again; an interval of 0 is the last word. All times are seconds by the clock of whoever listens, and
what it was too deaf to hear is nobody's silence.

    hear, hearing_again, forget         the fold: heartbeats into `Seen`, by actor
    serves, knows, running_of           of one worker
    by_queue, is_unserved, attended     of a queue
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from heapq import nsmallest
from typing import Final, Protocol, TypeVar

import msgspec

from agentflow.protocol import limits
from agentflow.protocol.api import WorkerView
from agentflow.protocol.control import Heartbeat

MISSED: Final = 2.5
"""Intervals of silence after which an actor is lost."""
KEPT: Final = 3600.0
"""Seconds of silence after which a lost one is forgotten."""
ONE_BEAT: Final = limits.HEARTBEAT + 0.5
"""Seconds in which every actor that lives has spoken once."""
SETTLED: Final = limits.LOST_AFTER
"""Seconds of listening after which who was not heard is not there, whatever became of one beat."""


class News(Enum):
    """What a heartbeat says that was not known."""

    NEW = auto()
    BACK = auto()
    """It was lost."""
    DRAINING = auto()
    LEFT = auto()


@dataclass(slots=True)
class Seen:
    """An actor's last heartbeat and when it came. `since`: when we began to hear, if that is later;
    before it the silence was ours."""

    beat: Heartbeat
    at: float
    since: float = float("-inf")

    def hear(self, beat: Heartbeat, at: float) -> None:
        """Take a later heartbeat."""
        self.beat, self.at = beat, at

    def age(self, now: float) -> float:
        """Seconds of silence."""
        return max(0.0, now - max(self.at, self.since))

    def lost(self, now: float, least: float = limits.LOST_AFTER) -> bool:
        """Whether it should have spoken long ago; nobody is lost before `least` seconds."""
        return self.age(now) > max(least, MISSED * self.beat.interval_s)


S = TypeVar("S", bound=Seen)


def said_goodbye(beat: Heartbeat) -> bool:
    """Whether this heartbeat announces no next."""
    return beat.interval_s <= 0


def hear(
    seen: dict[str, S], beat: Heartbeat, at: float, make: Callable[[Heartbeat, float], S]
) -> News | None:
    """Fold a heartbeat in; one that comes late changes nothing."""
    before = seen.get(beat.actor)
    if said_goodbye(beat):
        return News.LEFT if seen.pop(beat.actor, None) is not None else None
    if before is None:
        seen[beat.actor] = make(beat, at)
        return News.NEW
    if at < before.at:
        return None
    lost, stopping = before.lost(at), before.beat.stopping
    before.hear(beat, at)
    return News.BACK if lost else News.DRAINING if beat.stopping and not stopping else None


def hearing_again(
    seen: Iterable[Seen],
    now: float,
    *,
    deaf_since: float = float("-inf"),
    least: float = limits.LOST_AFTER,
) -> None:
    """We are connected again: who was not lost when we grew deaf has the time to speak."""
    for each in seen:
        if not each.lost(deaf_since, least):
            each.since = max(each.since, now)


def forget(seen: dict[str, S], now: float, most: int | None = None) -> None:
    """Drop who has been lost for long, and beyond `most` the longest silent."""
    gone = [actor for actor, each in seen.items() if each.age(now) > KEPT]
    for actor in gone:
        del seen[actor]
    if most is not None and len(seen) > most:
        for actor in nsmallest(len(seen) - most, seen, key=lambda actor: seen[actor].at):
            del seen[actor]


def is_settled(listening_since: float, now: float) -> bool:
    """Whether everybody who lives has had the time to say so, and silence means something."""
    return now - listening_since > SETTLED


def view(
    beat: Heartbeat, *, lost: bool = False, age: float = 0.0, at: datetime | None = None
) -> WorkerView:
    """A worker for people and programs; `at` and `age`: when its heartbeat came."""
    return WorkerView(
        actor=beat.actor,
        name=beat.name,
        pid=beat.pid,
        host=beat.host,
        role=beat.role,
        queues=beat.queues,
        kinds=beat.kinds,
        slots=beat.slots,
        running=beat.running,
        held=beat.held,
        done=beat.done,
        failed=beat.failed,
        lost=lost,
        stopping=beat.stopping,
        last_heartbeat=at,
        age_s=round(age, 3),
        version=beat.version,
        rss_bytes=beat.rss_bytes,
        loop_lag_ms=beat.loop_lag_ms,
        simulated=beat.simulated,
        notes=beat.notes,
        batches=beat.batches,
    )


# Of one worker.


class Worker(Protocol):
    """What a heartbeat and a view of a worker both say."""

    @property
    def queues(self) -> Sequence[str]: ...
    @property
    def kinds(self) -> Sequence[str]: ...
    @property
    def stopping(self) -> bool: ...


def serves(worker: Worker, queue: str) -> bool:
    """Whether a living worker takes tasks of a queue; one that stops takes none."""
    return queue in worker.queues and not worker.stopping


def knows(worker: Worker, kind: str) -> bool:
    """Whether it runs a kind; one that lists none does not say."""
    return not worker.kinds or kind in worker.kinds


def running_of(beat: Heartbeat, queue: str | None, kind: str | None) -> int:
    """How many tasks of a queue, or of a kind, a worker runs."""
    if not beat.work and beat.running:
        # An older worker: it names 200 tasks at most, and the rest may be anything.
        named = sum(queue == task.queue or kind == task.kind for task in beat.tasks)
        return named + max(0, beat.running - len(beat.tasks))
    return sum(
        count
        for its_queue, kinds in beat.work.items()
        for its_kind, count in kinds.items()
        if queue == its_queue or kind == its_kind
    )


# Of a queue.


class Serving(msgspec.Struct):
    """Who takes tasks of a queue: so many workers, with so many slots between them."""

    workers: int = 0
    slots: int = 0


def by_queue(living: Iterable[Heartbeat]) -> dict[str, Serving]:
    """Who serves which queue. One whose workers all stop is named, and served by nobody."""
    queues: dict[str, Serving] = {}
    for beat in living:
        for queue in beat.queues:
            serving = queues.setdefault(queue, Serving())
            if serves(beat, queue):
                serving.workers += 1
                serving.slots += beat.slots
    return queues


def is_unserved(*, messages: int, workers: int, pulls: int, settled: bool = True) -> bool:
    """Whether a queue holds messages and nobody takes them.

    A pull that waits is a worker too, whoever it is; and a busy worker has none waiting.
    """
    return settled and messages > 0 and workers == 0 and pulls == 0


def attended(*, pulls: int, in_hand: int, paused: bool) -> bool | None:
    """Whether a queue is served, by its consumers alone; None: any worker's word decides.

    Whoever has messages in hand may be busy or dead, and nobody pulls from a paused queue.
    """
    if pulls:
        return True
    return None if in_hand or paused else False
