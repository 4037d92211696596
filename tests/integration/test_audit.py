"""The proof against a real server: a system that is well, and the controls that must be caught."""

import asyncio

import pytest

from agentflow.audit import sources, verify
from agentflow.audit.evidence import Call, Calls, Submission
from agentflow.audit.judgement import Report
from agentflow.audit.trail import Kind
from agentflow.bus.streams import provision
from agentflow.bus.wire.message import Message
from agentflow.errors import UsageError
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import limits, subjects
from agentflow.protocol import record as records
from tests.integration.conftest import StartWorker
from tests.support.handlers import Gate
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(60)


def kinds(report: Report) -> list[tuple[Kind, str]]:
    return [(finding.kind, finding.id) for finding in report.findings]


async def _run(observer: Observer, *ids: str) -> list[Submission]:
    """Submit and await them; the ledger."""
    ledger = []
    for task_id in ids:
        ack = await observer.submit({"id": task_id, "kind": "echo", "prompt": "x"})
        ledger.append(Submission(task_id, ack.seq))
    await observer.all_ended(ids)
    await observer.at_rest()
    return ledger


async def test_a_system_that_is_well_is_proved_without_a_ledger(
    observer: Observer, start_worker: StartWorker
) -> None:
    await start_worker()
    ledger = await _run(observer, *(f"t{number}" for number in range(20)))
    report = await verify(observer.js, at_rest=True, faults=0, listen=2.5)
    assert report.findings == []
    assert (report.figures.sequences, report.figures.named_by_a_record) == (20, 20)
    assert report.figures.states == {"succeeded": 20}
    report = await verify(observer.js, ledger=ledger, complete=True, at_rest=True)
    assert report.findings == []


async def test_a_system_at_work_is_well_too(observer: Observer, start_worker: StartWorker) -> None:
    gate = Gate()
    await start_worker({"gate": gate}, slots=300)
    ids = [f"t{number}" for number in range(200)]
    for task_id in ids:
        await observer.submit({"id": task_id, "kind": "gate", "prompt": "x"})
    await observer.submit({"id": "later", "prompt": "x", "not_before": "2999-01-01T00:00:00Z"})
    await observer.state("t0", "running")
    working = asyncio.get_running_loop().call_later(0.01, gate.opened.set)
    for _ in range(3):
        assert (await verify(observer.js)).findings == []
    working.cancel()
    gate.opened.set()
    await observer.all_ended(ids)
    assert (await verify(observer.js)).figures.states["succeeded"] == 200


async def test_open_slots_are_seen_in_the_heartbeats(
    observer: Observer, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate})
    await observer.submit({"id": "it", "kind": "gate", "prompt": "x"})
    await observer.state("it", "running")
    report = await verify(observer.js, at_rest=True, listen=2.5)
    text = f"worker {worker.actor.name} runs 1 tasks and holds 0"
    assert text in [finding.text for finding in report.findings]
    gate.opened.set()


# Negative controls: what the checker must find.


async def test_a_dropped_result_is_found(observer: Observer, start_worker: StartWorker) -> None:
    await start_worker()
    ledger = await _run(observer, "a", "b", "c")
    await observer.js.purge(subjects.RECORDS, subjects.result("b"))
    for known in (None, ledger):
        assert kinds(await verify(observer.js, ledger=known)) == [(Kind.LOST, "b")]


async def test_a_dropped_log_is_found(observer: Observer, start_worker: StartWorker) -> None:
    await start_worker()
    ledger = await _run(observer, "a", "b", "c")
    await observer.js.purge(subjects.RECORDS, subjects.log("b"))
    report = await verify(observer.js)
    assert kinds(report) == [(Kind.UNPROVED, "")]
    assert f"sequences {ledger[1].sequence}." in report.findings[0].text
    assert (Kind.LOST, "b") in kinds(await verify(observer.js, ledger=ledger))


