"""What the audit finds in evidence, and what it must not."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from agentflow.audit.evidence import (
    Call,
    Calls,
    ConsumerState,
    Evidence,
    Slots,
    Submission,
    Waiting,
)
from agentflow.audit.judgement import Report, differing, judge, suspects
from agentflow.audit.trail import Finding, Kind, Trail
from agentflow.protocol.record import Last, Record, State
from agentflow.rules import records as entries
from agentflow.rules.records import Origin

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Logs:
    """Logs written by the rules themselves, one sequence after the other."""

    def __init__(self) -> None:
        self.evidence = Evidence()
        self.sequence = 0
        self.lasts: dict[str, Last] = {}

    def origin(self, task_id: str, message: str) -> Origin:
        return Origin(
            id=task_id,
            queue="default",
            priority="normal",
            message=message,
            submitted=NOW,
            kind="echo",
        )

    def last(self, task_id: str) -> Last:
        return self.lasts.get(task_id, Last())

    def store(self, record: Record) -> None:
        self.sequence += 1
        self.lasts[record.id] = Last(self.sequence, record)
        trail = self.evidence.trails.setdefault(record.id, Trail(record.id))
        trail.take(self.sequence, record)
        if record.message:
            self.evidence.named.add(record.message)
        if record.request_id:
            self.evidence.requests.add(record.request_id)

    def start(self, task_id: str, message: str = "1-1", actor: str = "w1") -> None:
        origin = self.origin(task_id, message)
        self.store(entries.claimed(origin, self.last(task_id), actor=actor, now=NOW))

    def follow(
        self, task_id: str, state: State, message: str = "1-1", actor: str = "w1", **fields: Any
    ) -> None:
        origin = self.origin(task_id, message)
        last = fields.pop("last", self.last(task_id))
        record = entries.follow(origin, last, state, actor=actor, now=NOW)
        self.store(msgspec.structs.replace(record, **fields))

    def whole(self, task_id: str = "a", message: str = "1-1") -> None:
        self.start(task_id, message)
        self.follow(task_id, State.SUCCEEDED, message)

    def judged(self, **options: Any) -> Report:
        numbers = [int(name.partition("-")[0]) for name in self.evidence.named]
        self.evidence.last_sequence = max([self.evidence.last_sequence, *numbers])
        return judge(self.evidence, **options)


@pytest.fixture
def logs() -> Logs:
    return Logs()


def kinds(findings: list[Finding]) -> list[tuple[Kind, str]]:
    return [(finding.kind, finding.id) for finding in findings]


def test_a_life_with_everything_in_it_is_well(logs: Logs) -> None:
    logs.start("a", "1-1")
    logs.follow("a", State.RUNNING, "1-1", progress=0.5)
    logs.follow("a", State.RETRYING, "1-1", failures=1)
    logs.start("a", "2-2")
    logs.follow("a", State.QUEUED, "2-2", attempt=1)
    logs.start("a", "2-2", "w2")
    logs.start("a", "2-2", "w3")
    logs.follow("a", State.FAILED, "2-2", "w3", failures=3)
    logs.start("a", "3-3", "w1")
    logs.follow("a", State.SUCCEEDED, "3-3")
    report = logs.judged(at_rest=True)
    assert report.findings == []
    figures = report.figures
    assert (figures.executions, figures.taken_over, figures.handed_back) == (5, 1, 1)
    assert (figures.resumed, figures.retried_by_hand) == (1, 1)
    assert (figures.sequences, figures.named_by_a_record) == (3, 3)


def test_a_log_that_nothing_brings_on_is_lost(logs: Logs) -> None:
    logs.start("a", "1-1")
    assert kinds(logs.judged().findings) == [(Kind.LOST, "a")]
    logs.evidence.queued[1] = Waiting("a", "1-1")
    assert logs.judged().findings == []
    assert (Kind.LOST, "a") in kinds(logs.judged(at_rest=True).findings)


def test_a_parked_log_is_brought_on_by_its_schedule_or_a_continuation(logs: Logs) -> None:
    logs.start("a", "1-1")
    logs.follow("a", State.RETRYING, "1-1")
    assert suspects(logs.evidence) == ["a"]
    logs.evidence.schedules.add(("a", 1))  # of the record before: it no longer counts
    assert suspects(logs.evidence) == ["a"]
    logs.evidence.schedules.add(("a", 2))
    assert suspects(logs.evidence) == []
    logs.evidence.schedules.clear()
    logs.evidence.due.append(Waiting("a", "9-9", follows=2, sourced=True))
    assert suspects(logs.evidence) == []
    logs.evidence.due.clear()
    logs.evidence.queued[9] = Waiting("a", "9-9", follows=2)
    assert suspects(logs.evidence) == ["a"], "anybody may say so"
    logs.evidence.queued[9] = Waiting("a", "9-9", follows=2, sourced=True)
    assert suspects(logs.evidence) == []


def test_a_log_that_moved_on_meanwhile_is_not_lost(logs: Logs) -> None:
    logs.start("a", "1-1")
    logs.evidence.moved_on.add("a")
    assert logs.judged().findings == []


def test_an_acknowledged_submission_without_a_trace_is_lost(logs: Logs) -> None:
    logs.whole("a")
    logs.evidence.ledger = [Submission("a"), Submission("b"), Submission("c", acknowledged=False)]
    assert kinds(logs.judged().findings) == [(Kind.LOST, "b")]
    logs.evidence.queued[2] = Waiting("b", "2-2")
    assert logs.judged().findings == []


def test_what_nobody_submitted_is_unexpected_where_the_ledger_is_complete(logs: Logs) -> None:
    logs.whole("a")
    logs.whole("b", "2-2")
    logs.evidence.ledger = [Submission("a")]
    assert logs.judged().findings == []
    logs.evidence.complete = True
    assert kinds(logs.judged().findings) == [(Kind.UNEXPECTED, "b")]


def test_what_was_submitted_under_the_id_of_another_request_is_not_unexpected(logs: Logs) -> None:
    logs.whole("a")
    logs.follow("default-2-x", State.FAILED, "2-2", reason="id_reused")
    logs.evidence.letters.add("default-2-x")
    logs.evidence.ledger = [Submission("a")]
    logs.evidence.complete = True
    assert logs.judged().findings == []


def test_what_the_submitter_was_told_must_stand_in_the_log(logs: Logs) -> None:
    logs.whole("a")
    logs.evidence.ledger = [Submission("a", state="failed")]
    assert kinds(logs.judged().findings) == [(Kind.MISTOLD, "a")]


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_a_second_ending_is_found_with_and_without_a_fence(logs: Logs, state: State) -> None:
    logs.start("a")
    claim = logs.last("a")
    logs.follow("a", State.SUCCEEDED)
    logs.follow("a", state)
    assert (Kind.DUPLICATED, "a") in kinds(logs.judged().findings)
    logs.follow("a", state, last=claim)
    assert kinds(logs.judged().findings).count((Kind.DUPLICATED, "a")) == 2


def test_a_record_past_the_fence_breaks_the_chain(logs: Logs) -> None:
    logs.start("a")
    claim = logs.last("a")
    logs.start("a", actor="w2")
    logs.follow("a", State.RUNNING, last=claim, progress=0.5)
    assert (Kind.CHAIN, "a") in kinds(logs.judged().findings)


def test_a_missing_record_is_found_unless_it_expired_or_was_trimmed(logs: Logs) -> None:
    logs.start("a")
    claim = logs.last("a")
    logs.sequence += 1
    gone = Last(logs.sequence, claim.record)
    logs.follow("a", State.SUCCEEDED, last=gone)
    assert kinds(logs.judged().findings) == [(Kind.CHAIN, "a")]
    logs.evidence.first_record = 3
    assert logs.judged().findings == []
    logs.evidence.first_record = 0
    logs.evidence.trails["a"].progress = 64
    assert logs.judged().findings == []


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        (State.RUNNING, {"attempt": 3, "actor": "w2"}),
        (State.RETRYING, {"attempt": 2}),
        (State.SUCCEEDED, {"failures": -1}),
    ],
)
def test_counts_that_jump_are_found(logs: Logs, state: State, fields: dict[str, Any]) -> None:
    logs.start("a")
    logs.follow("a", state, **fields)
    logs.evidence.schedules.add(("a", 2))
    logs.evidence.queued[1] = Waiting("a", "1-1")
    assert kinds(logs.judged().findings) == [(Kind.ORDER, "a")]


def test_a_failed_task_goes_on_by_a_continuation_only(logs: Logs) -> None:
    logs.start("a")
    logs.follow("a", State.FAILED, failures=1)
    logs.evidence.letters.add("a")
    logs.start("a")
    logs.follow("a", State.SUCCEEDED)
    assert kinds(logs.judged().findings) == [(Kind.ORDER, "a")]


def test_a_failed_task_has_a_dead_letter_unless_its_payload_is_lost(logs: Logs) -> None:
    logs.start("a")
    logs.follow("a", State.FAILED, failures=1)
    assert kinds(logs.judged().findings) == [(Kind.NO_DEAD_LETTER, "a")]
    logs.evidence.letters.add("a")
    assert logs.judged().findings == []
    logs.start("b", "2-2")
    logs.follow("b", State.FAILED, "2-2", reason="message_lost")
    assert logs.judged().findings == []


def test_executions_are_held_against_faults(logs: Logs) -> None:
    logs.start("a")
    logs.start("a", actor="w2")
    logs.follow("a", State.SUCCEEDED, actor="w2")
    assert logs.judged().findings == []
    assert logs.judged(faults=1).findings == []
    assert kinds(logs.judged(faults=0).findings) == [(Kind.EXECUTIONS, "a")]


def test_every_sequence_is_accounted_for(logs: Logs) -> None:
    logs.whole("a", "1-100")
    logs.whole("b", "4-400")
    logs.evidence.queued[2] = Waiting("c", "2-200")
    logs.evidence.last_sequence = 6
    report = logs.judged()
    assert kinds(report.findings) == [(Kind.UNPROVED, "")]
    assert "sequences 3, 5-6." in report.findings[0].text
    figures = report.figures
    assert (figures.in_queue, figures.named_by_a_record, figures.unproved) == (1, 2, 3)

    logs.evidence.ledger = [Submission("a", 3), Submission("b", 5), Submission("b", 6)]
    report = logs.judged()
    assert report.findings == []
    assert report.figures.named_by_the_ledger == 3


def test_a_ledger_does_not_prove_what_has_no_log(logs: Logs) -> None:
    logs.whole("a", "1-100")
    logs.evidence.last_sequence = 2
    logs.evidence.ledger = [Submission("a", 1), Submission("b", 2)]
    assert kinds(logs.judged().findings) == [(Kind.LOST, "b"), (Kind.UNPROVED, "")]


def test_messages_of_a_stream_that_was_there_before_prove_nothing(logs: Logs) -> None:
    logs.whole("a", "1-100")
    logs.evidence.created_ns = 500
    assert kinds(logs.judged().findings) == [(Kind.UNPROVED, "")]


def test_what_is_older_than_its_records_is_forgotten_not_lost(logs: Logs) -> None:
    logs.whole("a", "3-300")
    logs.evidence.expires_ns = 300
    assert kinds(logs.judged().findings) == [(Kind.UNPROVED, "")]
    logs.evidence.expires_ns = 301
    report = logs.judged()
    assert report.findings == []
    assert report.figures.forgotten == 2


def test_paid_calls_are_held_against_records(logs: Logs) -> None:
    logs.start("a")
    logs.follow("a", State.SUCCEEDED, kind="claude", request_id="r1")
    logs.evidence.calls = Calls([Call("r1", 200), Call("r0", 529)])
    report = logs.judged()
    assert report.findings == []
    assert (report.figures.paid_calls, report.figures.needed_calls) == (1, 1)
    logs.evidence.calls = Calls([Call("r1", 200), Call("r2", 200)])
    assert kinds(logs.judged().findings) == [(Kind.CALLS, "")]
    logs.start("b", "2-2")
    logs.start("b", "2-2", "w2")
    logs.follow("b", State.SUCCEEDED, "2-2", "w2")
    assert logs.judged().findings == []  # the worker that was lost had called
    logs.evidence.calls = Calls([Call("r9", 200)])
    assert kinds(logs.judged().findings) == [(Kind.CALLS, "a")]
    logs.evidence.calls = Calls([Call("r9", 200)], complete=False)
    assert logs.judged().findings == []


def test_at_rest_nothing_is_left(logs: Logs) -> None:
    logs.whole("a")
    evidence = logs.evidence
    evidence.queued[1] = Waiting("a", "1-1")
    evidence.schedules.add(("a", 1))
    evidence.due.append(Waiting("a", "7-7"))
    evidence.consumers = [ConsumerState("AGENTFLOW_TASKS", "default-normal", True, 3)]
    evidence.slots = [Slots("w1", 1, 0), Slots("w2", 0, 0)]
    assert logs.judged().findings == []
    found = logs.judged(at_rest=True).findings
    assert [finding.kind for finding in found] == [Kind.REST] * 5
    evidence.consumers = [replace_name(evidence.consumers[0])]
    assert [finding.kind for finding in logs.judged().findings] == [Kind.REST]


def replace_name(consumer: ConsumerState) -> ConsumerState:
    return msgspec.structs.replace(consumer, name="stranger", ours=False)


def test_a_record_of_a_later_version_is_left_alone(logs: Logs) -> None:
    logs.start("a")
    logs.follow("a", State.RUNNING, v=9, attempt=7)
    assert logs.judged().findings == []
    assert logs.judged(at_rest=True).ids == ["a"]


def test_counts_of_others_are_held_against_the_logs(logs: Logs) -> None:
    logs.whole("a")
    logs.evidence.queued[2] = Waiting("b", "2-2")
    states = logs.judged().figures.states
    assert states == {"succeeded": 1, "queued": 1}
    assert differing(states, {"succeeded": 1, "queued": 1, "failed": 0}, "it") == []
    found = differing(states, {"succeeded": 2, "failed": 1}, "it")
    assert [finding.text for finding in found] == [
        "it counts 1 failed, there are 0",
        "it counts 0 queued, there are 1",
        "it counts 2 succeeded, there are 1",
    ]
