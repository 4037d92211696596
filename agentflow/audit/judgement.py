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

import msgspec

from agentflow.audit.evidence import Evidence
from agentflow.audit.trail import Finding, Kind
from agentflow.protocol.identity import parse_message
from agentflow.protocol.record import ID_REUSED, State

SIMPLE_KINDS = frozenset({"claude", "echo", "sleep", "unknown"})
"""Kinds that send Claude one request an attempt at most."""


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
    withdrawn: int = 0
    letters_dropped: int = 0
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


def judge(evidence: Evidence, *, at_rest: bool = False, faults: int | None = None) -> Report:
    """Everything that is wrong.

    `at_rest`: all should have ended and nothing be left behind. `faults`: so often at most may one
    task have been started without need, because a worker was lost or stopped; None: not judged.
    """
    report = Report(figures=_figures(evidence))
    add = report.findings.extend
    for trail in evidence.trails.values():
        add(trail.findings)
        add(trail.excused(evidence.first_record))
    add(_lost(evidence, at_rest))
    add(_ledger(evidence))
    add(_letters(evidence))
    add(_payloads(evidence))
    add(_executions(evidence, faults))
    add(_sequences(evidence, report.figures))
    add(_calls(evidence, report.figures))
    add(_twice(evidence))
    add(_strangers(evidence))
    if at_rest:
        add(_rest(evidence))
    return report


def suspects(evidence: Evidence) -> list[str]:
    """Ids whose log has not ended and which nothing in the evidence brings on.

    On a system at work they may only have moved on between two readings: look again.
    """
    live = {waiting.identity for waiting in evidence.queued.values()}
    # What has not ended a schedule alone brings on: anybody may store a message that says so.
    continued = {
        (waiting.id, waiting.follows)
        for waiting in (*evidence.queued.values(), *evidence.due)
        if waiting.sourced
    }
    return [
        trail.id
        for trail in evidence.trails.values()
        if (last := trail.last) is not None
        and not trail.ended
        and last.readable
        and trail.id not in evidence.moved_on
        and last.message not in live
        and (trail.id, last.sequence) not in evidence.schedules
        and (trail.id, last.sequence) not in evidence.entries
        and (trail.id, last.sequence) not in continued
    ]


def differing(states: Mapping[str, int], told: Mapping[str, int], who: str) -> list[Finding]:
    """Where `who` counts other tasks in a state than there are."""
    return [
        Finding(Kind.MISTOLD, f"{who} counts {told.get(state, 0):,} {state}, there are {count:,}")
        for state in sorted(states.keys() | {name for name, count in told.items() if count})
        if (count := states.get(state, 0)) != told.get(state, 0)
    ]


def _figures(evidence: Evidence) -> Figures:
    trails = evidence.trails.values()
    states = Counter(str(trail.state) for trail in trails)
    if unseen := {waiting.id for waiting in evidence.queued.values()} - evidence.trails.keys():
        states[State.QUEUED] += len(unseen)
    return Figures(
        submitted=None if evidence.ledger is None else len({line.id for line in evidence.ledger}),
        tasks=len(evidence.trails.keys() | {waiting.id for waiting in evidence.queued.values()}),
        states=dict(states),
        executions=sum(trail.starts for trail in trails),
        taken_over=sum(trail.takeovers for trail in trails),
        handed_back=sum(trail.handed_back for trail in trails),
        resumed=sum(trail.parked for trail in trails),
        retried_by_hand=sum(trail.again for trail in trails),
        sequences=evidence.last_sequence,
        letters_dropped=sum(trail.dropped for trail in trails),
    )


def _lost(evidence: Evidence, at_rest: bool) -> Iterable[Finding]:
    for task_id in suspects(evidence):
        state = evidence.trails[task_id].state
        text = f"its log ends with {state}, and neither message nor schedule is left"
        yield Finding(Kind.LOST, text, task_id)
    if not at_rest:
        return
    lost = set(suspects(evidence))
    for trail in evidence.trails.values():
        if not trail.ended and trail.id not in lost:
            yield Finding(Kind.LOST, f"has not ended: its log ends with {trail.state}", trail.id)


