"""Was the promise kept? Evidence in, findings out.

The evidence is what the streams hold, and, where they are known, the ledger of what was
acknowledged, the heartbeats, and the requests that the simulator was sent. The promise: every
acknowledged submission ends in exactly one final record.

**Without a ledger** each sequence that AGENTFLOW_TASKS ever gave is accounted for: its message is
in the stream still, or a record names it. What is left was acked (or deleted) and no record names
it. A message with the id of a task that is known already is dropped so, and so is one whose task
was cancelled before a worker saw it; a lost task would look the same. Nothing in the streams tells
these apart, so they are `unproved`, and not called well. A ledger with sequences does tell: the id
of that sequence has a log. Sequences whose log may have expired are `forgotten`.

The evidence must be read in this order, or a system at work looks wrong: ledger, schedules, task
messages, records. A message leaves a stage only after the next one has it, so what is missing in
an earlier one is found in a later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from agentflow.audit.trail import Finding, Kind, Trail
from agentflow.protocol.record import State

SIMPLE_KINDS = frozenset({"claude", "echo", "sleep", "unknown"})
"""Kinds that send Claude one request an attempt at most."""


class Submission(msgspec.Struct, frozen=True):
    """A line of the ledger: a task that was submitted.

    `acknowledged` is false where it was sent and no PubAck came: then it may exist or not.
    `sequence` is the PubAck's; `state` what its submitter was told, of which the log must agree.
    """

    id: str
    sequence: int | None = None
    acknowledged: bool = True
    state: str | None = None


class Waiting(msgspec.Struct, frozen=True):
    """A task message in AGENTFLOW_TASKS, or one that is on its way there."""

    id: str
    identity: str
    follows: int = 0


class Call(msgspec.Struct, frozen=True):
    """A request for a message, as the simulator logged it."""

    request_id: str
    status: int | None


class Calls(msgspec.Struct, frozen=True):
    """All of them; not `complete` where the log has forgotten some."""

    requests: list[Call]
    complete: bool = True


class Slots(msgspec.Struct, frozen=True):
    """What a worker's last heartbeat says."""

    actor: str
    running: int
    held: int


class ConsumerState(msgspec.Struct, frozen=True):
    """A consumer at this moment; not `ours` where no definition of ours has its name."""

    stream: str
    name: str
    ours: bool
    unacknowledged: int = 0


@dataclass(slots=True)
class Evidence:
    """All that was read.

    `queued` is by sequence, `schedules` holds (id, record's sequence), `letters` the ids of the
    dead letters, `created_ns` when AGENTFLOW_TASKS was made (a stream made anew gives its sequences
    again), `expires_ns` the instant before which records may have expired.
    """

    trails: dict[str, Trail] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    """Every message that a record names."""
    requests: set[str] = field(default_factory=set)
    """Every request id that a record names."""
    queued: dict[int, Waiting] = field(default_factory=dict)
    due: list[Waiting] = field(default_factory=list)
    schedules: set[tuple[str, int]] = field(default_factory=set)
    letters: set[str] = field(default_factory=set)
    first_record: int = 0
    last_sequence: int = 0
    created_ns: int = 0
    expires_ns: int = 0
    consumers: list[ConsumerState] = field(default_factory=list)
    ledger: list[Submission] | None = None
    complete: bool = False
    """Whether the ledger has every submission there was."""
    slots: list[Slots] | None = None
    calls: Calls | None = None
    dropped: dict[str, str] = field(default_factory=dict)
    """Messages that a worker says it dropped, and the id of each."""
    moved_on: set[str] = field(default_factory=set)
    """Ids whose log has another last record by now: what was read of them is not their end."""


class Figures(msgspec.Struct, kw_only=True):
    """What was counted. Sequences are those that AGENTFLOW_TASKS ever gave."""

    submitted: int | None = None
    tasks: int = 0
    states: dict[str, int] = {}
    executions: int = 0
    taken_over: int = 0
    handed_back: int = 0
    resumed: int = 0
    retried_by_hand: int = 0
    sequences: int = 0
    in_queue: int = 0
    named_by_a_record: int = 0
    named_by_the_ledger: int = 0
    dropped: int = 0
    forgotten: int = 0
    unproved: int = 0
    paid_calls: int | None = None
    needed_calls: int | None = None
    unrecorded_calls: int | None = None


