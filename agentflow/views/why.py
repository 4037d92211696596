"""Why a task waits: from facts to one or two sentences.

The reasons are tried in the order of `_REASONS`; the first that holds is told. What keeps a task
from being started whatever else is free comes first, its place in the queue last. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from agentflow.protocol.api import GateView
from agentflow.protocol.record import PARKED, Failure, State
from agentflow.rules import presence
from agentflow.rules.routes.models import family
from agentflow.views import gates as gateviews
from agentflow.views.gates import clock

OF_CLAUDE: Final = frozenset({"claude", "claude-cli"})
"""Kinds that a closed pool holds back; others may ask Claude while they run."""
ERROR_SHOWN: Final = 200


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """A worker of the task's queue, or the one that runs it."""

    actor: str
    name: str
    host: str = ""
    queues: Sequence[str] = ()
    kinds: Sequence[str] = ()
    slots: int = 0
    running: int = 0
    lost: bool = False
    stopping: bool = False


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message stands: how many of its priority and of higher ones come before it.

    `taken`: a worker has it in hand. `exact` is False where the message itself is not known, and
    `ahead` is all that waits.
    """

    ahead: int = 0
    higher: int = 0
    taken: bool = False
    exact: bool = True


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a task. None: nobody could tell.

    `workers` are all workers, `served` says whether anybody takes from the queue, `per_minute` how
    many of its tasks ended a minute lately.
    """

    id: str
    state: str
    queue: str = ""
    priority: str = ""
    kind: str = ""
    model: str | None = None
    actor: str = ""
    attempt: int = 0
    failures: int = 0
    submitted: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    resume_at: datetime | None = None
    reason: str | None = None
    error: Failure | None = None
    gates: Sequence[GateView] = ()
    workers: Sequence[Serving] | None = None
    served: bool | None = None
    place: Place | None = None
    per_minute: float | None = None

    def due(self, now: datetime) -> bool:
        """Whether it may be started as far as its own time goes."""
        return self.resume_at is None or self.resume_at <= now


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: `reason` for programs, `text` for people.

    `until` is when that ends, where it is known; `ahead` how many tasks come first, `estimate_s`
    in how many seconds it starts.
    """

    id: str
    state: str
    reason: str
    text: str
    until: datetime | None = None
    ahead: int | None = None
    estimate_s: float | None = None


Told = tuple[str, str] | tuple[str, str, datetime | None]
"""Reason and sentences, and until when."""


def explain(facts: Facts, now: datetime) -> Why:
    """Why the task waits, or where it stands."""
    for rule in _REASONS:
        told = rule(facts, now)
        if told is not None:
            return Why(
                id=facts.id,
                state=facts.state,
                reason=told[0],
                text=told[1],
                until=told[2] if len(told) > 2 else None,
            )
    return _placed(facts, now)


def _ended(facts: Facts, now: datetime) -> Told | None:
    at = f" at {clock(facts.ended)}" if facts.ended is not None else ""
    starts = _count(facts.attempt, "attempt")
    if facts.state == State.SUCCEEDED:
        return "succeeded", f"It succeeded{at} after {starts}, on {facts.actor}."
    if facts.state == State.CANCELLED:
        return "cancelled", f"It was cancelled{at} by {facts.actor}, after {starts}."
    if facts.state == State.FAILED:
        text = f"It failed{at} after {starts} ({facts.reason or 'failed'}){_error(facts)}."
        return "failed", f"{text} To run it again: agentflow retry {facts.id}"
    return None


def _running(facts: Facts, now: datetime) -> Told | None:
    if facts.state != State.RUNNING:
        return None
    since = f" since {clock(facts.started)}" if facts.started is not None else ""
    found = next((each for each in facts.workers or () if each.actor == facts.actor), None)
    where = facts.actor
    if found is not None and found.host:
        where += f" ({found.name} on {found.host})"
    text = f"It runs on {where}{since}, attempt {facts.attempt}."
    if found is not None and found.lost:
        text += " That worker is lost; another takes the task over once its lease has ended."
        return "worker_lost", text
    if found is None and facts.workers is not None:
        text += " That worker is not known now; if it is gone, another takes the task over."
    return "running", text


def _not_before(facts: Facts, now: datetime) -> Told | None:
    if facts.state == State.SCHEDULED and not facts.due(now):
        assert facts.resume_at is not None
        text = f"It was submitted to start not before {clock(facts.resume_at)}."
        return "not_before", text, facts.resume_at
    return None


def _retry(facts: Facts, now: datetime) -> Told | None:
    if facts.state != State.RETRYING or facts.due(now):
        return None
    assert facts.resume_at is not None
    text = f"It is tried again at {clock(facts.resume_at)}, as attempt {facts.attempt + 1}."
    text += f" The last one ended with {facts.reason or 'a failure'}{_error(facts)};"
    text += f" {_count(facts.failures, 'failure')} so far."
    return "retry", text, facts.resume_at


def _paused(facts: Facts, now: datetime) -> Told | None:
    places = ((gateviews.QUEUE, facts.queue), (gateviews.KIND, facts.kind.replace(".", "_")))
    found = [gate for place in places for gate in facts.gates if (gate.what, gate.name) == place]
    if not found:
        return None
    told = (f"Its {gateviews.sentence(gate)}; {gateviews.remedy(gate)}" for gate in found)
    return f"paused_{found[0].what}", ". ".join(told)


def _unserved(facts: Facts, now: datetime) -> Told | None:
    start = f"Start one: agentflow worker --queues {facts.queue}"
    if facts.served is False:
        return "no_worker", f"No worker serves its queue {facts.queue}. {start}"
    serving = _serving(facts)
    if serving and facts.kind and not any(_knows(each, facts.kind) for each in serving):
        text = (
            f"No worker of its queue {facts.queue} knows its kind {facts.kind}"
            f" ({_count(len(serving), 'worker')}: {_kinds(serving)}). {start}"
        )
        return "no_worker_for_kind", text
    return None


def _closed(facts: Facts, now: datetime) -> Told | None:
    if facts.kind not in OF_CLAUDE:
        return None
    wanted = family(facts.model) if facts.model else None
    fitting = [
        gate
        for gate in facts.gates
        if gate.what == gateviews.POOL and wanted in (None, gate.name.rpartition(".")[2])
    ]
    if not fitting:
        return None
    # What a person must lift comes first: it is what keeps a task for ever.
    gate = min(fitting, key=lambda gate: (gate.until is not None, gate.key))
    text = f"Its {gateviews.sentence(gate)}."
    if gate.until is None:
        text += f" Until somebody says: {gateviews.remedy(gate)}"
    return "closed", text, gate.until


def _unknown_kind(facts: Facts, now: datetime) -> Told | None:
    if facts.state == State.RETRYING and facts.reason == "unknown_kind" and not facts.workers:
        return "no_worker_for_kind", f"The worker that had it does not know its kind {facts.kind}."
    return None


def _taken(facts: Facts, now: datetime) -> Told | None:
    if facts.place is not None and facts.place.taken:
        text = "A worker has taken it and starts it as soon as it may"
        return "taken", f"{text} (a slot, a rate limit, the pace under load)."
    return None


_REASONS: Final[tuple[Callable[[Facts, datetime], Told | None], ...]] = (
    _ended,
    _running,
    _not_before,
    _retry,
    _paused,
    _unserved,
    _closed,
    _unknown_kind,
    _taken,
)


def _placed(facts: Facts, now: datetime) -> Why:
    """It is its turn that it waits for."""
    begin = f"It waits in queue {facts.queue}, priority {facts.priority}"
    if facts.state in PARKED and facts.resume_at is not None:
        begin = f"It is due since {clock(facts.resume_at)} and waits in queue {facts.queue}"
    place = facts.place
    if place is None:
        text = f"{begin}; its place there is not known."
        return Why(id=facts.id, state=facts.state, reason="queued", text=text)
    ahead = place.ahead + place.higher
    most = "" if place.exact else "at most "
    tasks = f"{most}{_count(ahead, 'task')}"
    text = f"{begin}: {tasks} {'comes' if ahead == 1 else 'come'} before it"
    if place.higher:
        text += f" ({place.higher:,} of higher priority)"
    estimate = until = None
    if ahead == 0:
        text += "."
    elif facts.per_minute:
        estimate = ahead / facts.per_minute * 60
        until = now + timedelta(seconds=estimate)
        text += f"; at {facts.per_minute:,.3g} a minute, as lately, it starts in {_long(estimate)}."
    else:
        text += "; when it starts is unknown, for none of this queue ended lately."
    text += _busy(facts)
    return Why(
        id=facts.id,
        state=facts.state,
        reason="queued",
        text=text,
        until=until,
        ahead=ahead,
        estimate_s=None if estimate is None else round(estimate, 1),
    )


def _busy(facts: Facts) -> str:
    serving = _serving(facts)
    if not serving:
        return ""
    slots = sum(each.slots for each in serving)
    running = sum(each.running for each in serving)
    return f" {_count(len(serving), 'worker')} of the queue run {running:,} of {slots:,}."


def _serving(facts: Facts) -> list[Serving]:
    return [
        each for each in facts.workers or () if not each.lost and presence.serves(each, facts.queue)
    ]


def _knows(worker: Serving, kind: str) -> bool:
    # A kind that nobody could read is no reason.
    return kind == "unknown" or presence.knows(worker, kind)


def _kinds(serving: Sequence[Serving]) -> str:
    names = sorted({kind for each in serving for kind in each.kinds})
    return "they know " + ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _error(facts: Facts) -> str:
    if facts.error is None:
        return ""
    message = facts.error.message
    cut = message if len(message) <= ERROR_SHOWN else message[: ERROR_SHOWN - 3] + "..."
    return f": {facts.error.type}: {cut}".rstrip(".")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _long(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {max(1, round(seconds))} s"
