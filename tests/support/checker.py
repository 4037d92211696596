"""Does a ledger of submitted ids agree with what the streams hold, once all is quiet?

Lost and duplicated results, broken chains, states out of order, and what should not be left behind:
each is one sentence, and no sentence means that the promise was kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from agentflow.bus.jetstream import JetStream
from agentflow.bus.pages import page, sequence_of, subject_of
from agentflow.protocol import limits, subjects
from agentflow.protocol import record as records
from agentflow.protocol.record import Last, State
from agentflow.rules.lifecycle import may_follow

PAGE = 500


async def logs(js: JetStream) -> dict[str, list[Last]]:
    """All logs of the record stream, each in its order."""
    found: dict[str, list[Last]] = {}
    async for subject, last in entries(js):
        found.setdefault(subjects.record_id(subject), []).append(last)
    return found


async def entries(js: JetStream, filter: str = ">") -> AsyncIterator[tuple[str, Last]]:
    """The records of the stream, or of one log, in its order."""
    sequence, more = 1, True
    while more:
        messages, more = await page(
            js.connection, subjects.RECORDS, sequence, filter=filter, batch=PAGE
        )
        for message in messages:
            subject, sequence = subject_of(message), sequence_of(message)
            yield subject, Last(sequence, records.decode(message.data, subject))
        sequence += 1


def check_log(task_id: str, log: list[Last]) -> list[str]:
    """What is wrong with one log."""
    problems = []
    progress = sum(entry.record is not None and not entry.record.terminal for entry in log)
    before = Last()
    if progress >= limits.RECORDS_PER_LOG:
        before = log[0]  # the history may be trimmed; the last record alone decides
        log = log[1:]
    for entry in log:
        record = entry.record
        assert record is not None
        here = f"{task_id}: {record.state} at {entry.sequence}"
        if record.follows != before.sequence:
            problems.append(f"{here} follows {record.follows}, not {before.sequence}")
        if not may_follow(before.state, record.state):
            problems.append(f"{here} may not follow {before.state}")
        last = before.record
        if last is not None:
            if last.state == State.FAILED and record.message == last.message:
                problems.append(f"{here}: a failed task went on without a continuation")
            if record.attempt < last.attempt - (record.state == State.QUEUED):
                problems.append(f"{here} is attempt {record.attempt} after {last.attempt}")
            if record.failures < last.failures and last.state != State.FAILED:
                problems.append(f"{here} counts {record.failures} failures after {last.failures}")
        before = entry
    if before.record is None or not before.record.terminal:
        problems.append(f"{task_id}: lost, it ends with {before.state}")
    return problems


async def check(js: JetStream, ledger: Iterable[str], *, retried: int = 0) -> list[str]:
    """What is wrong once everything in `ledger` should have ended.

    `retried` is how many failed tasks were retried by hand, each of which may end once more.
    """
    found = await logs(js)
    ids = set(ledger)
    problems = [f"{task_id}: lost, it has no record" for task_id in sorted(ids - found.keys())]
    problems += [f"{task_id}: nobody submitted it" for task_id in sorted(found.keys() - ids)]
    ends = 0
    for task_id, log in found.items():
        problems += check_log(task_id, log)
        finals = sum(entry.record is not None and entry.record.terminal for entry in log)
        ends += finals
        if finals > 1 and not retried:
            problems.append(f"{task_id}: {finals} final records")
        if log[-1].state == State.FAILED:
            record = log[-1].record
            assert record is not None
            letter = await js.last(subjects.DEAD, subjects.dead(record.queue, task_id))
            if letter is None:
                problems.append(f"{task_id}: failed without a dead letter")
    if ends > len(ids) + retried:
        problems.append(f"{ends} final records for {len(ids)} tasks")
    for stream in (subjects.TASKS, subjects.SCHEDULE):
        left = (await js.stream_info(stream))["state"]["messages"]
        if left:
            problems.append(f"{stream} holds {left} messages at rest")
    for consumer in await js.consumers(subjects.TASKS):
        if consumer["num_ack_pending"]:
            problems.append(f"{consumer['name']} waits for {consumer['num_ack_pending']} acks")
    return problems
