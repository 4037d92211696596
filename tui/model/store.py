"""All that is known: items of the feed are folded in, views read.

`apply` may be called with items in any order and more than once; of two rows of a task the one with
the higher sequence stays. What changed is noted in sets that a view asks for with `watch`, so that
nothing has to look at a hundred thousand rows to find the three that are new.

Time is always given: `now` is the server's clock in seconds since 1970, that of the live feed, of a
recording, or of the moment travelled to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from agentflow.protocol import limits, subjects
from agentflow.protocol.api import GateView
from agentflow.protocol.control import Heartbeat
from agentflow.protocol.record import State
from agentflow.rules import feed
from agentflow.rules.projection import Row, supersedes
from tui.model.tokens import TokenText
from tui.model.totals import Totals

LIMIT: Final = 100_000
"""Finished tasks that are kept; the ones that ended first go first."""
EVENTS: Final = 2_000
LOST_KEPT: Final = 3_600.0
"""Seconds for which a lost worker is shown."""
TEXTS: Final = 8
"""Tasks whose generated text is kept, those that are followed no more among them."""


@dataclass(slots=True)
class Actor:
    """A worker or master: its last heartbeat, and when that came (server's clock)."""

    beat: Heartbeat
    at: float

    def age(self, now: float) -> float:
        """Seconds of silence."""
        return max(0.0, now - self.at)

    def lost(self, now: float) -> bool:
        """Whether it should have said something long ago."""
        return self.age(now) > max(limits.LOST_AFTER, 2.5 * self.beat.interval_s)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: to a task (`row`), or to what `subject` names."""

    at: float
    row: Row | None = None
    subject: str = ""
    text: str = ""
    token: str = "text"


@dataclass(slots=True)
class Known:
    """How complete the picture is."""

    done: int = 0
    total: int = 0
    older: int = 0
    evicted: int = 0

    @property
    def complete(self) -> bool:
        """Whether all that the feed reads has been read."""
        return self.done >= self.total


@dataclass(slots=True)
class Store:
    """The fold."""

    limit: int = LIMIT
    rows: dict[str, Row] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    actors: dict[str, Actor] = field(default_factory=dict)
    gates: list[GateView] = field(default_factory=list)
    depths: dict[str, feed.QueueDepth] = field(default_factory=dict)
    dead: int = 0
    link: feed.Link | None = None
    linked_at: float = 0.0
    """When the link came up or was lost."""
    known: Known = field(default_factory=Known)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS))
    tokens: dict[str, TokenText] = field(default_factory=dict)
    """Text of the tasks that are followed."""
    revision: int = 0
    """Grows whenever anything changed."""
    heard: float = 0.0
    """When the last item became known."""
    items: int = 0
    """Rows taken, for the dashboard's own meter."""
    _watchers: list[set[str]] = field(default_factory=list)
    _finished: deque[tuple[str, int]] = field(default_factory=deque)
    _unseen: dict[str, int] = field(default_factory=dict)
    _last_sequence: int = 0

    # Folding.

    def apply(self, item: feed.Item) -> None:
        """Take an item of the feed."""
        self.revision += 1
        self.heard = max(self.heard, item.at)
        match item:
            case feed.Rows():
                self._rows(item)
            case feed.Beat():
                self._beat(item)
            case feed.Tokens():
                if (text := self.tokens.get(item.id)) is not None:
                    text.take(item.attempt, item.offset, item.text)
            case feed.Depths():
                self._depths(item)
            case feed.Gates():
                self._gates(item)
            case feed.Link():
                self._link(item)
            case feed.Loading():
                self.known.done, self.known.total = item.done, item.total
                self.known.older = item.older
            case feed.Anew():
                self._anew(item.stream)

    def follow(self, ids: Iterable[str]) -> None:
        """Keep the text that is generated for these tasks; what was followed before goes first."""
        for task_id in ids:
            # To the end of the order, in which the first is the one to go.
            text = self.tokens.pop(task_id, None)
            self.tokens[task_id] = TokenText() if text is None else text
        while len(self.tokens) > TEXTS:
            del self.tokens[next(iter(self.tokens))]

    def watch(self) -> set[str]:
        """A set to which the ids of changed rows are added from now on; empty it at will."""
        changed: set[str] = set()
        self._watchers.append(changed)
        return changed

    def unwatch(self, changed: set[str]) -> None:
        """Add to it no more."""
        self._watchers = [each for each in self._watchers if each is not changed]

    def _rows(self, item: feed.Rows) -> None:
        rows, totals = self.rows, self.totals
        for row in item.rows:
            old = rows.get(row.id)
            if old is not None:
                if not supersedes(row, old.sequence):
                    continue
                totals.remove(old)
            rows[row.id] = row
            totals.add(row)
            self.items += 1
            if row.sequence == 0:
                self._unseen[row.id] = _message_sequence(row)
            elif old is not None and old.sequence == 0:
                self._unseen.pop(row.id, None)
            if row.finished:
                self._finished.append((row.id, row.sequence))
            if row.sequence > self._last_sequence:
                self._last_sequence = row.sequence
                self.events.append(Event(row.updated / 1000, row))
            for changed in self._watchers:
                changed.add(row.id)
        if len(self._finished) > self.limit:
            self._evict()

    def _evict(self) -> None:
        while len(self._finished) > self.limit:
            task_id, sequence = self._finished.popleft()
            row = self.rows.get(task_id)
            if row is not None and row.sequence == sequence:
                self._forget((task_id,))
                self.known.evicted += 1

    def _forget(self, ids: Iterable[str]) -> None:
        for task_id in ids:
            row = self.rows.pop(task_id, None)
            if row is None:
                continue
            self.totals.remove(row)
            self._unseen.pop(task_id, None)
            for changed in self._watchers:
                changed.add(task_id)

    def _anew(self, stream: str) -> None:
        if stream == subjects.RECORDS:
            self._forget([row.id for row in self.rows.values() if row.sequence])
            self._finished.clear()
            self._last_sequence = 0
        elif stream == subjects.TASKS:
            self._forget(list(self._unseen))
        self.events.append(Event(self.heard, None, stream, "was made anew", "warn"))

    def _beat(self, item: feed.Beat) -> None:
        beat = item.beat
        known = self.actors.get(beat.actor)
        if beat.interval_s <= 0:
            if self.actors.pop(beat.actor, None) is not None:
                self.events.append(Event(item.at, None, beat.name, f"{beat.role} left"))
            return
        self.actors[beat.actor] = Actor(beat, item.at)
        if known is None:
            self.events.append(Event(item.at, None, beat.name, f"{beat.role} on {beat.host}"))
        elif known.lost(item.at):
            self.events.append(Event(item.at, None, beat.name, f"{beat.role} is back", "warn"))
        elif beat.stopping and not known.beat.stopping:
            self.events.append(Event(item.at, None, beat.name, f"{beat.role} is draining"))
        for task in beat.tasks:
            if (text := self.tokens.get(task.id)) is not None:
                text.counted = max(text.counted, task.output_tokens)

    def _depths(self, item: feed.Depths) -> None:
        self.depths = {depth.queue: depth for depth in item.queues}
        self.dead = item.dead
        if item.first:
            # Its message is done with and no record came: a duplicate, or removed by hand.
            self._forget([name for name, at in self._unseen.items() if at < item.first])
        silent = [name for name, actor in self.actors.items() if actor.age(item.at) > LOST_KEPT]
        for name in silent:
            del self.actors[name]

    def _gates(self, item: feed.Gates) -> None:
        before = {gate.key: gate for gate in self.gates}
        self.gates = list(item.gates)
        for gate in item.gates:
            if gate.key not in before:
                text = f"{'closed' if gate.what == 'pool' else 'paused'} ({gate.reason})"
                self.events.append(Event(item.at, None, f"{gate.what} {gate.name}", text, "warn"))
        standing = {gate.key for gate in item.gates}
        for key, gate in before.items():
            if key not in standing:
                self.events.append(Event(item.at, None, f"{gate.what} {gate.name}", "open again"))

    def _link(self, item: feed.Link) -> None:
        if self.link is None or self.link.up != item.up:
            self.linked_at = item.at
            text = "connected" if item.up else f"connection lost: {item.detail or 'no reason'}"
            self.events.append(Event(item.at, None, "nats", text, "text" if item.up else "crit"))
            if item.up:
                # The silence was ours: nobody is lost for what could not be heard.
                for actor in self.actors.values():
                    actor.at = max(actor.at, item.at)
        self.link = item

    def copy(self) -> Store:
        """The same picture, which no longer changes with this one."""
        return replace(
            self,
            rows=self.rows.copy(),
            totals=self.totals.copy(),
            actors={name: replace(actor) for name, actor in self.actors.items()},
            known=replace(self.known),
            events=self.events.copy(),
            tokens={name: text.copy() for name, text in self.tokens.items()},
            _watchers=[],
            _finished=self._finished.copy(),
            _unseen=self._unseen.copy(),
        )

    # Reading.

    def workers(self) -> list[Actor]:
        """The workers, by name."""
        found = [actor for actor in self.actors.values() if actor.beat.role == "worker"]
        return sorted(found, key=lambda actor: (actor.beat.name, actor.beat.actor))

    def masters(self) -> list[Actor]:
        """The masters, by name."""
        found = [actor for actor in self.actors.values() if actor.beat.role == "master"]
        return sorted(found, key=lambda actor: actor.beat.name)

    def name_of(self, actor: str) -> str:
        """What people call an actor."""
        known = self.actors.get(actor)
        return known.beat.name if known is not None else actor.rpartition("-")[0] or actor

    def queues(self) -> list[str]:
        """Every queue that anything is known of."""
        served = (queue for actor in self.workers() for queue in actor.beat.queues)
        with_rows = (name for name, counts in self.totals.states.items() if counts.total())
        return sorted({*self.depths, *with_rows, *served} - {""})

    def waiting(self, queue: str) -> int:
        """Tasks of a queue that no worker has, by the server's own numbers."""
        depth = self.depths.get(queue)
        if depth is None:
            return self.totals.states[queue][State.QUEUED] if queue in self.totals.states else 0
        return sum(depth.waiting.values())


def _message_sequence(row: Row) -> int:
    text = row.message.partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
