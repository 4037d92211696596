"""Why a task waits: from its situation to one or two sentences.

The reasons are tried in the order of `_REASONS`; the first that holds is told. What keeps a task
from being started whatever else is free comes first, its place in the queue last. Pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from agentflow.protocol.api import GateView, WorkerView
from agentflow.protocol.batches import ROUTE, RowState
from agentflow.protocol.control import Waiting
from agentflow.protocol.record import PARKED, State
from agentflow.rules import presence
from agentflow.rules.routes.models import family
from agentflow.views import batches
from agentflow.views import gates as gateviews
from agentflow.views.batches import GATHERING, BatchView
from agentflow.views.gates import clock
from agentflow.views.result import Result

OF_CLAUDE: Final = frozenset({"claude", "claude-cli"})
"""Kinds that a closed pool holds back; others may ask Claude while they run."""
ERROR_SHOWN: Final = 200
WITHOUT_PAYLOAD: Final = frozenset({"message_lost", "payload_lost"})
"""Reasons of failures that no retry can mend: what was asked is gone."""
_GONE: Final = "its message: submit it anew."


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message stands: how many of its priority and of higher ones come before it.

    `taken`: a worker has it in hand. `exact` is False where the message itself is not known, and
    `ahead` is all that waits.
    """

    ahead: int = 0
    higher: int = 0
    taken: bool = False
    exact: bool = True


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """A task, and what is known of all that it may wait for. None: nobody could tell.

    `waiting` is what a worker says that has it in hand, `workers` are all workers, `served` says
    whether anybody takes from the queue, `per_minute` how many of its tasks ended a minute lately,
    `batch` is that which it waits for. `lanes` of the queue have tasks, and share its workers.
    """

    task: Result
    gates: Sequence[GateView] = ()
    workers: Sequence[WorkerView] | None = None
    served: bool | None = None
    position: Position | None = None
    waiting: Waiting | None = None
    per_minute: float | None = None
    batch: BatchView | None = None
    lane: str = ""
    lanes: int = 1

    def due(self, now: datetime) -> bool:
        """Whether the task may be started as far as its own time goes."""
        return self.task.resume_at is None or self.task.resume_at <= now


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


def explain(situation: Situation, now: datetime) -> Why:
    """Why the task waits, or where it stands."""
    for rule in _REASONS:
        told = rule(situation, now)
        if told is not None:
            return Why(
                id=situation.task.id,
                state=situation.task.state,
                reason=told[0],
                text=told[1],
                until=told[2] if len(told) > 2 else None,
            )
    return _placed(situation, now)


def _ended(situation: Situation, now: datetime) -> Told | None:
    task = situation.task
    ended = task.timings.ended or task.updated
    at = f" at {clock(ended)}" if ended is not None else ""
    starts = _count(task.attempts, "attempt")
    if task.state == State.SUCCEEDED:
        return "succeeded", f"It succeeded{at} after {starts}, on {task.actor}."
    if task.state == State.CANCELLED:
        return "cancelled", f"It was cancelled{at} by {task.by or task.actor}, after {starts}."
    if task.state == State.FAILED:
        text = f"It failed{at} after {starts} ({task.reason or 'failed'}){_error(task)}."
        if task.dropped:
            return "failed", f"{text} {task.by} dropped its dead letter, and with it {_GONE}"
        if task.reason in WITHOUT_PAYLOAD:
            return "failed", f"{text} It cannot be retried without {_GONE}"
        return "failed", f"{text} To run it again: agentflow retry {shlex.quote(task.id)}"
    return None


def _running(situation: Situation, now: datetime) -> Told | None:
    task = situation.task
    if task.state != State.RUNNING:
        return None
    started = task.timings.started
    since = f" since {clock(started)}" if started is not None else ""
    workers = situation.workers or ()
    owner = next((worker for worker in workers if worker.actor == task.actor), None)
    where = task.actor
    if owner is not None and owner.host:
        where += f" ({owner.name} on {owner.host})"
    text = f"It runs on {where}{since}, attempt {task.attempts}."
    if owner is not None and owner.lost:
        text += " That worker is lost; another takes the task over once its lease has ended."
        return "worker_lost", text
    if owner is None and situation.workers is not None:
        text += " That worker is not known now; if it is gone, another takes the task over."
    return "running", text


