"""A budget: money is held before it is spent, so that both together never exceed the limit.

One value in the bucket, changed by compare-and-set; each function gives the value that follows.

    hold     a request may cost so much: that much is held, or it does not go
    settle   it has cost so much; what nobody knows counts as what was held (`unknown`)
    lapse    whoever held it is silent past its lease: its requests were paid, and nobody knows how
             much, so the hold is spent; what was never sent was settled before

A holder is a worker, with one entry for all of its requests; only itself and `lapse` change that.
It asks for all that it wants in one turn, so that a thousand requests are a few writes; turns are
counted, so that it knows its own again after an answer that was lost. A want has to `WAIT` while
others hold what may come back, and is `OVER` where nothing but a higher limit helps.

A request that cost more than was held (it should not) is settled by the truth.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from agentflow.protocol.task import Task
from agentflow.rules.routes.route import Route

PREFIX: Final = "budgets."
EVERYTHING: Final = "all"
"""The scope that people write `*`."""
JOB: Final = "job."


class OnLimit(StrEnum):
    """What becomes of a task that a budget has no room for."""

    WAIT = "wait"
    FAIL = "fail"
    END = "end"
    """It waits, and its job ends."""


class Holder(msgspec.Struct, frozen=True):
    """What one worker holds, until when it has to say so again, and its writes so far."""

    micro: int
    until: datetime
    turn: int = 0


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key's value. Money is in micro-USD; `unknown` is the part of `spent` that is no known cost.

    `short` is what a request needs at least that there is no room for (`since` when), or 0.
    `period`: the day or month that `spent` belongs to, where the limit is for each.
    """

    v: int = 1
    limit: int
    spent: int = 0
    unknown: int = 0
    held: dict[str, Holder] = {}
    per: str = ""
    period: str = ""
    on_limit: str = OnLimit.WAIT
    short: int = 0
    since: datetime | None = None
    actor: str = ""

    @property
    def stops(self) -> bool:
        """Whether a request has no room, whatever comes back."""
        return self.short > 0 and self.over(self.short)

    @property
    def held_micro(self) -> int:
        """What all hold."""
        return sum(holder.micro for holder in self.held.values())

    @property
    def room(self) -> int:
        """What may still be held."""
        return self.limit - self.spent - self.held_micro

    def over(self, micro: int) -> bool:
        """Whether so much will not fit, whatever comes back."""
        return self.spent + micro > self.limit


class Answer(StrEnum):
    """What a budget says to a request."""

    HELD = "held"
    WAIT = "wait"
    OVER = "over"


class Settled(msgspec.Struct, frozen=True):
    """A hold that is over: `cost` None where nobody knows it."""

    micro: int
    cost: int | None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker asks of a budget at once: it settles, and wants holds, in this order.

    `renews`: it still holds something, and says so.
    """

    actor: str
    settled: tuple[Settled, ...] = ()
    unheld: int = 0
    """What was spent without a hold."""
    wants: tuple[int, ...] = ()
    renews: bool = False


def held(budget: Budget, actor: str) -> int:
    """What a worker holds."""
    holder = budget.held.get(actor)
    return holder.micro if holder else 0


def take(
    budget: Budget, turn: Turn, *, now: datetime, until: datetime
) -> tuple[Budget, list[Answer]]:
    """The budget after a worker's turn, and an answer to each of its wants.

    Who waits is not overtaken by a later want that would fit. Unchanged where nothing is to be
    written.
    """
    actor = turn.actor
    after = lapse(current(budget, now), now, living=actor)
    for settled in turn.settled:
        after = settle(after, actor, settled, until)
    if turn.unheld:
        after = msgspec.structs.replace(after, spent=after.spent + turn.unheld)
    answers = []
    waits = False
    for micro in turn.wants:
        if after.over(micro):
            answer, after = Answer.OVER, short(after, micro, now)
        elif waits or micro > after.room:
            answer, waits = Answer.WAIT, True
        else:
            answer, after = Answer.HELD, hold(after, actor, micro, until)
        answers.append(answer)
    if after is budget and not turn.renews:
        return budget, answers
    return _renewed(after, actor, until), answers


def hold(budget: Budget, actor: str, micro: int, until: datetime) -> Budget:
    """The budget with so much more held by `actor`; there must be room."""
    return _with(budget, actor, held(budget, actor) + micro, until)


def settle(budget: Budget, actor: str, settled: Settled, until: datetime) -> Budget:
    """The budget after a hold of `actor` is over."""
    cost = settled.micro if settled.cost is None else settled.cost
    if actor not in budget.held:
        # It has lapsed, and counts in full already.
        return msgspec.structs.replace(budget, spent=budget.spent + max(0, cost - settled.micro))
    less = _with(budget, actor, max(0, held(budget, actor) - settled.micro), until)
    return msgspec.structs.replace(
        less,
        spent=budget.spent + cost,
        unknown=budget.unknown + (cost if settled.cost is None else 0),
    )


def turns_of(budget: Budget | None, actor: str) -> int:
    """How many of a worker's turns a budget has seen, as far as it still knows the worker."""
    holder = budget.held.get(actor) if budget is not None else None
    return holder.turn if holder else 0


def lapse(budget: Budget, now: datetime, living: str = "") -> Budget:
    """The budget without the holders whose lease is over; what they held counts as spent.

    `living` is not among them: it is asking.
    """
    gone = [name for name, holder in budget.held.items() if holder.until < now and name != living]
    if not gone:
        return budget
    lost = sum(budget.held[name].micro for name in gone)
    return msgspec.structs.replace(
        budget,
        held={name: holder for name, holder in budget.held.items() if name not in gone},
        spent=budget.spent + lost,
        unknown=budget.unknown + lost,
    )


