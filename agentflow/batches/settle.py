"""The results of a batch, each written into its task's log as it is read.

Every write is fenced by the task's `waiting` record, so a result that comes twice, or after a
cancel, is refused. Whoever continues where another one died finds what that one left: where the log
goes on from this very record, its schedule, dead letter or entry is stored again.

Results may break off, or lack lines. Only when there are as many as the batch has requests is it
known who was not in it at all: a builder may have missed an entry, and that one waits anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
from array import array
from bisect import bisect_left
from datetime import timedelta
from typing import Final

import msgspec

from agentflow.batches import money
from agentflow.batches.asked import broken, task_of
from agentflow.batches.body import give_up, wait_anew, waits
from agentflow.batches.entries import Item, NotYet, entry_at, pages
from agentflow.batches.money import Bill
from agentflow.batches.place import Place, Settled
from agentflow.errors import PayloadTooLarge
from agentflow.handlers.batching import Answer, Batch
from agentflow.handlers.contract import Outcome
from agentflow.log.task import Overtaken
from agentflow.protocol import batches, subjects
from agentflow.protocol.batches import Row, RowState
from agentflow.protocol.record import Failure, Last, Record, Repair, State
from agentflow.rules import batches as rules
from agentflow.rules import records, retry
from agentflow.rules.records import NOTHING_SPENT, Spent
from agentflow.rules.retry import Signal

_log = logging.getLogger(__name__)

AT_ONCE: Final = 256
_SCHEMA: Final = b'"schema"'


class Index:
    """The entries of a range, without their payloads: a hundred thousand are some 10 MB."""

    def __init__(self) -> None:
        self.sequences = array("Q")
        self.waiting = array("Q")
        self.ids: list[str] = []
        self.heard = bytearray()
        self.formed: set[int] = set()
        """The entries whose answers may have to fit a schema."""
        self.replies: dict[str, str] = {}

    @classmethod
    async def of(cls, place: Place, row: Row, bill: Bill) -> Index:
        """That of a row, whose entries are noted for its bill. Raises BusError, NotYet."""
        index = cls()
        async for items in pages(place, row.first, row.last):
            for item in items:
                index.sequences.append(item.sequence)
                index.waiting.append(item.waiting)
                index.ids.append(item.id)
                bill.enter(item)
                if _SCHEMA in item.message.data:
                    index.formed.add(item.sequence)
                if subjects.REPLY.encode() in item.message.block:
                    index.replies[item.id] = item.message.headers.get(subjects.REPLY, "")
        index.heard = bytearray(len(index.ids))
        return index

    def place_of(self, sequence: int) -> int | None:
        """Where an entry stands; None where it is gone."""
        at = bisect_left(self.sequences, sequence)
        there = at < len(self.sequences) and self.sequences[at] == sequence
        return at if there else None


class Collect:
    """The results of a row whose batch has ended."""

    def __init__(self, place: Place, row: Row, batch: Batch) -> None:
        self._place = place
        self._row = row
        self._batch = batch
        self._index = Index()
        self._bill = Bill(place, row.nonce, ())
        self._lines = 0
        self._told = place.settled.setdefault(row.nonce, Settled())

    async def run(self) -> None:
        """Write all of them, then remove the row. Raises BusError, NotYet, Unreached, Gone."""
        place, row = self._place, self._row
        self._bill = await Bill.of(place, row.nonce)
        self._index = await Index.of(place, row, self._bill)
        self._told.count = self._told.cost_micro = self._told.saved_micro = 0
        part: list[Answer] = []
        async for answer in place.api.results(self._batch.id):
            part.append(answer)
            if len(part) >= AT_ONCE:
                await self._write(part)
                part = []
        await self._write(part)
        if self._lines < row.count:
            raise NotYet(f"{self._batch.id} has {self._lines} of {row.count} results")
        await self._heal()
        await self._bill.settle()
        # Until the server's disk has what was written, the row must be there to read it again.
        await asyncio.sleep(place.pace.flush)
        await place.change(lambda table: rules.remove(table, row.nonce, RowState.MADE))
        place.settled.pop(row.nonce, None)
        await place.tidy()

    async def _write(self, part: list[Answer]) -> None:
        await asyncio.gather(*map(self._one, part))

    async def _one(self, answer: Answer) -> None:
        named = batches.parse_custom_id(answer.custom_id)
        if named is None or named[0] != self._row.nonce:
            return
        at = self._index.place_of(named[1])
        if at is None or self._index.heard[at]:
            self._lines += at is None
            return
        self._lines += 1
        self._index.heard[at] = 1
        task_id, waiting = self._index.ids[at], self._index.waiting[at]
        last = await self._place.log.glance(task_id)
        if not waits(self._place, last, waiting):
            last = await self._place.log.read(task_id)
        try:
            if waits(self._place, last, waiting):
                await self._settle(answer, last, named[1])
            else:
                await self._again(last, waiting, named[1])
        except Overtaken as overtaken:
            await self._again(overtaken.last, waiting, named[1])
        await self._charge(answer, at, named[1])
        self._told.count += 1
        self._told.cost_micro += answer.spent.cost_micro or 0
        self._told.saved_micro += answer.spent.saved_micro

    async def _charge(self, answer: Answer, at: int, sequence: int) -> None:
        """An answer is paid, whatever becomes of it."""
        if not self._bill.limits(at):
            return
        if answer.spent.cost_micro is not None:
            self._bill.add(at, answer.spent.cost_micro)
        elif (item := await entry_at(self._place, sequence)) is not None:
            self._bill.add_unknown(at, await money.most_of(self._place, item))

    # One outcome.

    async def _formed(self, answer: Answer, last: Last, sequence: int) -> Answer:
        """The answer as its task's schema has it, and what of it was asked for again."""
        place = self._place
        item = await entry_at(place, sequence)
        if item is None:
            return answer
        task = task_of(place, item)
        if await broken(place, task, last) is not None:
            spent, known = answer.spent, answer.spent.cost_micro is not None
            cost = (spent.cost_micro or 0) / 1_000_000 if known else None
            repair = Repair(1, spent.usage, cost)
            answer = msgspec.structs.replace(
                answer, spent=msgspec.structs.replace(spent, repair=repair)
            )
        return place.handler.batch_answer(task, answer)

    async def _settle(self, answer: Answer, last: Last, sequence: int) -> None:
        if sequence in self._index.formed:
            answer = await self._formed(answer, last, sequence)
        if answer.signal is None and answer.outcome is not None:
            await self._succeed(answer, last, sequence)
            return
        failure = answer.failure or Failure(type="error", message="the request failed")
        signal = answer.signal or Signal(exception="batch_canceled")
        await self._fail(answer, failure, signal, last, sequence)

    async def _succeed(self, answer: Answer, last: Last, sequence: int) -> None:
        outcome = answer.outcome
        assert outcome is not None
        spent = self._spent(answer)
        record = msgspec.structs.replace(
            self._follow(last, State.SUCCEEDED, spent),
            text=outcome.text,
            content=outcome.content,
            stop_reason=outcome.stop_reason,
            value=outcome.value,
        )
        try:
            stored = await self._place.log.append_fitting(record)
        except PayloadTooLarge as error:
            failure = Failure(type="result_too_large", message=str(error))
            item = await entry_at(self._place, sequence)
            if item is not None:
                await self._end(self._failed(last, "result_too_large", failure, spent), item)
            return
        self._reply(stored)
        self._place.ended(record, spent)

    async def _fail(
        self, answer: Answer, failure: Failure, signal: Signal, last: Last, sequence: int
    ) -> None:
        place, before = self._place, last.record
        assert before is not None
        item = await entry_at(place, sequence)
        if item is None:
            return
        task = task_of(place, item)
        breaks = signal.type == retry.SCHEMA
        decision = retry.decide(
            signal,
            failures=before.failures,
            max_attempts=min(task.max_attempts, task.repair + 1) if breaks else task.max_attempts,
            chance=random.random(),
        )
        spent, failures = self._spent(answer), before.failures + decision.counts
        if not decision.retry:
            record = self._failed(last, decision.reason, failure, spent, failures=failures)
            await self._end(_keeping(record, answer.outcome), item)
            return
        record = msgspec.structs.replace(
            self._follow(last, State.RETRYING, spent, failures=failures),
            resume_at=place.now() + timedelta(seconds=decision.delay),
            reason=decision.reason,
            error=failure,
        )
        record = _keeping(record, answer.outcome) if breaks else record
        await place.log.park(record, item.message)
        place.ended(record, spent)

    def _follow(
        self, last: Last, state: State, spent: Spent, *, failures: int | None = None
    ) -> Record:
        assert last.record is not None
        now = self._place.now()
        return records.follow(
            records.origin_of(last.record),
            last,
            state,
            actor=self._place.log.actor,
            now=now,
            spent=spent,
            attempt=last.record.attempt + 1,
            failures=failures,
            started=self._batch.created,
            ended=self._batch.ended_at or now,
        )

    def _failed(
        self,
        last: Last,
        reason: str,
        failure: Failure,
        spent: Spent,
        *,
        failures: int | None = None,
    ) -> Record:
        record = self._follow(last, State.FAILED, spent, failures=failures)
        return msgspec.structs.replace(record, reason=reason, error=failure)

    def _spent(self, answer: Answer) -> Spent:
        ended = self._batch.ended_at or self._place.now()
        ran = max(0.0, (ended - self._batch.created).total_seconds())
        spent = answer.spent
        if spent is NOTHING_SPENT:
            spent = Spent(request_id=answer.failure.request_id if answer.failure else None)
        return msgspec.structs.replace(spent, run_s=ran)

    async def _end(self, record: Record, item: Item) -> None:
        stored = await self._place.log.fail(record, item.message)
        self._reply(stored)
        self._place.ended(record, None)

    def _reply(self, stored: Last) -> None:
        """Tell whoever asked to be told."""
        record = stored.record
        reply = self._index.replies.get(record.id) if record is not None else None
        if record is not None and reply:
            self._place.reply(reply, stored)

    # What another one left.

    async def _again(self, last: Last, waiting: int, sequence: int) -> None:
        """What goes with a record that follows the one this entry belongs to; twice is harmless."""
        record = last.record
        if record is None or record.follows != waiting:
            return
        item = await entry_at(self._place, sequence)
        if item is None:
            return
        log, message = self._place.log, item.message
        match record.state:
            case State.RETRYING:
                await log.publish_schedule(last, message.data, message.block)
            case State.FAILED:
                await log.publish_dead(last, message.data, message.block)
            case State.WAITING if record.pool is not None:
                await log.publish_entry(last, message.data, message.block)

    async def _heal(self) -> None:
        """Whoever has no line was not in the body: it waits anew."""
        index, place = self._index, self._place
        missed = [at for at in range(len(index.ids)) if not index.heard[at]]
        for start in range(0, len(missed), AT_ONCE):
            part = missed[start : start + AT_ONCE]
            await asyncio.gather(*(self._wait_anew(place, at) for at in part))

    async def _wait_anew(self, place: Place, at: int) -> None:
        index = self._index
        task_id, waiting, sequence = index.ids[at], index.waiting[at], index.sequences[at]
        last = await place.log.read(task_id)
        if not waits(place, last, waiting):
            await self._again(last, waiting, sequence)
            return
        item = await entry_at(place, sequence)
        if item is not None:
            await wait_anew(place, last, item)


