"""Reads the streams into evidence, in the order in which a message travels.

Schedules, then task messages, then records: whoever leaves one stage is in the next already, so a
system at work is not mistaken for one that loses tasks. Pages may come from any replica, which lags
a little; what looks lost is therefore read again, its last record from the leader.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from agentflow.audit.evidence import ConsumerState, Evidence, Slots, Waiting
from agentflow.audit.judgement import suspects
from agentflow.audit.trail import Trail
from agentflow.bus.streams.bucket import read_all
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.pages import page, sequence_of, stored_ns, subject_of
from agentflow.bus.wire.message import Message
from agentflow.errors import InvalidTask, NoStream, NotFound
from agentflow.log.task import last_of
from agentflow.protocol import batches, control, jobs, streams, subjects
from agentflow.protocol import payload as payloads
from agentflow.protocol import record as records
from agentflow.protocol import task as tasks
from agentflow.protocol.headers import sourced
from agentflow.protocol.identity import message_identity
from agentflow.protocol.record import Last
from agentflow.rules import presence
from agentflow.rules.presence import Seen

_DUE: Final = "agentflow.due."
_WATCHED: Final = (subjects.TASKS, subjects.RECORDS, subjects.DEAD)
LOOKS: Final = 3
"""How often what looks lost is looked at again, `PAUSE` seconds apart."""
PAUSE: Final = 0.5


async def read_messages(js: JetStream, stream: str, filter: str = ">") -> AsyncIterator[Message]:
    """All messages of a stream, in its order. Raises BusError."""
    sequence, more = 1, True
    while more:
        stored, more = await page(js.connection, stream, sequence, filter=filter)
        for message in stored:
            yield message
        if stored:
            sequence = sequence_of(stored[-1]) + 1
        elif more:
            more = False  # nothing came although something is left: purged at this moment


async def read_records(js: JetStream, filter: str = ">") -> AsyncIterator[tuple[str, Last]]:
    """Subjects and records of all logs, or of one. Raises BusError."""
    async for message in read_messages(js, subjects.RECORDS, filter):
        subject = subject_of(message)
        yield subject, Last(sequence_of(message), records.decode(message.data, subject))


async def read_evidence(js: JetStream) -> Evidence:
    """What the streams hold. Raises BusError."""
    evidence = Evidence()
    await _read_queue(js, evidence)
    info = await js.stream_info(subjects.RECORDS)
    evidence.first_record = info["state"]["first_seq"]
    age = info["config"].get("max_age", 0)
    if age:
        evidence.expires_ns = _ns(info["ts"]) - age
    async for subject, last in read_records(js):
        task_id = subjects.record_id(subject)
        trail = evidence.trails.get(task_id)
        if trail is None:
            trail = evidence.trails[task_id] = Trail(task_id)
        record = last.record
        assert record is not None
        trail.take(last.sequence, record)
        if record.message:
            evidence.named.add(record.message)
        if record.request_id:
            evidence.requests.add(record.request_id)
    async for message in read_messages(js, subjects.DEAD):
        evidence.letters.add(subjects.parse_dead(subject_of(message))[1])
    await _read_jobs(js, evidence)
    await _read_payloads(js, evidence)
    for stream in _WATCHED:
        try:
            consumers = await js.consumers(stream)
        except NotFound:
            continue
        evidence.consumers += [_consumer(stream, info) for info in consumers]
    return evidence


async def _read_queue(js: JetStream, evidence: Evidence) -> None:
    """Schedules, then task messages, then what waits for batches; how many there ever were is
    asked before."""
    info = await js.stream_info(subjects.TASKS)
    evidence.last_sequence = info["state"]["last_seq"]
    evidence.created_ns = _ns(info["created"])
    evidence.schedules.clear()
    evidence.due.clear()
    evidence.queued.clear()
    evidence.references.clear()
    async for message in read_messages(js, subjects.SCHEDULE):
        subject = subject_of(message)
        _refer(evidence, message)
        if subject.startswith(_DUE):
            evidence.due.append(_waiting(message, subject))
        else:
            evidence.schedules.add(subjects.parse_schedule(subject))
    async for message in read_messages(js, subjects.TASKS):
        _refer(evidence, message)
        evidence.queued[sequence_of(message)] = _waiting(message, subject_of(message))
    await _read_batches(js, evidence)


async def _read_batches(js: JetStream, evidence: Evidence) -> None:
    """What waits for a batch or is in one; the tables are read before it, rows go last."""
    evidence.entries.clear()
    evidence.tables.clear()
    with contextlib.suppress(NoStream):  # a bucket that is being made anew has none
        async for key, _, value in read_all(js):
            if value is not None and batches.parse_key(key) is not None:
                evidence.tables[key] = batches.read(value)
    try:
        async for message in read_messages(js, subjects.BATCH):
            entry = batches.parse_entry(subject_of(message))
            if entry is not None:
                evidence.entries.add((entry.id, entry.waiting))
    except NoStream:
        return  # of a version before batches


async def _read_jobs(js: JetStream, evidence: Evidence) -> None:
    """What jobs took back. A queue made anew gives its sequences again, so older ones are none."""
    try:
        async for key, _, value in read_all(js):
            job = jobs.decode(value) if key.startswith(jobs.PREFIX) else None
            if job is not None and job.seen.timestamp() * 1e9 >= evidence.created_ns:
                for first, last in job.withdrawn:
                    evidence.withdrawn.update(range(first, last + 1))
    except NoStream:
        return  # a server whose bucket nobody has made


def _refer(evidence: Evidence, message: Message) -> None:
    headers = message.headers
    if "payload" not in headers.get(subjects.NEEDS, ""):
        return
    with contextlib.suppress(InvalidTask):
        body = tasks.parse_body(message.data, headers)
        task_id = tasks.given_id(headers, body)
        if body.payload is not None and task_id is not None:
            evidence.references[payloads.object_name(task_id, body.payload)] = task_id


async def _read_payloads(js: JetStream, evidence: Evidence) -> None:
    """Which payloads are missing that tasks wait with: of one that has ended none is wanted."""
    for name, task_id in evidence.references.items():
        try:
            stored = await js.last(subjects.OBJECTS, payloads.info_subject(name))
        except NotFound:
            stored = None
        if stored is not None and payloads.read_info(stored.data) is not None:
            continue
        last = last_of(await js.last(subjects.RECORDS, subjects.log(task_id)))
        if last.record is None or not last.record.terminal:
            evidence.bare.add(task_id)


async def look_again(js: JetStream, evidence: Evidence) -> None:
    """Clear those that only moved on while the streams were read. Raises BusError."""
    for _ in range(LOOKS):
        doubtful = suspects(evidence)
        if not doubtful:
            return
        await asyncio.sleep(PAUSE)
        last = evidence.last_sequence
        await _read_queue(js, evidence)
        evidence.last_sequence = last  # what came since has records that were not read
        for task_id in doubtful:
            now = last_of(await js.last(subjects.RECORDS, subjects.log(task_id)))
            known = evidence.trails[task_id].last
            if known is None or now.sequence != known.sequence:
                evidence.moved_on.add(task_id)


async def hear_slots(js: JetStream, seconds: float) -> list[Slots]:
    """What the workers' heartbeats say, the last of each in so many seconds. Raises BusError."""
    loop = asyncio.get_running_loop()
    workers: dict[str, Seen] = {}

    def heard(message: Message) -> None:
        beat = control.decode_heartbeat(message.data)
        if beat is not None and beat.role == "worker":
            presence.hear(workers, beat, loop.time(), Seen)

    subscription = await js.connection.subscribe(subjects.PRESENCE, heard)
    try:
        await asyncio.sleep(seconds)
    finally:
        await subscription.close()
    beats = (seen.beat for seen in workers.values())
    return [Slots(beat.actor, beat.running, beat.held) for beat in beats]


def _waiting(message: Message, subject: str) -> Waiting:
    sequence, stored = sequence_of(message), stored_ns(message)
    queue = subjects.queue_of(subject)
    task_id, follows = tasks.identified(message.headers, message.data, queue, sequence, stored)
    from_schedule = subject.startswith(_DUE) or sourced(message.block, subjects.SCHEDULE)
    return Waiting(task_id, message_identity(sequence, stored), follows, from_schedule)


def _consumer(stream: str, info: dict[str, Any]) -> ConsumerState:
    ours = stream == subjects.TASKS and streams.own_consumer(info["config"]) is not None
    return ConsumerState(stream, info["name"], ours, info.get("num_ack_pending", 0))


def _ns(text: str) -> int:
    """An instant of the JetStream API in nanoseconds since 1970."""
    # datetime keeps microseconds only.
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])