def _ledger(evidence: Evidence) -> Iterable[Finding]:
    if evidence.ledger is None:
        return
    waiting = {message.id for message in evidence.queued.values()}
    known = {line.id for line in evidence.ledger}
    for task_id in sorted({line.id for line in evidence.ledger if line.acknowledged}):
        if task_id not in evidence.trails and task_id not in waiting:
            yield Finding(Kind.LOST, "acknowledged, and it has neither message nor log", task_id)
    for line in evidence.ledger:
        trail = evidence.trails.get(line.id)
        if line.state is not None and (trail is None or trail.state != line.state):
            state = trail.state if trail else "nothing"
            text = f"its submitter was told {line.state}, its log says {state}"
            yield Finding(Kind.MISTOLD, text, line.id)
    if evidence.complete:
        for task_id in sorted((evidence.trails.keys() | waiting) - known):
            trail = evidence.trails.get(task_id)
            if trail is not None and trail.reason == ID_REUSED:
                continue  # its submitter gave it an id, which is that of another request
            yield Finding(Kind.UNEXPECTED, "nobody submitted it", task_id)


def _letters(evidence: Evidence) -> Iterable[Finding]:
    for trail in evidence.trails.values():
        # What the sweep ends has lost its payload; that is why it is ended.
        wanted = trail.state == State.FAILED and trail.reason != "message_lost"
        if wanted and trail.ended and not trail.dropped and trail.id not in evidence.letters:
            text = "failed, and has no dead letter (never stored, or deleted without a word)"
            yield Finding(Kind.NO_DEAD_LETTER, text, trail.id)


def _payloads(evidence: Evidence) -> Iterable[Finding]:
    for task_id in sorted(evidence.bare):
        text = "waits, and the payload that it refers to is not there: it will fail"
        yield Finding(Kind.NO_PAYLOAD, text, task_id)


def _executions(evidence: Evidence, faults: int | None) -> Iterable[Finding]:
    if faults is None:
        return
    for trail in evidence.trails.values():
        needless = trail.takeovers + trail.handed_back
        if needless > faults:
            text = (
                f"was started {trail.starts} times: {trail.takeovers} take-overs and "
                f"{trail.handed_back} hand-backs, {faults} explained"
            )
            yield Finding(Kind.EXECUTIONS, text, trail.id)


def _sequences(evidence: Evidence, figures: Figures) -> Iterable[Finding]:
    """Account for 1 to `last_sequence`."""
    recorded = {
        sequence: stored_ns
        for sequence, stored_ns in map(_message, evidence.named)
        if sequence and stored_ns >= evidence.created_ns
    }
    told = {line.sequence: line.id for line in evidence.ledger or () if line.sequence is not None}
    dropped = {
        sequence
        for (sequence, stored_ns), task_id in (
            (_message(identity), task_id) for identity, task_id in evidence.dropped.items()
        )
        if task_id in evidence.trails and stored_ns >= evidence.created_ns
    }
    unproved: list[int] = []
    later = 0  # when the next known message was stored: no earlier one is younger
    for sequence in range(evidence.last_sequence, 0, -1):
        if sequence in recorded:
            figures.named_by_a_record += 1
            later = recorded[sequence]
        elif sequence in evidence.queued:
            later = _message(evidence.queued[sequence].identity)[1]
        elif told.get(sequence) in evidence.trails:
            figures.named_by_the_ledger += 1
        elif sequence in dropped:
            figures.dropped += 1
        elif sequence in evidence.withdrawn:
            figures.withdrawn += 1
        elif 0 < later < evidence.expires_ns:
            figures.forgotten += 1
        else:
            unproved.append(sequence)
    figures.in_queue = len(evidence.queued.keys() - recorded.keys())
    figures.unproved = len(unproved)
    if unproved:
        yield _unproved(evidence, sorted(unproved))


def _message(identity: str) -> tuple[int, int]:
    """Sequence and stored time of a message, zeros for another client's notion of identity."""
    return parse_message(identity) or (0, 0)