def _keeping(record: Record, outcome: Outcome | None) -> Record:
    """The record with an answer that came and is no success."""
    if outcome is None:
        return record
    return records.with_partial(record, outcome.text, outcome.content, outcome.stop_reason)


async def give_up_all(place: Place, row: Row, reason: str, text: str) -> None:
    """Fail whoever still waits in a row whose batch is gone, then remove the row.

    It may be paid: a person decides about asking again. Raises BusError, NotYet.
    """
    async for items in pages(place, row.first, row.last):
        for item in items:
            last = await place.log.read(item.id)
            if waits(place, last, item.waiting):
                await give_up(place, last, item, reason, text)
            elif last.record is not None and (last.record.follows, last.state) == (
                item.waiting,
                State.FAILED,
            ):
                await place.log.publish_dead(last, item.message.data, item.message.block)
    await money.release(place, [row.nonce], spent=True)
    await asyncio.sleep(place.pace.flush)
    await place.change(lambda table: rules.remove(table, row.nonce, RowState.MADE, RowState.SENT))
    await place.tidy()


async def anybody_waits(place: Place, row: Row) -> bool:
    """Whether a task of the row still waits for its batch: else it can be cancelled."""
    async for items in pages(place, row.first, row.last):
        for item in items:
            if waits(place, await place.log.read(item.id), item.waiting):
                return True
    return False
