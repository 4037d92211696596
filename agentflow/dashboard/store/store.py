"""All that is known: items of the feed are folded in, views read.

`apply` may be called with items in any order and more than once; of two rows of a task the one with
the higher sequence stays. What changed is noted in sets that a view asks for with `watch`, so that
nothing has to look at a hundred thousand rows to find the three that are new. Any number of viewers
look at one store (reader/reader.py): what only one of them follows is folded by that one itself,
which hears of it with `listen`.

Time is always given: `now` is the server's clock in seconds since 1970, that of the live feed, of a
recording, or of the moment travelled to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Final, NamedTuple, Protocol

import msgspec

from agentflow.dashboard.store.totals import Totals
from agentflow.protocol import subjects
from agentflow.protocol.api import GateView
from agentflow.protocol.control import Heartbeat
from agentflow.protocol.identity import actor_name, identity_sequence
from agentflow.protocol.record import State
from agentflow.rules import presence
from agentflow.rules.presence import News, Seen
from agentflow.views import feed
from agentflow.views.row import FINISHED, Row

LIMIT: Final = 100_000
"""Finished tasks that are kept; the ones that ended first go first."""
EVENTS: Final = 2_000
FAILING: Final = frozenset({"failed", "retrying"})
"""States of records with which an attempt ended in vain."""
SENT: Final = (feed.Rows, feed.Beat, feed.Tokens, feed.Depths, feed.Anew)
"""Items that only a server that answers can bring."""
DEAF: Final = 5.0
"""Seconds without news after which the silence is the server's: depths come every two."""
LOADS: Final = 16
LOAD_SLOT: Final = 15.0
"""Seconds of a point of a worker's load; `LOADS` of them are kept."""


_NEWS: Final = {
    News.NEW: ("on {host}", "text"),
    News.BACK: ("is back", "warn"),
    News.DRAINING: ("is draining", "text"),
    News.LEFT: ("left", "text"),
}
"""What a heartbeat that tells something new is told as."""


class Flow(NamedTuple):
    """Tokens of a running attempt as a heartbeat said at `at`; `rate`: those of a second."""

    tokens: int
    at: float
    rate: float