def _unproved(evidence: Evidence, sequences: list[int]) -> Finding:
    trimmed = sum(not trail.whole for trail in evidence.trails.values())
    text = (
        f"{len(sequences)} task messages were acked or deleted and no record names them: "
        f"sequences {_ranges(sequences)}. A second submission of a known id, a task "
        "cancelled before a worker saw it, or a loss; a ledger with sequences tells, and "
        "the logs of the workers do"
    )
    if trimmed:
        text += f". {trimmed} logs are no longer whole and may have named some"
    return Finding(Kind.UNPROVED, text)


def _calls(evidence: Evidence, figures: Figures) -> Iterable[Finding]:
    if evidence.calls is None:
        return
    answered = [call.request_id for call in evidence.calls.requests if call.status == 200]
    needed = [
        trail
        for trail in evidence.trails.values()
        if trail.state == State.SUCCEEDED and trail.kind == "claude"
    ]
    unrecorded = [request_id for request_id in answered if request_id not in evidence.requests]
    figures.paid_calls, figures.needed_calls = len(answered), len(needed)
    figures.unrecorded_calls = len(unrecorded)
    if not evidence.calls.complete:
        return
    heard = set(answered)
    for trail in needed:
        if trail.request_id not in heard:
            text = f"succeeded with request {trail.request_id}, which Claude never answered"
            yield Finding(Kind.CALLS, text, trail.id)
    kinds = {trail.kind for trail in evidence.trails.values()}
    cancelled = sum(trail.state == State.CANCELLED for trail in evidence.trails.values())
    explained = figures.taken_over + cancelled
    if kinds <= SIMPLE_KINDS and len(unrecorded) > explained:
        text = (
            f"{len(unrecorded)} calls were paid and no record has them; {explained} take-overs "
            f"and cancelled tasks explain as many: {', '.join(unrecorded[:5])}"
        )
        yield Finding(Kind.CALLS, text)


def _twice(evidence: Evidence) -> Iterable[Finding]:
    for key, table in evidence.tables.items():
        for twice in table.twice:
            text = (
                f"{key}: batch {twice.batch} of {twice.count:,} requests was created so late that"
                " it was paid beside another"
            )
            yield Finding(Kind.CALLS, text)


def _strangers(evidence: Evidence) -> Iterable[Finding]:
    for consumer in evidence.consumers:
        if not consumer.ours:
            text = f"consumer {consumer.name} of {consumer.stream} is not one of ours"
            yield Finding(Kind.REST, text)


def _rest(evidence: Evidence) -> Iterable[Finding]:
    for sequence, waiting in evidence.queued.items():
        yield Finding(Kind.REST, f"its message {sequence} is still in the queue", waiting.id)
    for task_id, sequence in sorted(evidence.schedules):
        yield Finding(Kind.REST, f"its schedule {sequence} is still stored", task_id)
    ends = {(trail.id, trail.last.sequence) for trail in evidence.trails.values() if trail.last}
    for task_id, sequence in sorted(evidence.entries & ends):
        yield Finding(Kind.REST, f"it waits for a batch since record {sequence}", task_id)
    for key, table in evidence.tables.items():
        for row in table.rows:
            yield Finding(Kind.REST, f"{key} has batch {row.id or row.nonce}, {row.state}")
    for waiting in evidence.due:
        yield Finding(Kind.REST, "a message of it is due and not in the queue", waiting.id)
    for consumer in evidence.consumers:
        if consumer.unacknowledged:
            text = f"{consumer.name} waits for {consumer.unacknowledged} acks"
            yield Finding(Kind.REST, text)
    for worker in evidence.slots or ():
        if worker.running or worker.held:
            text = f"worker {worker.actor} runs {worker.running} tasks and holds {worker.held}"
            yield Finding(Kind.REST, text)


def _ranges(numbers: list[int], shown: int = 10) -> str:
    """`1, 4-6` and so on."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    texts = [f"{low}-{high}" if low < high else str(low) for low, high in spans[:shown]]
    return ", ".join(texts) + (", …" if len(spans) > shown else "")
