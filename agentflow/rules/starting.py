"""Whether a task that may be claimed is started now, parked, or has come too late. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import msgspec

from agentflow.protocol import limits
from agentflow.protocol.record import State
from agentflow.protocol.task import Task


class Park(msgspec.Struct, frozen=True):
    """Wait until an instant; `reason` is the record's short code."""

    state: State
    until: datetime
    reason: str


class TooLate(msgspec.Struct, frozen=True):
    """End it: `reason` is the record's short code, `text` says it to a person."""

    reason: str
    text: str


Verdict = Park | TooLate | None
"""None: start it."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known beside the task: `submitted` is when its first message was stored, `attempts`
    how often it was started, `original` whether this message continues nothing."""

    now: datetime
    submitted: datetime
    attempts: int
    original: bool
    unknown_kind_for: float


def is_plain(task: Task, kinds: Collection[str]) -> bool:
    """Whether nothing but a gate could keep the task from being started: most tasks are so."""
    return (
        task.kind in kinds
        and task.not_before is None
        and task.deadline is None
        and task.start_within is None
    )


def verdict(task: Task, facts: Facts, kinds: Collection[str]) -> Verdict:
    """What to do with a task that this worker may claim; `kinds` are those it can run."""
    late = too_late(task, facts)
    if late is not None:
        return late
    # A continuation is due by definition: times are not checked again.
    if facts.original and task.not_before is not None and task.not_before > facts.now:
        return Park(State.SCHEDULED, task.not_before, "not_before")
    if task.kind in kinds:
        return None
    waited = (facts.now - max(facts.submitted, task.not_before or facts.submitted)).total_seconds()
    if waited < facts.unknown_kind_for:
        pause = timedelta(seconds=min(limits.UNKNOWN_KIND_EVERY, 1.0 + waited))
        return Park(State.RETRYING, facts.now + pause, "unknown_kind")
    known = ", ".join(sorted(kinds))
    return TooLate("unknown_kind", f"no handler for kind {task.kind!r}; this worker has {known}")


def too_late(task: Task, facts: Facts) -> TooLate | None:
    """Whether its deadline has passed, or it was not started in the time it gave the queue."""
    if task.deadline is not None and facts.now >= task.deadline:
        return TooLate("deadline", f"its deadline {task.deadline.isoformat()} has passed")
    if task.start_within is not None and not facts.attempts:
        since = max(facts.submitted, task.not_before or facts.submitted)
        if (facts.now - since).total_seconds() > task.start_within:
            return TooLate(
                "start_within", f"it was not started within {task.start_within:g} s of being queued"
            )
    return None


def time_left(task: Task, now: datetime) -> float:
    """Seconds a try may take: its timeout, or what is left until the deadline."""
    if task.deadline is None:
        return task.timeout
    return max(0.001, min(task.timeout, (task.deadline - now).total_seconds()))


def past_deadline(task: Task, instant: datetime) -> bool:
    """Whether an instant lies behind the task's deadline: trying again then is of no use."""
    return task.deadline is not None and instant >= task.deadline
