"""What the sweep does about a log that has not ended: a table, read top down.

A healthy task never needs the sweep: its message, or its schedule, brings it on. The sweep ends
what nothing can bring on any more, because somebody purged a stream or a disk was lost. It looks at
one fact at a time, and each look may end the matter, so the order is part of the rule: a fact that
was true when it was read must still be true at the end, or be caught by the fence.

- The parker's message must be gone before the schedule is looked for: until then it may still be
  published (parking is record, schedule, ack).
- A schedule that has fired waits in `agentflow.due.>` and then in AGENTFLOW_TASKS, where it cannot
  be found by its id. So the sweep notes where AGENTFLOW_TASKS ended when nothing was due, and waits
  until all up to there is gone.

- What waits for a batch has no schedule: its entry must be there, and in a row of the table or
  behind its `next`. The parker's message must be gone first, as above.

The verdict is `failed`, fenced by the record that all of this was read about. There is no dead
letter then: the payload was in the message that is gone.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from agentflow.protocol.batches import REASON
from agentflow.protocol.record import PARKED, Last, State


class Step(StrEnum):
    """What to do next about a log."""

    WELL = "well"  # nothing; whatever was noted about it is void
    LOOK_FOR_MESSAGE = "look for its message"  # gives `message`
    ASK_OWNER = "ask its owner"  # gives `held`; no answer is False
    LOOK_FOR_ENTRY = "look for its entry"  # gives `entry`
    LOOK_FOR_SCHEDULE = "look for its schedule"  # gives `schedule`
    LOOK_FOR_DUE = "look for due tasks"  # gives `due`
    NOTE_END = "note where the queue ends"  # and come back later, with `noted` and `first`
    WAIT = "wait"  # what was noted stays noted
    LOSE = "lose"  # write failed, fenced by the log's last record


class Entry(StrEnum):
    """What there is of a task that waits for a batch."""

    WELL = "well"  # its entry is in a row of the table, or will be
    STRAY = "stray"  # no row has it, and none will
    GONE = "gone"  # there is none


class LogFacts(msgspec.Struct):
    """What has been read about one log, in this order; None: not read yet.

    `noted` is the last sequence of AGENTFLOW_TASKS noted in an earlier round, for this very record;
    `first` the first sequence there now.
    """

    message: bool | None = None
    held: bool | None = None
    schedule: bool | None = None
    entry: Entry | None = None
    due: bool | None = None
    noted: int | None = None
    first: int = 0


def next_step(last: Last, facts: LogFacts) -> Step:
    """The next step about the log that ends with `last`."""
    record = last.record
    if record is None or record.terminal or not record.readable:
        return Step.WELL
    if facts.message is None:
        return Step.LOOK_FOR_MESSAGE
    if facts.message:
        return Step.WELL
    if record.state in (State.RUNNING, State.QUEUED):
        return _owned(facts)
    if record.state in PARKED:
        return _parked(facts)
    if record.state == State.WAITING and record.reason == REASON:
        if facts.entry is None:
            return Step.LOOK_FOR_ENTRY
        return Step.WELL if facts.entry is Entry.WELL else Step.LOSE
    return Step.WELL


def _owned(facts: LogFacts) -> Step:
    if facts.held is None:
        return Step.ASK_OWNER
    return Step.WELL if facts.held else Step.LOSE


def _parked(facts: LogFacts) -> Step:
    if facts.schedule is None:
        return Step.LOOK_FOR_SCHEDULE
    if facts.schedule:
        return Step.WELL
    if facts.noted is None:
        if facts.due is None:
            return Step.LOOK_FOR_DUE
        return Step.WAIT if facts.due else Step.NOTE_END
    return Step.LOSE if facts.first > facts.noted else Step.WAIT
