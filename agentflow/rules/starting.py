"""Whether a task that may be claimed is started now, parked, or has come too late. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import msgspec

from agentflow.protocol import limits
from agentflow.protocol.record import State
from agentflow.protocol.task import Task
from agentflow.rules import batches


class Park(msgspec.Struct, frozen=True):
    """Wait until an instant; `reason` is the record's short code."""

    state: State
    until: datetime
    reason: str


class TooLate(msgspec.Struct, frozen=True):
    """End it: `reason` is the record's short code, `text` says it to a person."""

    reason: str
    text: str


class IntoBatch(msgspec.Struct, frozen=True):
    """Let it wait for a batch."""


Verdict = Park | TooLate | IntoBatch | None
"""None: start it."""


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """How a task came here: `submitted` is when its first message was stored, `attempts` how often
    it was started and `failures` what counted of that, `original` whether this message continues
    nothing, or what was withdrawn, `taken_over` whether it runs, and its worker is lost."""

    submitted: datetime
    attempts: int
    original: bool
    failures: int = 0
    taken_over: bool = False


def is_plain(task: Task, kinds: Collection[str]) -> bool:
    """Whether nothing but a gate could keep the task from being started: most tasks are so."""
    return (
        task.kind in kinds
        and task.not_before is None
        and task.deadline is None
        and task.start_within is None
        and not task.batch
        and task.batch_after is None
    )


def verdict(
    task: Task,
    arrival: Arrival,
    kinds: Collection[str],
    *,
    now: datetime,
    unknown_kind_for: float,
) -> Verdict:
    """What to do with a task that this worker may claim; `kinds` are those it can run.

    One of another kind waits so many seconds for a worker that has it.
    """
    late = too_late(task, arrival, now)
    if late is not None:
        return late
    # A continuation is due by definition: times are not checked again.
    if arrival.original and task.not_before is not None and task.not_before > now:
        return Park(State.SCHEDULED, task.not_before, "not_before")
    # The server's clock may be a little ahead of what is known of it here.
    waited = max(0.0, (now - _may_start(task, arrival)).total_seconds())
    if task.kind in kinds:
        into = not arrival.taken_over and batches.wanted(
            task, attempts=arrival.attempts, failures=arrival.failures, waited=waited, now=now
        )
        return IntoBatch() if into else None
    if waited < unknown_kind_for:
        pause = timedelta(seconds=min(limits.UNKNOWN_KIND_EVERY, 1.0 + waited))
        return Park(State.RETRYING, now + pause, "unknown_kind")
    known = ", ".join(sorted(kinds))
    return TooLate("unknown_kind", f"no handler for kind {task.kind!r}; this worker has {known}")


def too_late(task: Task, arrival: Arrival, now: datetime) -> TooLate | None:
    """Whether its deadline has passed, or it was not started in the time it gave the queue."""
    if task.deadline is not None and now >= task.deadline:
        return TooLate("deadline", f"its deadline {task.deadline.isoformat()} has passed")
    if task.start_within is not None and not arrival.attempts:
        waited = (now - _may_start(task, arrival)).total_seconds()
        if waited > task.start_within:
            return TooLate(
                "start_within", f"it was not started within {task.start_within:g} s of being queued"
            )
    return None


def batch_in(task: Task, arrival: Arrival, now: datetime) -> float | None:
    """Seconds after which a task that waits at a gate goes into a batch instead; None: never."""
    if task.batch_after is None or arrival.failures or arrival.taken_over:
        return None
    return max(0.0, task.batch_after - (now - _may_start(task, arrival)).total_seconds())


def _may_start(task: Task, arrival: Arrival) -> datetime:
    """From when on the queue could have started it."""
    return max(arrival.submitted, task.not_before or arrival.submitted)


def time_left(task: Task, now: datetime) -> float:
    """Seconds a try may take: its timeout, or what is left until the deadline."""
    if task.deadline is None:
        return task.timeout
    return max(0.001, min(task.timeout, (task.deadline - now).total_seconds()))


def past_deadline(task: Task, instant: datetime) -> bool:
    """Whether an instant lies behind the task's deadline: trying again then is of no use."""
    return task.deadline is not None and instant >= task.deadline
