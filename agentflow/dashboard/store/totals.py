"""Sums over the rows that are known, kept while they change.

`add` and `remove` are each other's opposite, so at any time the sums are those of the rows that are
there: whatever came in whatever order, counting all anew would give the same.

Money and tokens are booked in the minute of a task's latest record. An end counts in the second in
which the stream stored it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Final

from agentflow.views.row import FINISHED, Row, waited

MINUTE_MS: Final = 60_000
HOUR: Final = 60
"""Minutes."""
SLOT: Final = 10
"""Seconds of a slot of what is counted by queue, and of durations."""
SLOT_MS: Final = SLOT * 1000
_GROWTH: Final = 1.15
"""Classes of durations grow by this; a percentile is right within 8 %."""
_CLASSES: Final = 1 / log(_GROWTH)


@dataclass(slots=True)
class Spend:
    """What tasks cost: money in micro-USD, tokens, and how many there were.

    `wasted` is the part of `cost` that went into attempts that failed; `unknown` counts tasks
    without a price.
    """

    tasks: int = 0
    cost: int = 0
    wasted: int = 0
    unknown: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def add(self, row: Row, sign: int = 1, wasted: int = 0) -> None:
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
        self.wasted += sign * wasted

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

    @property
    def all_input(self) -> int:
        """Input tokens of all sorts."""
        return self.input + self.cache_read + self.cache_write


Account = tuple[str, str, str]
"""Model ("" where there is none), queue and kind."""
Accounts = dict[Account, Spend]
_NOTHING: Final[Accounts] = {}


class Durations:
    """A histogram of seconds, by time slot, for percentiles over a window."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[int, int]] = {}

    def change(self, slot: int, ms: int, sign: int) -> None:
        """Count a duration that ended in a slot."""
        classes = self._slots.get(slot)
        if classes is None:
            classes = self._slots[slot] = {}
        each = int(log(ms) * _CLASSES) if ms > 1 else 0
        number = classes.get(each, 0) + sign
        if number:
            classes[each] = number
        else:
            classes.pop(each, None)
            if not classes:
                del self._slots[slot]

    def copy(self) -> Durations:
        """The same histogram, which no longer changes with this one."""
        other = Durations()
        other._slots = {slot: classes.copy() for slot, classes in self._slots.items()}
        return other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Durations) and self._slots == other._slots

    __hash__ = None  # type: ignore[assignment]  # it changes

    def percentiles(self, since_ms: int, until_ms: int, *shares: float) -> list[float | None]:
        """The durations below which these shares lie, of those that ended in between."""
        first, last = since_ms // SLOT_MS, until_ms // SLOT_MS
        merged: dict[int, int] = {}
        for slot in _within(self._slots, first, last):
            for each, number in self._slots[slot].items():
                merged[each] = merged.get(each, 0) + number
        total = sum(merged.values())
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


def _within(slots: dict[int, dict[int, int]], first: int, last: int) -> Iterable[int]:
    """The slots from `first` to `last` that there are, by the shorter way."""
    if last - first < len(slots):
        return (slot for slot in range(first, last + 1) if slot in slots)
    return (slot for slot in slots if first <= slot <= last)


PARKED: Final = frozenset({"retrying", "scheduled", "waiting"})


