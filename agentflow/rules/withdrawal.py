"""What it takes to withdraw a task that waits: from its message and the end of its log. Pure.

To withdraw is to take back what has not started, so that nobody pays for it and who submitted it
can go on with it later. Where the log is empty the message is all there is, and goes. Where it is
not, the log must say that nobody is to claim it, and its payload is kept as a dead letter.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from agentflow.protocol.record import PARKED, Last, Record, State
from agentflow.rules.claim import continues

REASON: Final = "withdrawn"
"""In the record of a task that was withdrawn."""


def was(record: Record | None) -> bool:
    """Whether a log ends with a withdrawal: whoever goes on with the task goes on as it was."""
    return record is not None and record.state == State.FAILED and record.reason == REASON


class Step(StrEnum):
    """What is done with one message of a task."""

    REMOVE = "remove"
    """Delete it: its log is empty."""
    FAIL = "fail"
    """Write `failed`, keep its payload as a dead letter, delete it."""
    KEEP = "keep"
    """A retry by hand that nobody has begun: its payload becomes the dead letter again."""
    ASK = "ask"
    """It runs, where its owner still lives."""
    LEAVE = "leave"
    """It has ended, or another message counts for it."""


def step(message: str, follows: int, last: Last, *, sourced: bool = False) -> Step:
    """What becomes of a message with this identity, which continues the record at `follows`.

    `sourced`: it is scheduled, or was.
    """
    record = last.record
    if record is None:
        return Step.REMOVE if not follows else Step.FAIL
    if not record.readable:
        return Step.LEAVE
    own = continues(follows, last, sourced=sourced)
    match record.state:
        case State.RUNNING:
            return Step.ASK if own or record.message == message else Step.LEAVE
        case State.FAILED:
            return Step.KEEP if own else Step.LEAVE
        case state if state == State.QUEUED or state in PARKED:
            # One that was parked and is still there: its schedule may not be stored yet. Fired
            # later that finds the log failed, and is dropped.
            return Step.FAIL if own or record.message == message else Step.LEAVE
        case _:
            return Step.LEAVE