async def test_a_doubled_result_is_found(observer: Observer, start_worker: StartWorker) -> None:
    await start_worker()
    await _run(observer, "a", "b", "c")
    last = (await observer.last("b")).record
    assert last is not None
    await observer.js.store(last.subject, records.encode(last))
    assert kinds(await verify(observer.js)) == [(Kind.DUPLICATED, "b")]


async def test_an_ack_before_its_record_is_found(
    observer: Observer, start_worker: StartWorker
) -> None:
    await start_worker()
    ledger = await _run(observer, "a")
    await provision.ensure_consumers(observer.js, "other", lease=limits.LEASE)
    ack = await observer.submit({"id": "b", "prompt": "x"}, subject="agentflow.tasks.other")
    ledger.append(Submission("b", ack.seq))
    assert kinds(await verify(observer.js, ledger=ledger)) == []
    taken: asyncio.Queue[Message] = asyncio.Queue()
    subscription = await observer.connection.subscribe("_INBOX.taken", taken.put_nowait)
    observer.connection.publish(
        f"$JS.API.CONSUMER.MSG.NEXT.{subjects.TASKS}.other-normal",
        b'{"batch":1}',
        reply="_INBOX.taken",
    )
    observer.connection.publish((await taken.get()).reply, b"+ACK")
    await subscription.close()
    await observer.at_rest()
    assert kinds(await verify(observer.js)) == [(Kind.UNPROVED, "")]
    found = kinds(await verify(observer.js, ledger=ledger))
    assert found == [(Kind.LOST, "b"), (Kind.UNPROVED, "")]


async def test_a_second_submission_is_proved_by_a_ledger_or_by_its_workers_log(
    observer: Observer, start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await start_worker()
    ledger = await _run(observer, "a", "b", "a")
    report = await verify(observer.js)
    assert kinds(report) == [(Kind.UNPROVED, "")]
    report = await verify(observer.js, ledger=ledger, complete=True, at_rest=True)
    assert (kinds(report), report.figures.named_by_the_ledger) == ([], 1)
    dropped = sources.read_drops(caplog.messages)
    report = await verify(observer.js, dropped=dropped, at_rest=True)
    assert (kinds(report), report.figures.dropped) == ([], 1)


async def test_a_stranger_that_takes_tasks_is_named(observer: Observer) -> None:
    body = {
        "stream_name": subjects.TASKS,
        "config": {
            "durable_name": "thief",
            "ack_policy": "explicit",
            "filter_subject": "agentflow.tasks.rare",
        },
    }
    await observer.js.api(f"CONSUMER.DURABLE.CREATE.{subjects.TASKS}.thief", body)
    report = await verify(observer.js)
    assert ["thief" in finding.text for finding in report.findings] == [True]


async def test_a_paid_call_that_no_record_has_is_found(
    observer: Observer, start_worker: StartWorker
) -> None:
    async def call(run: Run) -> Outcome:
        run.request_id = f"req_{run.task.id}"
        return Outcome(text="")

    await start_worker({"claude": call})
    await observer.submit({"id": "a", "prompt": "x"})
    await observer.all_ended(["a"])
    entry = '{"path": "/v1/messages", "status": 200, "request_id": "req_%s"}'
    one = sources.read_requests(b'{"requests": 1, "log": [%s]}' % (entry % "a").encode(), "x")
    assert (await verify(observer.js, calls=one)).findings == []
    two = Calls([*one.requests, Call("req_b", 200)])
    assert kinds(await verify(observer.js, calls=two)) == [(Kind.CALLS, "")]


def test_a_ledger_is_ids_or_json_lines() -> None:
    lines = ["a\n", "\n", '{"id": "b", "sequence": 7, "state": "failed", "more": 1}\n']
    assert sources.read_ledger(lines) == [Submission("a"), Submission("b", 7, state="failed")]
    for wrong in ("two words", '{"sequence": 1}', "{"):
        with pytest.raises(UsageError, match="line 1"):
            sources.read_ledger([wrong])
