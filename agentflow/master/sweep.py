"""The sweep: end logs that nothing can bring on any more.

What it decides is in rules/sweep.py; here the facts are read, from the leader, and `failed` is
written by log/task.py, fenced by the record they are about. It never republishes, acks or deletes a
task message. A task it fails has no dead letter: the payload was in the message that is lost.

A round looks at some tasks only, those whose last change is longest ago first, and the next round
goes on behind them; a task whose living worker names it in its heartbeats is well without a look.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from agentflow.bus.streams.bucket import value_of
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.lease import Lease
from agentflow.bus.wire.connection import Connection
from agentflow.errors import BusError, UsageError
from agentflow.log.task import Overtaken, TaskLog
from agentflow.master.index import Index
from agentflow.master.presence import Presence
from agentflow.protocol import batches, control, limits, subjects
from agentflow.protocol.control import Held, Holds
from agentflow.protocol.identity import parse_message
from agentflow.protocol.record import Last, Record, State
from agentflow.rules.sweep import Entry, LogFacts, Step, next_step
from agentflow.views.row import Row

_log = logging.getLogger(__name__)

PAGE: Final = 200
SCANNED: Final = 2_000
AT_ONCE: Final = 16
REASON: Final = "message_lost"


class SweepRate(msgspec.Struct, frozen=True, kw_only=True):
    """How often the sweep looks, and at what; seconds.

    A task is looked at after `quiet` without a change: a redelivery is quicker than the sweep. A
    parked one is looked at when it is `overdue`: sourcing stands still about 13 s after a server's
    restart.
    """

    every: float = 30.0
    quiet: float = 2 * limits.LEASE
    overdue: float = 15.0


USUAL: Final = SweepRate()


class Sweep:
    """Rounds of looking; `lost` counts the logs it has ended."""

    def __init__(
        self,
        js: JetStream,
        log: TaskLog,
        *,
        index: Index,
        presence: Presence,
        lease: Lease,
        corrected: Callable[[Last], None],
        rate: SweepRate,
    ) -> None:
        self._js = js
        self._connection: Connection = js.connection
        self._log = log
        self._index = index
        self._presence = presence
        self._lease = lease
        self._corrected = corrected
        self._rate = rate
        self._behind: dict[str, tuple[int, str]] = {}
        self._noted: dict[str, tuple[int, int]] = {}
        self.lost = 0
        self.rounds = 0

    async def run(self) -> None:
        """A round now and then, while this master has the lease. Raises BusError."""
        while True:
            await asyncio.sleep(self._rate.every)
            if self._lease.held:
                await self.round()

    async def round(self) -> int:
        """Look at some tasks; how many were ended. Raises BusError."""
        before = self.lost
        rows = [*self._candidates(State.RUNNING), *self._candidates(State.QUEUED)]
        rows += [*self._candidates(State.SCHEDULED), *self._candidates(State.RETRYING)]
        rows += self._candidates(State.WAITING)
        for start in range(0, len(rows), AT_ONCE):
            await asyncio.gather(*(self._look(row) for row in rows[start : start + AT_ONCE]))
        self.rounds += 1
        return self.lost - before

    def _candidates(self, state: State) -> list[Row]:
        now = self._log.now().timestamp() * 1000
        quiet, overdue = now - self._rate.quiet * 1000, now - self._rate.overdue * 1000
        candidates: list[Row] = []
        for _ in range(SCANNED // PAGE):
            rows = self._index.oldest(state, after=self._behind.get(state, (-1, "")), limit=PAGE)
            for row in rows:
                parked = row.resume_at is not None
                since = max(row.resume_at or 0, row.updated)
                if row.sequence and since <= (overdue if parked else quiet):
                    candidates.append(row)
            if len(rows) < PAGE or rows[-1].updated > quiet:
                self._behind.pop(state, None)  # the next round begins anew
                break
            self._behind[state] = (rows[-1].updated, rows[-1].id)
            if len(candidates) >= PAGE:
                break
        return candidates

    async def _look(self, row: Row) -> None:
        if row.state == State.RUNNING and self._presence.runs(row.actor, row.id):
            return
        last = await self._log.read(row.id)
        if last.sequence != row.sequence:
            self._noted.pop(row.id, None)
            if last.record is not None:
                self._corrected(last)
            return
        try:
            await self._decide(row.id, last)
        except Overtaken as news:
            self._noted.pop(row.id, None)
            self._corrected(news.last)

    async def _decide(self, task_id: str, last: Last) -> None:
        noted = self._noted.get(task_id)
        if noted is not None and noted[0] != last.sequence:
            del self._noted[task_id]
            noted = None
        facts = LogFacts(noted=noted[1] if noted else None)
        record = last.record
        while (step := next_step(last, facts)) not in (Step.WELL, Step.WAIT):
            assert record is not None
            match step:
                case Step.LOOK_FOR_MESSAGE:
                    facts.message = await self._is_stored(record.message)
                    if facts.noted is not None and not facts.message:
                        facts.first, end = await self._bounds()
                        if end < facts.noted:  # the stream was made anew and counts from 1
                            self._noted.pop(task_id, None)
                            facts.noted = None
                case Step.ASK_OWNER:
                    facts.held = await self._is_held(record)
                case Step.LOOK_FOR_SCHEDULE:
                    subject = subjects.schedule(task_id, last.sequence)
                    facts.schedule = await self._js.last(subjects.SCHEDULE, subject) is not None
                case Step.LOOK_FOR_ENTRY:
                    facts.entry = await self._entry(task_id, last.sequence)
                case Step.LOOK_FOR_DUE:
                    facts.due = await self._is_anything_due()
                case Step.NOTE_END:
                    _, end = await self._bounds()
                    self._noted[task_id] = (last.sequence, end)
                    return
                case Step.LOSE:
                    await self._lose(last, facts)
                    break
        if step is not Step.WAIT:
            self._noted.pop(task_id, None)

    async def _lose(self, last: Last, facts: LogFacts) -> None:
        assert last.record is not None
        record, reason = last.record, REASON
        if facts.entry is Entry.STRAY:
            reason, other = "batch_lost", "no batch will have it"
        elif facts.entry is Entry.GONE:
            other = f"so is its entry in {subjects.BATCH}"
        elif record.resume_at is None:
            other = f"its worker {record.actor} does not hold it"
        else:
            other = "so is its schedule"
        text = (
            f"the task was {record.state}, but its message is gone from {subjects.TASKS} "
            f"and {other}; submit it again"
        )
        self._corrected(await self._log.lose(last, reason, text))
        self.lost += 1
        extra = {"action": "lost", "task_id": record.id, "attempt": record.attempt}
        _log.warning("task %s: %s", record.id, text, extra=extra)

    # Facts.

    async def _is_stored(self, message: str) -> bool:
        """Whether AGENTFLOW_TASKS holds this very message."""
        parsed = parse_message(message)
        if parsed is None:
            return True  # another client's notion of identity; what cannot be told is not lost
        sequence, stored_ns = parsed
        queued = await self._js.get(subjects.TASKS, sequence)
        if queued is None:
            return False
        # The answer's time is rounded to microseconds.
        return abs(queued.time.timestamp() * 1e6 - stored_ns / 1e3) < 2

    async def _is_held(self, record: Record) -> bool:
        """Ask the owner for some seconds; no responders is silence, it may be reconnecting."""
        question = control.encode(Holds(message=record.message))
        end = time.monotonic() + limits.ASK_FOR
        while (now := time.monotonic()) < end:
            try:
                answer = await self._connection.request(
                    subjects.control("worker", record.actor), question, timeout=limits.ASK_EVERY
                )
            except UsageError:
                return False  # no actor has a name that is no token of a subject
            except BusError:
                await asyncio.sleep(max(0.0, min(now + limits.ASK_EVERY, end) - time.monotonic()))
                continue
            match control.decode(answer.data):
                case Held(holds=holds):
                    return holds
        return False

    async def _entry(self, task_id: str, sequence: int) -> Entry:
        """What there is of a task that waits for a batch."""
        stored = await self._js.last(subjects.BATCH, batches.entry_of(task_id, sequence))
        entry = batches.parse_entry(stored.subject) if stored is not None else None
        if stored is None or entry is None:
            return Entry.GONE
        key = subjects.kv(batches.key(entry.pool, entry.queue))
        table = batches.read(value_of(await self._js.last(subjects.KV_STREAM, key)))
        waits = stored.sequence >= table.next or table.holding(stored.sequence) is not None
        return Entry.WELL if waits else Entry.STRAY

    async def _is_anything_due(self) -> bool:
        info = await self._js.stream_info(subjects.SCHEDULE, subjects_filter="agentflow.due.>")
        return bool(info["state"].get("subjects"))

    async def _bounds(self) -> tuple[int, int]:
        """First and last sequence of AGENTFLOW_TASKS; of an empty one the first is the next."""
        state = (await self._js.stream_info(subjects.TASKS))["state"]
        last = int(state["last_seq"])
        # A stream that was never used gives 0 for both.
        return (int(state["first_seq"]) if state["messages"] else last + 1), last
