"""What the master answers on `agentflow.api.*`; the requests and answers are in protocol/api.py.

The index says which tasks there are and in what state; texts and errors are read from the stream
for the tasks that are shown. So `get` of a whole id is right even while the index is rebuilt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.service import Endpoint
from agentflow.errors import BusError, TaskNotFound, UsageError
from agentflow.log.task import TaskLog, last_of
from agentflow.master.index import Cursor, Index
from agentflow.master.presence import Presence
from agentflow.master.queues import Queues, busiest, queue_notes
from agentflow.master.submit import Submissions
from agentflow.protocol import api, subjects
from agentflow.protocol.api import StatsView, Tasks, Workers
from agentflow.protocol.record import Record, State
from agentflow.rules import presence as presences
from agentflow.version import __version__
from agentflow.views import gates as gateviews
from agentflow.views import query
from agentflow.views.api import task_json
from agentflow.views.result import result_of_record
from agentflow.views.row import UNREADABLE, Row, result_of_row

T = TypeVar("T")

READ_AT_ONCE: Final = 8
"""Records read together for a list; each may have megabytes."""
ANSWER_ROOM: Final = 16 * 1024
TOLD: Final = frozenset({State.SUCCEEDED, State.FAILED, State.RETRYING})
"""States whose record has more to show than its row: a text or an error."""

_encode = msgspec.json.Encoder().encode


class Api:
    """The endpoints. `fresh` waits until the index has the newest tasks; `status` gives what only
    the master itself knows of the stats."""

    def __init__(
        self,
        js: JetStream,
        log: TaskLog,
        *,
        index: Index,
        presence: Presence,
        queues: Queues,
        submissions: Submissions,
        fresh: Callable[[], Awaitable[None]],
        board: Board,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._js = js
        self._log = log
        self._index = index
        self._presence = presence
        self._queues = queues
        self._submissions = submissions
        self._fresh = fresh
        self._status = status
        self._board = board

    def endpoints(self) -> dict[str, Endpoint]:
        """Every subject with what answers on it."""
        verbs: dict[str, Callable[[bytes, Mapping[str, str]], Awaitable[bytes]]] = {
            api.GET: self._get,
            api.LIST: self._list,
            api.STATS: self._stats,
            api.WORKERS: self._workers,
            api.SUBMIT: self._submit,
            api.RUN: self._submissions.run,
        }
        return {subjects.api(verb): endpoint for verb, endpoint in verbs.items()}

    # Tasks.

    async def _get(self, data: bytes, _: Mapping[str, str]) -> bytes:
        text = data.strip()
        wanted = (
            _decode(data, api.GetRequest).id if text[:1] == b"{" else text.decode(errors="replace")
        )
        return _encode(await self.get(wanted))

    async def get(self, wanted: str) -> Tasks:
        """The task of this id, else the tasks whose id begins so. Raises TaskNotFound."""
        if not wanted:
            raise UsageError("name a task: its id, or how its id begins")
        row = self._index.get(wanted)
        record = None
        if subjects.is_id(wanted):
            last = await self._log.read(wanted)
            record = last.record
            if record is not None and (row is None or last.sequence >= row.sequence):
                return Tasks(tasks=[task_json(result_of_record(record, last.sequence))], total=1)
        if row is not None:
            return Tasks(tasks=[task_json(result_of_row(row))], total=1)
        rows, total = self._index.starting(wanted, api.PREFIX_MATCHES)
        if not rows:
            await self._fresh()  # it may have been submitted a moment ago
            rows, total = self._index.starting(wanted, api.PREFIX_MATCHES)
        if not rows:
            raise TaskNotFound(self._unknown(wanted), task_id=wanted[:80])
        return Tasks(tasks=await self._told(rows), total=total)

    def _unknown(self, wanted: str) -> str:
        shown = wanted[:80]
        if self._status().get("ready", True):
            return f"no task is known whose id is {shown!r} or begins so"
        return (
            f"no record has the id {shown!r}; the master has just started and is still reading "
            "the streams, so try again in a few seconds"
        )

    async def _list(self, data: bytes, _: Mapping[str, str]) -> bytes:
        request = _decode(data, api.ListRequest)
        if not 1 <= request.limit <= api.LIST_MOST:
            raise UsageError(f"limit is {request.limit}; it may be 1 to {api.LIST_MOST}")
        limit = request.limit
        wanted = _query(request.query)
        await self._fresh()
        while True:
            selected = await self._index.select(
                states=[request.state] if request.state is not None else request.states,
                queue=request.queue,
                kind=request.kind,
                since=request.since,
                wants=wanted,
                labels=request.label.items(),
                limit=limit,
                after=_cursor(request.after),
            )
            answer = _encode(
                Tasks(
                    tasks=await self._told(selected.rows),
                    total=selected.total,
                    next=_after(selected.next),
                )
            )
            # An answer over max_payload would end the connection; a shorter page has a `next`.
            if len(answer) <= self._js.connection.max_payload - ANSWER_ROOM or limit == 1:
                return answer
            limit = max(1, limit // 2)

    async def _told(self, rows: list[Row]) -> list[dict[str, Any]]:
        """Rows as they are answered, with the text or error of their records."""
        reading = asyncio.Semaphore(READ_AT_ONCE)

        async def told(row: Row) -> dict[str, Any]:
            if row.state not in TOLD:
                return task_json(result_of_row(row))
            async with reading:
                record = await self._record(row)
            return task_json(result_of_row(row, record))

        return list(await asyncio.gather(*(told(row) for row in rows)))

    async def _record(self, row: Row) -> Record | None:
        if row.state == UNREADABLE:
            return None
        subject = subjects.result(row.id) if row.finished else subjects.progress(row.id)
        try:
            last = last_of(await self._js.direct(subjects.RECORDS, subject))
        except BusError:
            return None
        return last.record if last.sequence == row.sequence else None

    # The whole.

    async def _stats(self, _: bytes, __: Mapping[str, str]) -> bytes:
        return _encode(await self.stats())

    async def stats(self) -> StatsView:
        """Everything at a glance; what cannot be read is said in the notes."""
        await self._fresh()
        status = self._status()
        notes = list(status.pop("notes", []))
        depths: Mapping[str, Any] = {}
        try:
            depths = await self._queues.depths()
        except BusError as error:
            notes.append(f"the queues' depths are unknown: {error}")
        queues = self._queues.views(
            depths,
            self._index.by_queue(),
            self._presence.living(),
            settled=self._presence.settled,
        )
        queues, notes = busiest(queues), notes + queue_notes(queues)
        totals = self._index.totals
        return StatsView(
            counts=self._index.counts(),
            queues=queues,
            gates=gateviews.views(self._board.items(), self._log.now()),
            workers=sum(1 for _ in self._presence.living()),
            lost_workers=self._presence.lost,
            usage=totals.usage,
            cost_usd=totals.cost / 1_000_000,
            cost_unknown=totals.cost_unknown,
            simulated=totals.simulated,
            notes=notes,
            tasks_known=len(self._index),
            version=__version__,
            **status,
        )

    async def _workers(self, _: bytes, __: Mapping[str, str]) -> bytes:
        views = self._presence.views()
        told = views
        while True:
            answer = _encode(Workers(workers=told, total=len(views)))
            if len(answer) <= self._js.connection.max_payload - ANSWER_ROOM:
                return answer
            told = told[: len(told) // 2]

    async def _submit(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        stored = await self._submissions.submit(data, headers)
        workers = sum(presences.serves(beat, stored.queue) for beat in self._presence.living())
        if presences.is_unserved(
            messages=1, workers=workers, pulls=0, settled=self._presence.settled
        ):
            stored = msgspec.structs.replace(stored, unserved=True)
        return _encode(stored)


def _decode(data: bytes, type: type[T]) -> T:
    try:
        return msgspec.json.decode(data.strip() or b"{}", type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the request cannot be read: {error}") from None


def _query(text: str | None) -> Callable[[Row], bool] | None:
    """The test of a query. Raises UsageError for one that the index cannot answer."""
    if not text:
        return None
    try:
        wanted = query.parse(text)
    except query.QueryError as error:
        raise UsageError(f"the query {text[:80]!r}: {error}") from None
    if unknown := sorted(wanted.fields & query.DETAILS):
        raise UsageError(
            f"a master does not know {', '.join(unknown)} of a task; `agentflow dead` and the "
            "dashboard do"
        )
    now = time.time()
    return lambda row: wanted.wants(row, now)


def _after(cursor: Cursor | None) -> str | None:
    """Where a list goes on, as `after` of the next request."""
    return None if cursor is None else f"{cursor.updated}:{cursor.id}"


def _cursor(text: str | None) -> Cursor | None:
    if text is None:
        return None
    updated, _, task_id = text.partition(":")
    if not updated.isascii() or not updated.isdigit() or len(updated) > 18:
        raise UsageError(f"after is {text[:80]!r}; it is `next` of an earlier answer")
    return Cursor(int(updated), task_id)