def _in_batch(situation: Situation, now: datetime) -> Told | None:
    batch = situation.batch
    if situation.task.state != State.WAITING:
        return None
    if batch is None:
        text = "It waits for a batch, and its entry is gone; a master ends it."
        return "batch_lost", text
    if batch.state in (GATHERING, RowState.OPEN):
        # Nobody was asked for it yet, so what keeps the queue back keeps it back too.
        told = (
            _paused(situation, now)
            or _batches_closed(batch, situation, now)
            or _over_budget(situation, now)
        )
        if told is not None:
            return told
    return "batch", batches.sentence(batch, now), batch.expires


def _batches_closed(batch: BatchView, situation: Situation, now: datetime) -> Told | None:
    name = f"{batch.pool}.{ROUTE}"
    for gate in situation.gates:
        if (gate.what, gate.name) == (gateviews.POOL, name):
            text = f"It waits for a batch, and its {gateviews.sentence(gate)}."
            if gate.until is None:
                text += f" Until somebody says: {gateviews.remedy(gate)}"
            return "closed", text, gate.until
    return None


def _not_before(situation: Situation, now: datetime) -> Told | None:
    task = situation.task
    if task.state == State.SCHEDULED and not situation.due(now):
        assert task.resume_at is not None
        text = f"It was submitted to start not before {clock(task.resume_at)}."
        return "not_before", text, task.resume_at
    return None


def _retry(situation: Situation, now: datetime) -> Told | None:
    task = situation.task
    if task.state != State.RETRYING or situation.due(now):
        return None
    assert task.resume_at is not None
    text = f"It is tried again at {clock(task.resume_at)}, as attempt {task.attempts + 1}."
    text += f" The last one ended with {task.reason or 'a failure'}{_error(task)};"
    text += f" {_count(task.failures, 'failure')} so far."
    return "retry", text, task.resume_at


def _paused(situation: Situation, now: datetime) -> Told | None:
    task = situation.task
    names = ((gateviews.QUEUE, task.queue), (gateviews.KIND, task.kind.replace(".", "_")))
    paused = [gate for name in names for gate in situation.gates if (gate.what, gate.name) == name]
    if not paused:
        return None
    told = (f"Its {gateviews.sentence(gate)}; {gateviews.remedy(gate)}" for gate in paused)
    return f"paused_{paused[0].what}", ". ".join(told)


def _over_budget(situation: Situation, now: datetime) -> Told | None:
    task = situation.task
    mine = {"*", f"queue:{task.queue}", *(f"{name}={value}" for name, value in task.labels.items())}
    fitting = [
        gate
        for gate in situation.gates
        if gate.what == gateviews.BUDGET and (gate.name in mine or gate.name.startswith("pool:"))
    ]
    if not fitting:
        return None
    gate = fitting[0]
    text = f"Its {gateviews.sentence(gate)}. To let it go on: {gateviews.remedy(gate)}"
    return "budget", text, gate.until


def _unserved(situation: Situation, now: datetime) -> Told | None:
    task = situation.task
    start = f"Start one: agentflow worker --queues {shlex.quote(task.queue)}"
    if situation.served is False:
        return "no_worker", f"No worker serves its queue {task.queue}. {start}"
    serving = _serving(situation)
    if serving and task.kind and not any(_knows(worker, task.kind) for worker in serving):
        text = (
            f"No worker of its queue {task.queue} knows its kind {task.kind}"
            f" ({_count(len(serving), 'worker')}: {_kinds(serving)}). {start}"
        )
        return "no_worker_for_kind", text
    return None