@dataclass(slots=True)
class Actor(Seen):
    """A worker or master as its heartbeats show it (server's clock), and what they said lately."""

    loads: deque[int] = field(default_factory=lambda: deque(maxlen=LOADS))
    """Percent of its slots that were used, the most of each `LOAD_SLOT` seconds, newest last."""
    flows: dict[str, Flow] = field(default_factory=dict)
    """By task: what it generates."""
    _slot: int = 0

    def __post_init__(self) -> None:
        self._measure()

    def hear(self, beat: Heartbeat, at: float) -> None:
        """Take a later heartbeat."""
        Seen.hear(self, beat, at)
        self._measure()

    def _measure(self) -> None:
        beat = self.beat
        load = min(100, 100 * beat.running // beat.slots) if beat.slots > 0 else 0
        slot = int(self.at // LOAD_SLOT)
        if slot == self._slot and self.loads:
            self.loads[-1] = max(self.loads[-1], load)
        else:
            # Slots of silence have no load.
            silent = min(LOADS, slot - self._slot - 1) if self._slot else 0
            self.loads.extend([0] * silent)
            self.loads.append(load)
            self._slot = slot
        before = self.flows
        self.flows = {}
        for task in beat.tasks:
            last = before.get(task.id)
            rate = 0.0
            if last is not None and last.tokens <= task.output_tokens:
                seconds = self.at - last.at
                rate = (task.output_tokens - last.tokens) / seconds if seconds > 0 else last.rate
            self.flows[task.id] = Flow(task.output_tokens, self.at, rate)

    def copy(self) -> Actor:
        """The same, which no longer changes with this one."""
        return replace(self, loads=self.loads.copy(), flows=self.flows.copy())


class Event(msgspec.Struct, frozen=True, gc=False):
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


class Listener(Protocol):
    """What one viewer folds for itself: the texts of the tasks that it follows."""

    def hear_tokens(self, item: feed.Tokens) -> None:
        """A piece of text was generated."""

    def hear_beat(self, beat: Heartbeat) -> None:
        """A worker has said how far its tasks are."""


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
    notes: dict[str, str] = field(default_factory=dict)
    """By part of the feed: what it cannot do."""
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS))
    revision: int = 0
    """Grows whenever anything changed."""
    heard: float = 0.0
    """When the server was last heard: what we tell ourselves (a note, a lost link) is no news."""
    items: int = 0
    """Rows taken, for the dashboard's own meter."""
    _watchers: list[set[str]] = field(default_factory=list)
    _listeners: list[Listener] = field(default_factory=list)
    _finished: list[tuple[int, str]] = field(default_factory=list)
    """A heap: those that ended first are on top. What was retried since is stepped over."""
    _ended: int = 0
    """Rows that have ended."""
    _wasted: dict[str, int] = field(default_factory=dict)
    """By task: what failed attempts of it cost, as far as any row of it told."""
    _unseen: dict[str, int] = field(default_factory=dict)
    _last_sequence: int = 0
    _oldest: int = 0
    """When what was read from the streams changed last, of all that the longest ago (ms)."""
    _gone: set[str] = field(default_factory=set)
    """Ids of tasks that were let go while the streams are still read."""

    # Folding.

    def apply(self, item: feed.Item) -> None:
        """Take an item of the feed."""
        self.revision += 1
        self._hear(item)
        match item:
            case feed.Rows():
                self._rows(item)
            case feed.Beat():
                self._beat(item)
            case feed.Tokens():
                for listener in self._listeners:
                    listener.hear_tokens(item)
            case feed.Depths():
                self._depths(item)
            case feed.Gates():
                self._gates(item)
            case feed.Link():
                self._link(item)
            case feed.Loading():
                self.known.done, self.known.total = item.done, item.total
                self.known.older = item.older
                if self.known.complete:
                    self._gone.clear()
            case feed.Anew():
                self._anew(item.stream)
            case feed.Note():
                self._note(item)

    def _hear(self, item: feed.Item) -> None:
        if not (isinstance(item, SENT) or (isinstance(item, feed.Link) and item.up)):
            return
        if self.heard and item.at - self.heard > DEAF:
            # The server was silent, not the workers: they have the time to speak again.
            presence.hearing_again(self.actors.values(), item.at, deaf_since=self.heard)
        self.heard = max(self.heard, item.at)

    def heard_by(self, now: float) -> float:
        """The time by which silence of an actor means something: what came later was not heard."""
        return min(now, self.heard) if self.heard else now

    def watch(self) -> set[str]:
        """A set to which the ids of changed rows are added from now on; empty it at will."""
        changed: set[str] = set()
        self._watchers.append(changed)
        return changed

    def unwatch(self, changed: set[str]) -> None:
        """Add to it no more."""
        self._watchers = [other for other in self._watchers if other is not changed]

    def listen(self, listener: Listener) -> None:
        """Tell it from now on of what the store itself does not keep."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Tell it no more."""
        self._listeners = [other for other in self._listeners if other is not listener]

    def _rows(self, item: feed.Rows) -> None:
        rows, totals, watchers, events = self.rows, self.totals, self._watchers, self.events
        finished, wastes = self._finished, self._wasted
        last = self._last_sequence
        gone = self._gone
        if not item.live and item.rows:
            oldest = min(row.updated for row in item.rows)
            self._oldest = min(self._oldest or oldest, oldest)
        for row in item.rows:
            task_id, sequence = row.id, row.sequence
            if gone and task_id in gone and not item.live:
                continue
            old = rows.get(task_id)
            before = wasted = wastes.get(task_id, 0) if wastes else 0
            # Usage is a sum over the attempts: an attempt that failed had cost all of it till then.
            if row.cost and row.cost > wasted and row.state in FAILING:
                wasted = wastes[task_id] = row.cost
            if old is not None:
                # As `supersedes` has it, without a call for each of thousands of rows a second.
                if sequence <= old.sequence:
                    if wasted != before:
                        totals.replace(old, old, before, wasted)
                    continue
                totals.replace(old, row, before, wasted)
                if old.sequence == 0:
                    self._unseen.pop(task_id, None)
                if old.state in FINISHED:
                    self._ended -= 1
            else:
                totals.add(row, wasted)
            rows[task_id] = row
            self.items += 1
            if sequence == 0:
                self._unseen[task_id] = identity_sequence(row.message)
            if row.state in FINISHED:
                heappush(finished, (sequence, task_id))
                self._ended += 1
            if sequence > last:
                last = sequence
                events.append(Event(row.updated / 1000, row))
            for changed in watchers:
                changed.add(task_id)
        self._last_sequence = last
        while self._ended > self.limit:
            sequence, task_id = heappop(finished)
            known = rows.get(task_id)
            if known is not None and known.sequence == sequence:
                self._evict(known)

    def _evict(self, row: Row) -> None:
        """Let a row go; what it was stays in the sums."""
        del self.rows[row.id]
        self.totals.failed.pop(row.id, None)
        self._wasted.pop(row.id, None)
        self._ended -= 1
        self.known.evicted += 1
        if not self.known.complete:
            # An older record of it may still be read, and must not bring it back.
            self._gone.add(row.id)
        for changed in self._watchers:
            changed.add(row.id)

    def _forget(self, ids: Iterable[str]) -> None:
        for task_id in ids:
            row = self.rows.pop(task_id, None)
            if row is None:
                continue
            self.totals.remove(row, self._wasted.pop(task_id, 0))
            self._unseen.pop(task_id, None)
            self._ended -= row.finished
            for changed in self._watchers:
                changed.add(task_id)

    def _anew(self, stream: str) -> None:
        if stream == subjects.RECORDS:
            self._forget([row.id for row in self.rows.values() if row.sequence])
            self._finished.clear()
            self._wasted.clear()
            self._gone.clear()
            self._last_sequence = self.known.evicted = 0
            # With the sums of those that had been let go.
            self.totals = Totals()
            for row in self.rows.values():
                self.totals.add(row)
        elif stream == subjects.TASKS:
            self._forget(list(self._unseen))
        self.events.append(Event(self.heard, None, stream, "was made anew", "warn"))

    def _beat(self, item: feed.Beat) -> None:
        beat = item.beat
        news = presence.hear(self.actors, beat, item.at, Actor)
        if news is not None:
            said, token = _NEWS[news]
            text = f"{beat.role} {said.format(host=beat.host)}"
            self.events.append(Event(item.at, None, beat.name, text, token))
        for listener in self._listeners:
            listener.hear_beat(beat)

    def _depths(self, item: feed.Depths) -> None:
        self.depths = {depth.queue: depth for depth in item.queues}
        self.dead = item.dead
        if item.first:
            # Its message is done with and no record came: a duplicate, or removed by hand.
            self._forget([name for name, at in self._unseen.items() if at < item.first])
        presence.forget(self.actors, item.at)

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

    def _note(self, item: feed.Note) -> None:
        if item.text:
            if self.notes.get(item.part) != item.text:
                self.events.append(Event(item.at, None, item.part, item.text, "warn"))
            self.notes[item.part] = item.text
        elif self.notes.pop(item.part, None) is not None:
            self.events.append(Event(item.at, None, item.part, "can be read again"))

    def _link(self, item: feed.Link) -> None:
        if self.link is None or self.link.up != item.up:
            deaf_since = self.linked_at if self.link is not None else float("-inf")
            self.linked_at = item.at
            text = "connected" if item.up else f"connection lost: {item.detail or 'no reason'}"
            self.events.append(Event(item.at, None, "nats", text, "text" if item.up else "crit"))
            if item.up:
                presence.hearing_again(self.actors.values(), item.at, deaf_since=deaf_since)
        self.link = item

    def copy(self) -> Store:
        """The same picture, which no longer changes with this one and which nobody watches."""
        return replace(
            self,
            rows=self.rows.copy(),
            totals=self.totals.copy(),
            actors={name: actor.copy() for name, actor in self.actors.items()},
            known=replace(self.known),
            notes=self.notes.copy(),
            events=self.events.copy(),
            _watchers=[],
            _listeners=[],
            _finished=self._finished.copy(),
            _unseen=self._unseen.copy(),
            _wasted=self._wasted.copy(),
            _gone=self._gone.copy(),
        )

    # Reading.

    def workers(self) -> list[Actor]:
        """The workers, by name."""
        workers = [actor for actor in self.actors.values() if actor.beat.role == "worker"]
        return sorted(workers, key=lambda actor: (actor.beat.name, actor.beat.actor))

    def masters(self) -> list[Actor]:
        """The masters, by name."""
        masters = [actor for actor in self.actors.values() if actor.beat.role == "master"]
        return sorted(masters, key=lambda actor: actor.beat.name)

    def name_of(self, actor: str) -> str:
        """What people call an actor."""
        known = self.actors.get(actor)
        return known.beat.name if known is not None else actor_name(actor)

    def whole(self, since_ms: int = 0) -> bool:
        """Whether the sums hold all that happened since then; else they are a part of it."""
        known = self.known
        return known.complete and (not known.older or 0 < self._oldest <= since_ms)

    def queues(self) -> list[str]:
        """Every queue that anything is known of."""
        served = (queue for actor in self.workers() for queue in actor.beat.queues)
        with_rows = (name for name, counts in self.totals.states.items() if counts.total())
        return sorted({*self.depths, *with_rows, *served} - {""})

    def flow(self, row: Row) -> Flow | None:
        """What a running task generates, where its worker says so."""
        actor = self.actors.get(row.actor)
        return actor.flows.get(row.id) if actor is not None else None

    def wasted(self, task_id: str) -> int:
        """What failed attempts of a task cost, in micro-USD."""
        return self._wasted.get(task_id, 0)

    def waiting(self, queue: str) -> int:
        """Tasks of a queue that no worker has, by the server's own numbers."""
        depth = self.depths.get(queue)
        if depth is None:
            return self.totals.states[queue][State.QUEUED] if queue in self.totals.states else 0
        return sum(depth.waiting.values())