def short(budget: Budget, micro: int, now: datetime) -> Budget:
    """The budget that had no room for so much; the least such need is kept."""
    least = min(budget.short or micro, micro)
    if least == budget.short:
        return budget
    return msgspec.structs.replace(budget, short=least, since=budget.since or now)


def current(budget: Budget, now: datetime) -> Budget:
    """The budget at `now`: a new day or month begins with nothing spent."""
    period = period_of(budget.per, now)
    if period == budget.period:
        return budget
    return msgspec.structs.replace(budget, period=period, spent=0, unknown=0, short=0, since=None)


def limited(before: Budget | None, limit: int, *, spent: int, on_limit: str, actor: str) -> Budget:
    """A job's budget: what is known to be spent counts, and what former runs of it have spent."""
    before = before or Budget(limit=limit)
    return msgspec.structs.replace(
        before,
        limit=limit,
        spent=max(before.spent, spent),
        on_limit=on_limit,
        short=0,
        since=None,
        actor=actor,
    )


def set_to(
    before: Budget | None, limit: int, *, per: str, on_limit: str, now: datetime, actor: str
) -> Budget:
    """The budget that somebody sets; what is spent and held of one that was there still counts."""
    start = before if before is not None and before.per == per else Budget(limit=limit, per=per)
    if before is not None:
        start = msgspec.structs.replace(start, held=before.held)
    same = limited(start, limit, spent=0, on_limit=on_limit, actor=actor)
    return current(same, now)


def raised(budget: Budget, limit: int, actor: str) -> Budget:
    """The budget with another limit."""
    return limited(budget, limit, spent=0, on_limit=budget.on_limit, actor=actor)


def period_of(per: str, now: datetime) -> str:
    """The day or month of an instant, "" where a limit is for neither."""
    now = now.astimezone(UTC)
    return {"day": f"{now:%Y-%m-%d}", "month": f"{now:%Y-%m}"}.get(per, "")


def next_period(per: str, now: datetime) -> datetime | None:
    """When the next day or month begins."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return day + timedelta(days=1)
    if per == "month":
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return None


def _with(budget: Budget, actor: str, micro: int, until: datetime) -> Budget:
    entry = Holder(micro, until, turns_of(budget, actor))
    return msgspec.structs.replace(budget, held={**budget.held, actor: entry})


def _renewed(budget: Budget, actor: str, until: datetime) -> Budget:
    entry = Holder(held(budget, actor), until, turns_of(budget, actor) + 1)
    return msgspec.structs.replace(budget, held={**budget.held, actor: entry})


# --- keys

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+")


def key(scope: str) -> str:
    """The key of a scope: `all`, `pool.NAME`, `queue.NAME`, `label.NAME.VALUE`, `job.ID`."""
    return PREFIX + scope


def label_scope(name: str, value: str) -> str:
    """The scope of a label; what a key cannot hold is written as its bytes."""
    return f"label.{_token(name)}.{_token(value)}"


def scope_of(text: str) -> str | None:
    """The scope that a person writes: `*`, `queue:NAME`, `pool:NAME`, `job:ID`, `label=value`."""
    if text == "*":
        return EVERYTHING
    name, equals, value = text.partition("=")
    if equals:
        return label_scope(name, value) if name else None
    what, colon, name = text.partition(":")
    if colon and what in ("queue", "pool", "job") and _TOKEN.fullmatch(name):
        return f"{what}.{name}"
    return None


def shown(scope: str) -> str:
    """A scope as a person writes it."""
    if scope == EVERYTHING:
        return "*"
    what, _, name = scope.partition(".")
    if what == "label":
        label, _, value = name.partition(".")
        return f"{_text(label)}={_text(value)}"
    return f"{what}:{name}"


def scopes_of(task: Task, route: Route | None) -> list[str]:
    """The scopes that a task counts against, wherever there is a budget for one."""
    scopes = [EVERYTHING, f"queue.{task.queue}"]
    if route is not None:
        scopes.append(f"pool.{route.pool}")
    scopes += [label_scope(name, value) for name, value in task.labels.items()]
    if task.budget is not None:
        scopes.append(task.budget)
    return scopes


def _token(text: str) -> str:
    """Text as one token of a subject. `=` begins what is written as hex, and nothing else."""
    return text if _TOKEN.fullmatch(text) else f"={text.encode('utf-8', 'replace').hex()}"


def _text(token: str) -> str:
    if not token.startswith("="):
        return token
    try:
        return bytes.fromhex(token[1:]).decode("utf-8", "replace")
    except ValueError:
        return token


# --- values

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Budget)


def encode(budget: Budget | None) -> bytes | None:
    """A key's value, None where there is no budget."""
    return None if budget is None else _encoder.encode(budget)


def read(value: bytes | None) -> Budget | None:
    """The budget in a key's value.

    One that cannot be read is a budget without room: what was meant as a limit must not be none.
    """
    if not value:
        return None
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Budget(limit=0)


def micro_of(dollars: float) -> int | None:
    """A limit in micro-USD, None where it is none: it must be finite and above zero."""
    if not math.isfinite(dollars) or dollars > 1e9:
        return None
    micro = round(dollars * 1_000_000)
    return micro if micro > 0 else None