class Totals:
    """The sums. Read them; only `add` and `remove` change them."""

    def __init__(self) -> None:
        self.states: dict[str, Counter[str]] = defaultdict(Counter)
        """By queue: tasks in each state."""
        self.running: set[str] = set()
        """Ids of the tasks that run."""
        self.running_by: Counter[str] = Counter()
        """By actor: how many run there."""
        self.parked: set[str] = set()
        """Ids of the tasks that wait for an instant."""
        self.failed: dict[str, int] = {}
        """Ids of failed tasks, and when they failed (ms)."""
        self.ends: dict[int, int] = {}
        """Successful ends by second."""
        self.failures: dict[int, int] = {}
        """Failed ends by second."""
        self.arrivals: dict[int, int] = {}
        """Submissions by second."""
        self.queue_ends: dict[str, dict[int, int]] = defaultdict(dict)
        """By queue: ends of all sorts by `SLOT` seconds."""
        self.queue_failures: dict[str, dict[int, int]] = defaultdict(dict)
        """By queue: failed ends by `SLOT` seconds."""
        self.causes: dict[str, dict[int, int]] = defaultdict(dict)
        """By fingerprint: failed ends by minute."""
        self.spend: dict[int, Accounts] = {}
        """By minute since 1970 and account."""
        self.costs: dict[int, int] = {}
        """Micro-USD by minute since 1970: what every frame asks for."""
        self.waits = Durations()
        self.runs = Durations()
        self._hours: dict[int, Accounts] = {}
        self._stale: set[int] = set()

    def add(self, row: Row, wasted: int = 0) -> None:
        """A row is there; `wasted` is what failed attempts of it cost."""
        if row.submitted is not None:
            _change(self.arrivals, row.submitted // 1000, 1)
        self._enter(row)
        self._count(row, 1, wasted)

    def remove(self, row: Row, wasted: int = 0) -> None:
        """It is there no more."""
        if row.submitted is not None:
            _change(self.arrivals, row.submitted // 1000, -1)
        self._leave(row)
        self._count(row, -1, wasted)

    def replace(self, old: Row, new: Row, wasted: int = 0, now_wasted: int = 0) -> None:
        """A row takes the place of another one of its task: what both have in common stays."""
        if old.submitted != new.submitted:
            if old.submitted is not None:
                _change(self.arrivals, old.submitted // 1000, -1)
            if new.submitted is not None:
                _change(self.arrivals, new.submitted // 1000, 1)
        if old.state != new.state or old.actor != new.actor or new.state == "failed":
            self._leave(old)
            self._enter(new)
        self._count(old, -1, wasted)
        self._count(new, 1, now_wasted)

    def _enter(self, row: Row) -> None:
        state = row.state
        if state == "running":
            self.running.add(row.id)
            _change(self.running_by, row.actor, 1)
        elif state == "failed":
            self.failed[row.id] = row.updated
        elif state in PARKED:
            self.parked.add(row.id)

    def _leave(self, row: Row) -> None:
        state = row.state
        if state == "running":
            self.running.discard(row.id)
            _change(self.running_by, row.actor, -1)
        elif state == "failed":
            self.failed.pop(row.id, None)
        elif state in PARKED:
            self.parked.discard(row.id)

    def _count(self, row: Row, sign: int, wasted: int) -> None:
        state, queue = row.state, row.queue
        _change(self.states[queue], state, sign)
        if row.cost != 0 or row.usage.total:
            self._book(row, sign, wasted)
        if state not in FINISHED:
            return
        ended, started = row.updated, row.started
        slot = ended // SLOT_MS
        # Without a call for each: this is done for thousands of rows a second.
        ends = self.queue_ends[queue]
        number = ends.get(slot, 0) + sign
        if number:
            ends[slot] = number
        else:
            del ends[slot]
        if state == "succeeded":
            second = ended // 1000
            number = self.ends.get(second, 0) + sign
            if number:
                self.ends[second] = number
            else:
                del self.ends[second]
        elif state == "failed":
            _change(self.failures, ended // 1000, sign)
            _change(self.queue_failures[queue], slot, sign)
            _change(self.causes[row.fingerprint], ended // MINUTE_MS, sign)
        if started is not None:
            self.runs.change(slot, (row.ended or ended) - started, sign)
            if (ms := waited(row)) is not None:
                self.waits.change(slot, ms, sign)

    def _book(self, row: Row, sign: int, wasted: int) -> None:
        minute = row.updated // MINUTE_MS
        account = (row.model or "", row.queue, row.kind)
        accounts = self.spend.get(minute)
        if accounts is None:
            accounts = self.spend[minute] = {}
        spend = accounts.get(account)
        if spend is None:
            spend = accounts[account] = Spend()
        spend.add(row, sign, wasted)
        if row.cost:
            _change(self.costs, minute, sign * row.cost)
        self._stale.add(minute // HOUR)
        if spend.tasks == 0:
            del accounts[account]
            if not accounts:
                del self.spend[minute]

    def copy(self) -> Totals:
        """The same sums, which no longer change with these."""
        other = Totals()
        for name in ("states", "queue_ends", "queue_failures", "causes"):
            mine, its = getattr(self, name), getattr(other, name)
            its.update({key: counts.copy() for key, counts in mine.items()})
        for name in (
            "running",
            "running_by",
            "parked",
            "failed",
            "ends",
            "failures",
            "arrivals",
            "costs",
        ):
            setattr(other, name, getattr(self, name).copy())
        other.waits, other.runs = self.waits.copy(), self.runs.copy()
        other.spend = {
            minute: {account: replace(spend) for account, spend in accounts.items()}
            for minute, accounts in self.spend.items()
        }
        other._stale = {minute // HOUR for minute in self.spend}
        return other

    # Reading.

    def state(self, state: str) -> int:
        """How many tasks are in a state."""
        return sum(counts[state] for counts in self.states.values())

    def booked(self, since_ms: int = 0) -> Iterator[tuple[int, Account, Spend]]:
        """What was booked from that minute on, in parts: each with the minute that it begins in.

        A part is a minute, or an hour that lies in between as a whole.
        """
        first = since_ms // MINUTE_MS
        hours = self._by_hour()
        whole = -(-first // HOUR)
        for minute in range(first, whole * HOUR):
            for account, spend in self.spend.get(minute, _NOTHING).items():
                yield minute, account, spend
        for hour, accounts in hours.items():
            if hour >= whole:
                for account, spend in accounts.items():
                    yield hour * HOUR, account, spend

    def spent(self, since_ms: int = 0) -> Spend:
        """The sum of that."""
        whole = Spend()
        for _, _, spend in self.booked(since_ms):
            whole.include(spend)
        return whole

    def _by_hour(self) -> dict[int, Accounts]:
        """The sums of hours, made anew where a minute of one has changed."""
        for hour in self._stale:
            accounts: Accounts = {}
            for minute in range(hour * HOUR, (hour + 1) * HOUR):
                for account, spend in self.spend.get(minute, {}).items():
                    if account in accounts:
                        accounts[account].include(spend)
                    else:
                        accounts[account] = replace(spend)
            if accounts:
                self._hours[hour] = accounts
            else:
                self._hours.pop(hour, None)
        self._stale.clear()
        return self._hours

    def minutes(self, last: int, number: int) -> list[Spend]:
        """The sums of `number` minutes, `last` the newest of them."""
        sums = []
        for minute in range(last - number + 1, last + 1):
            whole = Spend()
            for spend in self.spend.get(minute, {}).values():
                whole.include(spend)
            sums.append(whole)
        return sums


def since(counts: Mapping[int, int], first: int, last: int) -> int:
    """The sum over the slots from `first` to before `last`, at the cost of the fewer lookups."""
    if last - first < len(counts):
        return sum(counts.get(slot, 0) for slot in range(first, last))
    return sum(number for slot, number in counts.items() if first <= slot < last)


def series(counts: Mapping[int, int], now: int, slots: int, width: int = 1) -> list[int]:
    """The last `slots` sums over `width` seconds each, the newest last.

    The present one is left out: what is not over yet would always look like a fall.
    """
    last = now // width
    get = counts.get
    return [
        sum(get(second, 0) for second in range(slot * width, (slot + 1) * width))
        for slot in range(last - slots, last)
    ]


def slots(counts: Mapping[int, int] | None, now: int, number: int) -> list[int]:
    """The last `number` slots of what is counted by `SLOT` seconds, the present one left out."""
    if not counts:
        return [0] * number
    last = now // SLOT
    return [counts.get(slot, 0) for slot in range(last - number, last)]


def _change(counts: dict[str, int] | dict[int, int], key: str | int, sign: int) -> None:
    counter: dict[str | int, int] = counts  # type: ignore[assignment]  # either has one sort of key
    value = counter.get(key, 0) + sign
    if value:
        counter[key] = value
    else:
        counter.pop(key, None)
