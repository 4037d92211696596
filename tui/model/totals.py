"""Sums over the rows that are known, kept while they change.

`add` and `remove` are each other's opposite, so at any time the sums are those of the rows that are
there: whatever came in whatever order, counting all anew would give the same.

Money and tokens are booked in the minute of a task's latest record. An end counts in the second in
which the stream stored it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from typing import Final

from agentflow.protocol.record import State
from agentflow.rules.projection import Row

MINUTE_MS: Final = 60_000
_GROWTH: Final = 1.15
"""Classes of durations grow by this; a percentile is right within 8 %."""


@dataclass(slots=True)
class Spend:
    """What tasks cost: money in micro-USD, tokens, and how many there were.

    `wasted` is the part of `cost` that failed tasks have; `unknown` counts tasks without a price.
    """

    tasks: int = 0
    cost: int = 0
    wasted: int = 0
    unknown: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def add(self, row: Row, sign: int = 1) -> None:
        """Book a row, or with `sign` -1 take it out."""
        usage = row.usage
        self.tasks += sign
        self.input += sign * usage.input_tokens
        self.output += sign * usage.output_tokens
        self.cache_read += sign * usage.cache_read_input_tokens
        self.cache_write += sign * usage.cache_creation_input_tokens
        if row.cost is None:
            self.unknown += sign
        else:
            self.cost += sign * row.cost
            if row.state == State.FAILED:
                self.wasted += sign * row.cost

    def include(self, other: Spend) -> None:
        """Add another sum."""
        self.tasks += other.tasks
        self.cost += other.cost
        self.wasted += other.wasted
        self.unknown += other.unknown
        self.input += other.input
        self.output += other.output
        self.cache_read += other.cache_read
        self.cache_write += other.cache_write


Account = tuple[str, str, str]
"""Model ("" where there is none), queue and kind."""


class Durations:
    """A histogram of seconds, by time slot, for percentiles over a window."""

    SLOT_MS: Final = 10_000

    def __init__(self) -> None:
        self._slots: dict[int, Counter[int]] = defaultdict(Counter)

    def change(self, at_ms: int, seconds: float, sign: int) -> None:
        """Count a duration that ended at `at_ms`."""
        slot = at_ms // self.SLOT_MS
        found = self._slots[slot]
        found[_class(seconds)] += sign
        if found[_class(seconds)] == 0:
            del found[_class(seconds)]
            if not found:
                del self._slots[slot]

    def copy(self) -> Durations:
        """The same histogram, which no longer changes with this one."""
        other = Durations()
        for slot, found in self._slots.items():
            other._slots[slot] = found.copy()
        return other

    def percentiles(self, since_ms: int, *shares: float) -> list[float | None]:
        """The durations below which these shares lie, of those that ended since then."""
        merged: Counter[int] = Counter()
        first = since_ms // self.SLOT_MS
        for slot, found in self._slots.items():
            if slot >= first:
                merged.update(found)
        total = merged.total()
        if not total:
            return [None] * len(shares)
        classes = sorted(merged)
        answers: list[float | None] = []
        for share in shares:
            wanted, below = share * total, 0
            for each in classes:
                below += merged[each]
                if below >= wanted:
                    answers.append(_GROWTH ** (each + 0.5) / 1000)
                    break
        return answers


def _class(seconds: float) -> int:
    return int(log(max(1.0, seconds * 1000)) / log(_GROWTH))


class Totals:
    """The sums. Read them; only `add` and `remove` change them."""

    def __init__(self) -> None:
        self.states: dict[str, Counter[str]] = defaultdict(Counter)
        """By queue: tasks in each state."""
        self.running: set[str] = set()
        """Ids of the tasks that run."""
        self.parked: set[str] = set()
        """Ids of the tasks that wait for an instant."""
        self.failed: dict[str, int] = {}
        """Ids of failed tasks, and when they failed (ms)."""
        self.ends: Counter[int] = Counter()
        """Successful ends by second."""
        self.failures: Counter[int] = Counter()
        """Failed ends by second."""
        self.arrivals: Counter[int] = Counter()
        """Submissions by second."""
        self.queue_ends: dict[str, Counter[int]] = defaultdict(Counter)
        """By queue: ends of all sorts by ten seconds."""
        self.spend: dict[int, dict[Account, Spend]] = {}
        """By minute since 1970 and account."""
        self.costs: Counter[int] = Counter()
        """Micro-USD by minute since 1970: what every frame asks for."""
        self.waits = Durations()
        self.runs = Durations()

    def add(self, row: Row) -> None:
        """A row is there."""
        self._count(row, 1)
        if row.state == State.RUNNING:
            self.running.add(row.id)
        elif row.state in (State.SCHEDULED, State.RETRYING):
            self.parked.add(row.id)
        elif row.state == State.FAILED:
            self.failed[row.id] = row.updated

    def remove(self, row: Row) -> None:
        """It is there no more."""
        self._count(row, -1)
        self.running.discard(row.id)
        self.parked.discard(row.id)
        self.failed.pop(row.id, None)

    def _count(self, row: Row, sign: int) -> None:
        _change(self.states[row.queue], row.state, sign)
        if row.submitted is not None:
            _change(self.arrivals, row.submitted // 1000, sign)
        if row.usage.total or row.cost is None or row.cost:
            self._book(row, sign)
        if not row.finished:
            return
        ended = row.updated
        _change(self.failures if row.state == State.FAILED else self.ends, ended // 1000, sign)
        _change(self.queue_ends[row.queue], ended // 10_000, sign)
        if row.started is not None:
            self.runs.change(ended, ((row.ended or ended) - row.started) / 1000, sign)
            if row.submitted is not None:
                self.waits.change(ended, (row.started - row.submitted) / 1000, sign)

    def _book(self, row: Row, sign: int) -> None:
        minute = row.updated // MINUTE_MS
        account = (row.model or "", row.queue, row.kind)
        accounts = self.spend.setdefault(minute, {})
        found = accounts.get(account)
        if found is None:
            found = accounts[account] = Spend()
        found.add(row, sign)
        if row.cost:
            _change(self.costs, minute, sign * row.cost)
        if found.tasks == 0:
            del accounts[account]
            if not accounts:
                del self.spend[minute]

    def copy(self) -> Totals:
        """The same sums, which no longer change with these."""
        other = Totals()
        for queue, counts in self.states.items():
            other.states[queue] = counts.copy()
        for queue, ends in self.queue_ends.items():
            other.queue_ends[queue] = ends.copy()
        other.running, other.parked = self.running.copy(), self.parked.copy()
        other.failed = self.failed.copy()
        other.ends, other.failures = self.ends.copy(), self.failures.copy()
        other.arrivals = self.arrivals.copy()
        other.costs = self.costs.copy()
        other.waits, other.runs = self.waits.copy(), self.runs.copy()
        other.spend = {
            minute: {account: replace(spend) for account, spend in accounts.items()}
            for minute, accounts in self.spend.items()
        }
        return other

    # Reading.

    def state(self, state: str) -> int:
        """How many tasks are in a state."""
        return sum(counts[state] for counts in self.states.values())

    def booked(self, since_ms: int = 0) -> Iterator[tuple[int, Account, Spend]]:
        """What was booked in the minutes from then on."""
        first = since_ms // MINUTE_MS
        for minute, accounts in self.spend.items():
            if minute >= first:
                for account, spend in accounts.items():
                    yield minute, account, spend

    def spent(self, since_ms: int = 0) -> Spend:
        """The sum of that."""
        whole = Spend()
        for _, _, spend in self.booked(since_ms):
            whole.include(spend)
        return whole


def since(counts: Counter[int], first: int, last: int) -> int:
    """The sum over the slots from `first` to before `last`, at the cost of the fewer lookups."""
    if last - first < len(counts):
        return sum(counts.get(slot, 0) for slot in range(first, last))
    return sum(number for slot, number in counts.items() if first <= slot < last)


def series(counts: Counter[int], now: int, slots: int, width: int = 1) -> list[int]:
    """The last `slots` sums over `width` seconds each, the newest last.

    The present one is left out: what is not over yet would always look like a fall.
    """
    last = now // width
    return [
        sum(counts.get(second, 0) for second in range(slot * width, (slot + 1) * width))
        for slot in range(last - slots, last)
    ]


def _change(counts: Counter[str] | Counter[int], key: str | int, sign: int) -> None:
    counter: Counter[str | int] = counts  # type: ignore[assignment]  # either has one sort of key
    value = counter[key] + sign
    if value:
        counter[key] = value
    else:
        del counter[key]