class Report(msgspec.Struct, kw_only=True):
    """What was counted, and what is wrong."""

    figures: Figures
    findings: list[Finding] = []

    @property
    def kept(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def ids(self) -> list[str]:
        """The tasks that something is wrong about."""
        return sorted({finding.id for finding in self.findings if finding.id})


def judge(found: Evidence, *, at_rest: bool = False, faults: int | None = None) -> Report:
    """Everything that is wrong.

    `at_rest`: all should have ended and nothing be left behind. `faults`: so often at most may one
    task have been started without need, because a worker was lost or stopped; None: not judged.
    """
    report = Report(figures=_figures(found))
    add = report.findings.extend
    for trail in found.trails.values():
        add(trail.findings)
        add(trail.excused(found.first_record))
    add(_lost(found, at_rest))
    add(_ledger(found))
    add(_letters(found))
    add(_executions(found, faults))
    add(_sequences(found, report.figures))
    add(_calls(found, report.figures))
    add(_strangers(found))
    if at_rest:
        add(_rest(found))
    return report


def suspects(found: Evidence) -> list[str]:
    """Ids whose log has not ended and which nothing in the evidence brings on.

    On a system at work they may only have moved on between two readings: look again.
    """
    live = {waiting.identity for waiting in found.queued.values()}
    continued: dict[str, int] = {}
    for waiting in (*found.queued.values(), *found.due):
        if waiting.follows:
            continued[waiting.id] = max(continued.get(waiting.id, 0), waiting.follows)
    return [
        trail.id
        for trail in found.trails.values()
        if (last := trail.last) is not None
        and not trail.ended
        and last.readable
        and trail.id not in found.moved_on
        and last.message not in live
        and (trail.id, last.sequence) not in found.schedules
        and continued.get(trail.id, 0) < last.sequence
    ]


def differing(states: Mapping[str, int], told: Mapping[str, int], who: str) -> list[Finding]:
    """Where `who` counts other tasks in a state than there are."""
    return [
        Finding(Kind.MISTOLD, f"{who} counts {told.get(state, 0):,} {state}, there are {count:,}")
        for state in sorted(states.keys() | {name for name, count in told.items() if count})
        if (count := states.get(state, 0)) != told.get(state, 0)
    ]


def _figures(found: Evidence) -> Figures:
    trails = found.trails.values()
    states = Counter(str(trail.state) for trail in trails)
    if unseen := {waiting.id for waiting in found.queued.values()} - found.trails.keys():
        states[State.QUEUED] += len(unseen)
    return Figures(
        submitted=None if found.ledger is None else len({line.id for line in found.ledger}),
        tasks=len(found.trails.keys() | {waiting.id for waiting in found.queued.values()}),
        states=dict(states),
        executions=sum(trail.starts for trail in trails),
        taken_over=sum(trail.takeovers for trail in trails),
        handed_back=sum(trail.handed_back for trail in trails),
        resumed=sum(trail.parked for trail in trails),
        retried_by_hand=sum(trail.again for trail in trails),
        sequences=found.last_sequence,
    )


def _lost(found: Evidence, at_rest: bool) -> Iterable[Finding]:
    for task_id in suspects(found):
        state = found.trails[task_id].state
        text = f"its log ends with {state}, and neither message nor schedule is left"
        yield Finding(Kind.LOST, text, task_id)
    if not at_rest:
        return
    lost = set(suspects(found))
    for trail in found.trails.values():
        if not trail.ended and trail.id not in lost:
            yield Finding(Kind.LOST, f"has not ended: its log ends with {trail.state}", trail.id)


def _ledger(found: Evidence) -> Iterable[Finding]:
    if found.ledger is None:
        return
    waiting = {each.id for each in found.queued.values()}
    known = {line.id for line in found.ledger}
    for task_id in sorted({line.id for line in found.ledger if line.acknowledged}):
        if task_id not in found.trails and task_id not in waiting:
            yield Finding(Kind.LOST, "acknowledged, and it has neither message nor log", task_id)
    for line in found.ledger:
        trail = found.trails.get(line.id)
        if line.state is not None and (trail is None or trail.state != line.state):
            state = trail.state if trail else "nothing"
            text = f"its submitter was told {line.state}, its log says {state}"
            yield Finding(Kind.MISTOLD, text, line.id)
    if found.complete:
        for task_id in sorted((found.trails.keys() | waiting) - known):
            yield Finding(Kind.UNEXPECTED, "nobody submitted it", task_id)


def _letters(found: Evidence) -> Iterable[Finding]:
    for trail in found.trails.values():
        # What the sweep ends has lost its payload; that is why it is ended.
        wanted = trail.state == State.FAILED and trail.reason != "message_lost"
        if wanted and trail.ended and trail.id not in found.letters:
            text = "failed, and has no dead letter (never stored, or dropped by hand)"
            yield Finding(Kind.NO_DEAD_LETTER, text, trail.id)


def _executions(found: Evidence, faults: int | None) -> Iterable[Finding]:
    if faults is None:
        return
    for trail in found.trails.values():
        needless = trail.takeovers + trail.handed_back
        if needless > faults:
            text = (
                f"was started {trail.starts} times: {trail.takeovers} take-overs and "
                f"{trail.handed_back} hand-backs, {faults} explained"
            )
            yield Finding(Kind.EXECUTIONS, text, trail.id)


def _sequences(found: Evidence, figures: Figures) -> Iterable[Finding]:
    """Account for 1 to `last_sequence`."""
    named: dict[int, int] = {}
    for identity in found.named:
        sequence, stored = _parts(identity)
        if sequence and stored >= found.created_ns:
            named[sequence] = stored
    told = {line.sequence: line.id for line in found.ledger or () if line.sequence is not None}
    dropped = {
        _parts(identity)[0]
        for identity, task_id in found.dropped.items()
        if task_id in found.trails and _parts(identity)[1] >= found.created_ns
    }
    figures.in_queue = len(found.queued)
    unproved: list[int] = []
    later = 0  # when the next known message was stored: no earlier one is younger
    for sequence in range(found.last_sequence, 0, -1):
        if sequence in named:
            figures.named_by_a_record += 1
            later = named[sequence]
        elif sequence in found.queued:
            later = _parts(found.queued[sequence].identity)[1]
        elif told.get(sequence) in found.trails:
            figures.named_by_the_ledger += 1
        elif sequence in dropped:
            figures.dropped += 1
        elif 0 < later < found.expires_ns:
            figures.forgotten += 1
        else:
            unproved.append(sequence)
    figures.in_queue -= len(named.keys() & found.queued.keys())
    figures.unproved = len(unproved)
    if unproved:
        trimmed = sum(not trail.whole for trail in found.trails.values())
        text = (
            f"{len(unproved)} task messages were acked or deleted and no record names them: "
            f"sequences {_ranges(sorted(unproved))}. A second submission of a known id, a task "
            "cancelled before a worker saw it, or a loss; a ledger with sequences tells, and "
            "the logs of the workers do"
        )
        if trimmed:
            text += f". {trimmed} logs are no longer whole and may have named some"
        yield Finding(Kind.UNPROVED, text)


def _calls(found: Evidence, figures: Figures) -> Iterable[Finding]:
    if found.calls is None:
        return
    answered = [call.request_id for call in found.calls.requests if call.status == 200]
    needed = [
        trail
        for trail in found.trails.values()
        if trail.state == State.SUCCEEDED and trail.kind == "claude"
    ]
    unrecorded = [request_id for request_id in answered if request_id not in found.requests]
    figures.paid_calls, figures.needed_calls = len(answered), len(needed)
    figures.unrecorded_calls = len(unrecorded)
    if not found.calls.complete:
        return
    heard = set(answered)
    for trail in needed:
        if trail.request_id not in heard:
            text = f"succeeded with request {trail.request_id}, which Claude never answered"
            yield Finding(Kind.CALLS, text, trail.id)
    kinds = {trail.kind for trail in found.trails.values()}
    cancelled = sum(trail.state == State.CANCELLED for trail in found.trails.values())
    explained = figures.taken_over + cancelled
    if kinds <= SIMPLE_KINDS and len(unrecorded) > explained:
        text = (
            f"{len(unrecorded)} calls were paid and no record has them; {explained} take-overs "
            f"and cancelled tasks explain as many: {', '.join(unrecorded[:5])}"
        )
        yield Finding(Kind.CALLS, text)


def _strangers(found: Evidence) -> Iterable[Finding]:
    for consumer in found.consumers:
        if not consumer.ours:
            text = f"consumer {consumer.name} of {consumer.stream} is not one of ours"
            yield Finding(Kind.REST, text)


def _rest(found: Evidence) -> Iterable[Finding]:
    for sequence, waiting in found.queued.items():
        yield Finding(Kind.REST, f"its message {sequence} is still in the queue", waiting.id)
    for task_id, sequence in sorted(found.schedules):
        yield Finding(Kind.REST, f"its schedule {sequence} is still stored", task_id)
    for waiting in found.due:
        yield Finding(Kind.REST, "a message of it is due and not in the queue", waiting.id)
    for consumer in found.consumers:
        if consumer.unacknowledged:
            text = f"{consumer.name} waits for {consumer.unacknowledged} acks"
            yield Finding(Kind.REST, text)
    for worker in found.slots or ():
        if worker.running or worker.held:
            text = f"worker {worker.actor} runs {worker.running} tasks and holds {worker.held}"
            yield Finding(Kind.REST, text)


def _parts(identity: str) -> tuple[int, int]:
    sequence, _, stored = identity.partition("-")
    if sequence.isdigit() and stored.isdigit():
        return int(sequence), int(stored)
    return 0, 0  # another client's notion of identity


def _ranges(numbers: list[int], shown: int = 10) -> str:
    """`1, 4-6` and so on."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    texts = [f"{low}-{high}" if low < high else str(low) for low, high in found[:shown]]
    return ", ".join(texts) + (", …" if len(found) > shown else "")
