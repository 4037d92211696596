"""What the steps of one pool and queue share: its table, and who is told what.

The table is one key of the bucket. A refusal or a missing answer proves nothing here either: the
key is read again from the leader, and one's own write is known by its name (`by`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import msgspec

from agentflow.batches.pace import Pace
from agentflow.bus.streams.bucket import value_of
from agentflow.bus.streams.jetstream import JetStream
from agentflow.errors import BusError, PayloadTooLarge, PermissionDenied, WrongSequence
from agentflow.handlers.batching import Batched, Batching
from agentflow.log.task import TaskLog
from agentflow.protocol import batches, subjects
from agentflow.protocol import headers as blocks
from agentflow.protocol.batches import Row, Table
from agentflow.protocol.record import Last, Record
from agentflow.rules.records import Spent
from agentflow.telemetry import tracing

_log = logging.getLogger(__name__)

PAUSE_MIN: Final = 0.05
PAUSE_MAX: Final = 2.0

Step = Callable[[Table], "Table | None"]
"""From a table to the next one; None where the step does not apply any more."""
Told = Callable[[Record, Spent | None], None]


class Settled(msgspec.Struct):
    """How far a batch's results are written, and what they came to."""

    count: int = 0
    cost_micro: int = 0
    saved_micro: int = 0


class Waits(Protocol):
    """What a row without money waits for."""

    async def raised(self) -> bool: ...


class Rest(NamedTuple):
    """Until when, by a clock that nobody sets, a row is not built again, and what ends that."""

    until: float
    waits: Waits


class Place:
    """One pool and queue, as one batcher sees it."""

    def __init__(
        self,
        js: JetStream,
        log: TaskLog,
        handler: Batched,
        queue: str,
        pace: Pace,
        *,
        ended: Told = lambda record, spent: None,
    ) -> None:
        self.js = js
        self.log = log
        self.handler = handler
        self.api: Batching = handler.batching()
        self.pool = handler.pool
        self.queue = queue
        self.pace = pace
        self.ended = ended
        """Told of each outcome that is written."""
        self.reply: Callable[[str, Last], None] = lambda subject, last: None
        """Tells a final record to whoever asked for it."""
        self.whose: dict[str, str] = {}
        """The nonces of batches that were read; "" of a stranger's. A batch is whose it is."""
        self.key = batches.key(self.pool, queue)
        self.table = Table()
        """As it was last read or written here."""
        self.creating: set[str] = set()
        """Creates of this process that are under way."""
        self.first_seen: dict[str, float] = {}
        """When this process first saw a row sent, by a clock that nobody sets."""
        self.settled: dict[str, Settled] = {}
        self.resting: dict[int, Rest] = {}
        """Rows whose requests have no room in their budgets, by their first entry."""
        self.spans = tracing.found()
        self._missing: dict[str, float] = {}
        self._writes = itertools.count(1)

    @property
    def entries(self) -> str:
        """Filter of what waits here."""
        return batches.entries(self.pool, self.queue)

    def now(self) -> datetime:
        """The server's time."""
        return self.log.now()

    def nonce(self) -> str:
        """A name for a create that nobody had before."""
        return f"af{secrets.token_hex(6)}"

    # The table.

    async def read(self) -> Table:
        """The table, from the leader. Raises BusError, msgspec.DecodeError."""
        last = await self.js.last(subjects.KV_STREAM, subjects.kv(self.key))
        self.table = batches.read(value_of(last))
        return self.table

    async def change(self, step: Step, *, within: float | None = None) -> Table | None:
        """Take a step; None where it does not apply any more.

        Goes on until the outcome is known. Raises TimeoutError after `within` seconds: the write
        may be stored then, or still be; PermissionDenied, PayloadTooLarge.
        """
        by = f"{self.log.actor}#{next(self._writes)}"
        pause = PAUSE_MIN
        async with asyncio.timeout(within):
            while True:
                try:
                    last = await self.js.last(subjects.KV_STREAM, subjects.kv(self.key))
                    table = batches.read(value_of(last))
                    if table.by != by:
                        after = step(table)
                        if after is None:
                            self.table = table
                            return None
                        table = msgspec.structs.replace(after, by=by)
                        await self._store(table, last.sequence if last else 0)
                    self.table = table
                    return table
                except WrongSequence:
                    continue
                except (PermissionDenied, PayloadTooLarge):
                    raise
                except BusError as error:
                    _log.info("%s is not changed yet: %s", self.key, error)
                    await asyncio.sleep(pause * (0.5 + random.random()))
                    pause = min(2 * pause, PAUSE_MAX)

    async def _store(self, table: Table, expected: int) -> None:
        block = blocks.encode({"Nats-Expected-Last-Subject-Sequence": str(expected)})
        await self.js.store(subjects.kv(self.key), batches.encode(table), block)

    async def tidy(self) -> None:
        """Remove entries that no row needs; what is left undone the next one does."""
        try:
            await self.js.purge(subjects.BATCH, self.entries, before=self.table.low)
        except BusError as error:
            _log.info("what is settled of %s is not removed yet: %s", self.key, error)

    def rest(self, row: Row, waits: Waits) -> None:
        """Build this row no more for a while: nobody in it has money."""
        self.resting[row.first] = Rest(time.monotonic() + self.pace.poll, waits)

    async def rests(self, row: Row) -> bool:
        """Whether a row still has to wait for money. Raises BusError."""
        rest = self.resting.get(row.first)
        if rest is None:
            return False
        if time.monotonic() < rest.until and not await rest.waits.raised():
            return True
        del self.resting[row.first]
        return False

    def missing_for(self, what: str, *, there: bool = False) -> float:
        """Seconds since this process first missed something; `there`: it is not missing."""
        if there:
            self._missing.pop(what, None)
            return 0.0
        now = time.monotonic()
        return now - self._missing.setdefault(what, now)

    def seen_sent(self, nonce: str) -> float:
        """Seconds since this process first saw that a row is sent."""
        now = time.monotonic()
        return now - self.first_seen.setdefault(nonce, now)
