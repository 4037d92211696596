"""Is one log what the protocol allows? A fold over its records, in the stream's order.

A log keeps its last record complete and at most 64 of each subject, and its oldest records expire.
So a record may be missing, but only from where the server removes: what a record names as its
predecessor is either the one before it, or newer than that and gone (a gap, which `excused`
judges at the end). A record that names an older one than its predecessor went past the fence.

Only what is needed later is kept of each record, so that a million logs fit into memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from agentflow.protocol import limits
from agentflow.protocol.record import PARKED, Record, State
from agentflow.rules.lifecycle import may_follow


class Kind(StrEnum):
    """What a finding is about."""

    LOST = "lost"  # acknowledged, and nothing brings it to an end
    UNEXPECTED = "unexpected"  # nobody submitted it
    DUPLICATED = "duplicated"  # ended more than once
    CHAIN = "chain"  # a record does not follow the one before
    ORDER = "order"  # a state, attempt or count that may not come there
    EXECUTIONS = "executions"  # started more often than faults explain
    NO_DEAD_LETTER = "no dead letter"  # failed, and its payload is not kept
    NO_PAYLOAD = "no payload"  # waits, and what it refers to is not there
    MISTOLD = "mistold"  # the ledger, or a count, says something else than the log
    CALLS = "calls"  # paid for, and no record says for what; or the other way round
    REST = "rest"  # something is left behind although all should be quiet
    UNPROVED = "unproved"  # a message that was acked, and nothing says why


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong, about a task where there is one."""

    kind: Kind
    text: str
    id: str = ""


class Step(msgspec.Struct, frozen=True):
    """What is kept of a record: what the next one is judged by."""

    sequence: int
    state: str
    attempt: int
    failures: int
    actor: str
    message: str
    terminal: bool
    readable: bool


@dataclass(slots=True)
class Trail:
    """One log as far as it was read.

    `starts` counts the claims; `takeovers`, `handed_back`, `parked` and `again` say what came
    before those that were not the first. `gaps` holds what records followed that is not there.
    """

    id: str
    last: Step | None = None
    queue: str = ""
    kind: str = ""
    reason: str | None = None
    request_id: str | None = None
    dropped: bool = False
    """Whether somebody dropped its dead letter, and said so."""
    progress: int = 0
    starts: int = 0
    takeovers: int = 0
    handed_back: int = 0
    parked: int = 0
    again: int = 0
    ends: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def state(self) -> str | None:
        """State of the last record."""
        return self.last.state if self.last else None

    @property
    def ended(self) -> bool:
        """Whether the last record is a final one."""
        return self.last is not None and self.last.terminal

    def take(self, sequence: int, record: Record) -> None:
        """Fold the next record in."""
        before = self.last
        here = f"{record.state} at {sequence}"
        known = before.sequence if before else 0
        if record.readable and record.follows < known:
            kind = Kind.DUPLICATED if self.ended and record.terminal else Kind.CHAIN
            text = f"{here} follows {record.follows}, though {known} was the last"
            self._find(kind, text)
        elif record.readable and record.follows > known:
            self.gaps.append((known, record.follows))
        elif record.readable and (before is None or before.readable):
            self._judge(before, record, here)
        self._count(before, record)
        self.last = Step(
            sequence,
            record.state,
            record.attempt,
            record.failures,
            record.actor,
            record.message,
            record.terminal,
            record.readable,
        )
        self.queue, self.kind = record.queue, record.kind
        self.reason, self.request_id = record.reason, record.request_id
        self.dropped = record.dropped

    def _find(self, kind: Kind, text: str) -> None:
        self.findings.append(Finding(kind, text, self.id))

    def _judge(self, before: Step | None, record: Record, here: str) -> None:
        """Compare with the record that it says it follows."""
        state = before.state if before else None
        if not may_follow(state, record.state):
            doubled = before is not None and before.terminal and record.terminal
            kind = Kind.DUPLICATED if doubled else Kind.ORDER
            self._find(kind, f"{here} may not follow {state or 'an empty log'}")
            return
        attempt, failures = (before.attempt, before.failures) if before else (0, 0)
        on = state == State.FAILED and before is not None and record.message == before.message
        if on and not record.dropped:
            self._find(Kind.ORDER, f"{here}: a failed task went on without a continuation")
        allowed: tuple[int, ...] = (attempt,)
        if record.state == State.QUEUED:
            allowed = (max(0, attempt - 1),)
        elif state == State.WAITING:
            # What a batch told counts the attempt; to wait anew, or to be cancelled, does not.
            allowed = (attempt, attempt + 1)
        elif record.state == State.RUNNING:
            # Progress of the same run, or else a start, which counts.
            same = state == State.RUNNING and before is not None and before.actor == record.actor
            allowed = (attempt, attempt + 1) if same else (attempt + 1,)
        if record.attempt not in allowed:
            self._find(Kind.ORDER, f"{here} is attempt {record.attempt} after {attempt}")
        if record.failures < failures and state != State.FAILED:
            self._find(Kind.ORDER, f"{here} counts {record.failures} failures after {failures}")

    def _count(self, before: Step | None, record: Record) -> None:
        self.progress += not record.terminal
        self.ends += record.terminal
        if record.state != State.RUNNING:
            return
        state = before.state if before else None
        if state == State.RUNNING and before is not None and before.attempt == record.attempt:
            return
        self.starts += 1
        self.takeovers += state == State.RUNNING
        self.handed_back += state == State.QUEUED
        self.parked += state in PARKED
        self.again += state == State.FAILED

    def excused(self, first_sequence: int) -> list[Finding]:
        """The gaps that neither expiry (below `first_sequence`) nor trimming explains."""
        if self.progress >= limits.RECORDS_PER_LOG:
            return []
        return [
            Finding(Kind.CHAIN, f"the record {follows} is missing after {known}", self.id)
            for known, follows in self.gaps
            if follows >= first_sequence
        ]

    @property
    def whole(self) -> bool:
        """Whether all its records are there, so that each message of the task has left one."""
        return not self.gaps