def _closed(situation: Situation, now: datetime) -> Told | None:
    task = situation.task
    if task.kind not in OF_CLAUDE:
        return None
    wanted = family(task.model) if task.model else None
    fitting = [
        gate
        for gate in situation.gates
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


def _unknown_kind(situation: Situation, now: datetime) -> Told | None:
    task = situation.task
    if task.state == State.RETRYING and task.reason == "unknown_kind" and not situation.workers:
        return "no_worker_for_kind", f"The worker that had it does not know its kind {task.kind}."
    return None


def _limited(situation: Situation, now: datetime) -> Told | None:
    waiting = situation.waiting
    if waiting is None or not waiting.route:
        return None
    starts = now + timedelta(seconds=waiting.seconds)
    axis = f"{waiting.axis} limit" if waiting.axis else "limits"
    text = f"A worker has it; it waits for the {axis} of pool {waiting.route}"
    text += f" and is expected to start at {clock(starts)}, in {_long(waiting.seconds)}."
    return "limit", text, starts


def _taken(situation: Situation, now: datetime) -> Told | None:
    if situation.position is not None and situation.position.taken:
        text = "A worker has taken it and starts it as soon as it may"
        return "taken", f"{text} (a slot, a rate limit, the pace under load)."
    return None


_REASONS: Final[tuple[Callable[[Situation, datetime], Told | None], ...]] = (
    _ended,
    _running,
    _in_batch,
    _not_before,
    _retry,
    _paused,
    _unserved,
    _closed,
    _over_budget,
    _unknown_kind,
    _limited,
    _taken,
)


def _placed(situation: Situation, now: datetime) -> Why:
    """It is its turn that it waits for."""
    task = situation.task
    lane = f", lane {situation.lane}" if situation.lane else ""
    begin = f"It waits in queue {task.queue}{lane}, priority {task.priority}"
    if task.state in PARKED and task.resume_at is not None:
        begin = f"It is due since {clock(task.resume_at)} and waits in queue {task.queue}"
    position = situation.position
    if position is None:
        text = f"{begin}; its place there is not known."
        return Why(id=task.id, state=task.state, reason="queued", text=text)
    ahead = position.ahead + position.higher
    most = "" if position.exact else "at most "
    tasks = f"{most}{_count(ahead, 'task')}"
    text = f"{begin}: {tasks} {'comes' if ahead == 1 else 'come'} before it"
    if position.higher:
        text += f" ({position.higher:,} of higher priority)"
    if situation.lanes > 1 and ahead:
        text += f" in its lane, of {situation.lanes:,} lanes that share the queue's workers"
    estimate = until = None
    if ahead == 0:
        text += "."
    elif situation.per_minute:
        per_minute = situation.per_minute / max(1, situation.lanes)
        estimate = ahead / per_minute * 60
        until = now + timedelta(seconds=estimate)
        rate = f"{per_minute:,.3g} a minute"
        text += f"; at {rate}, as lately, it starts in {_long(estimate)}."
    else:
        text += "; when it starts is unknown, for none of this queue ended lately."
    text += _busy(situation)
    return Why(
        id=task.id,
        state=task.state,
        reason="queued",
        text=text,
        until=until,
        ahead=ahead,
        estimate_s=None if estimate is None else round(estimate, 1),
    )


def _busy(situation: Situation) -> str:
    serving = _serving(situation)
    if not serving:
        return ""
    slots = sum(worker.slots for worker in serving)
    running = sum(worker.running for worker in serving)
    text = f" {_count(len(serving), 'worker')} of the queue run {running:,} of {slots:,}."
    if running >= slots:
        notes = dict.fromkeys(note for worker in serving for note in worker.notes)
        text += "".join(f" {note}." for note in notes if any(one in note for one in _KEEPS))
    return text


_KEEPS: Final = ("lost to handlers", "for other tasks of queue")
"""In the notes of workers that say why no slot is free."""


def _serving(situation: Situation) -> list[WorkerView]:
    return [
        worker
        for worker in situation.workers or ()
        if not worker.lost and presence.serves(worker, situation.task.queue)
    ]


def _knows(worker: WorkerView, kind: str) -> bool:
    # A kind that nobody could read is no reason.
    return kind == "unknown" or presence.knows(worker, kind)


def _kinds(serving: Sequence[WorkerView]) -> str:
    names = sorted({kind for worker in serving for kind in worker.kinds})
    return "they know " + ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _error(task: Result) -> str:
    if task.error is None:
        return ""
    message = task.error.message
    cut = message if len(message) <= ERROR_SHOWN else message[: ERROR_SHOWN - 3] + "..."
    return f": {task.error.type}: {cut}".rstrip(".")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _long(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {max(1, round(seconds))} s"
