"""Batches: what there is of them, where a task stands in one, and how one is cancelled.

The tables in the bucket say what is known; how far a batch is, its worker tells with its
heartbeats, and a master passes that on. Needs neither for the rest.
"""

from __future__ import annotations

from agentflow.bus.streams.bucket import Board, read_all, value_of
from agentflow.bus.streams.pages import left_after, page
from agentflow.client.asking import Asking
from agentflow.client.session import Session
from agentflow.errors import MasterAbsent, NoStream, TaskError
from agentflow.protocol import batches, subjects
from agentflow.protocol.batches import Progress, Table
from agentflow.rules import batches as rules
from agentflow.views.batches import GATHERING, BatchView, view, views


class Batches:
    """The batches of all credentials and queues."""

    def __init__(self, session: Session, asking: Asking) -> None:
        self._session = session
        self._asking = asking
        self._board = Board(session.js)

    async def standing(self) -> list[BatchView]:
        """Every batch under way, and what is gathered for the next ones. Raises BusError."""
        tables: dict[str, Table] = {}
        try:
            async for key, _, value in read_all(self._session.js):
                if value is not None and batches.parse_key(key) is not None:
                    tables[key] = batches.read(value)
        except NoStream:
            return []
        waiting = {key: await self._waiting(key, table) for key, table in tables.items()}
        return views(tables, waiting, await self._told())

    async def of_task(self, task_id: str, sequence: int) -> BatchView | None:
        """Where a task stands whose `waiting` record has this sequence; None: its entry is gone."""
        js = self._session.js
        stored = await js.last(subjects.BATCH, batches.entry_of(task_id, sequence))
        entry = batches.parse_entry(stored.subject) if stored is not None else None
        if stored is None or entry is None:
            return None
        key = batches.key(entry.pool, entry.queue)
        table = batches.read(value_of(await js.last(subjects.KV_STREAM, subjects.kv(key))))
        row = table.holding(stored.sequence)
        if row is None:
            count = await self._waiting(key, table)
            return BatchView(pool=entry.pool, queue=entry.queue, state=GATHERING, count=count)
        told = {one.nonce: one for one in await self._told()}
        return view(entry.pool, entry.queue, row, told.get(row.nonce))

    async def cancel(self, batch_id: str) -> BatchView:
        """Have a batch cancelled: its worker tells the API. What is answered by then is kept, and
        the other tasks fail with `batch_canceled`. Raises TaskError where there is no such batch.
        """
        for batch in await self.standing():
            if batch.id == batch_id and not batch.twice:
                key = batches.key(batch.pool, batch.queue)
                await self._board.change(key, lambda value: _cancelled(value, batch_id))
                return batch
        raise TaskError(f"there is no batch {batch_id} under way; agentflow batches lists them")

    async def _waiting(self, key: str, table: Table) -> int:
        place = batches.parse_key(key)
        assert place is not None
        try:
            first = await page(
                self._session.connection,
                subjects.BATCH,
                table.next,
                filter=batches.entries(*place),
                batch=1,
            )
        except NoStream:
            return 0
        return 1 + left_after(first.messages[0]) if first.messages else 0

    async def _told(self) -> list[Progress]:
        try:
            workers = await self._asking.workers()
        except MasterAbsent:
            return []
        return [one for worker in workers if not worker.lost for one in worker.batches]


def _cancelled(value: bytes | None, batch_id: str) -> bytes | None:
    table = rules.cancelled(batches.read(value), batch_id)
    return value if table is None else batches.encode(table)
