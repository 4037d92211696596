"""A create: the one request here that costs money, and is not repeated.

    1  the budgets: what its requests may cost is held
    2  the body, but for its last byte
    3  the table: this row is sent. Refused, or not answered in time: hang up, nothing was made
    4  the last byte
    5  the table: its batch is made, with this id
    6  requests that had no room in their budget wait anew

Whoever dies before 4 has made nothing, and the row says `open`, or `sent`; whoever dies after it
leaves `sent`, and the list of batches tells what became of it (adopt.py). Before 5 nobody may wait
anew: another builder's body might have the request, and be sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from agentflow.batches import adopt, closing, money
from agentflow.batches.body import Body, body_of, give_up, wait_anew, waits
from agentflow.batches.entries import NotYet, entry_at
from agentflow.batches.place import Place
from agentflow.errors import AgentFlowError
from agentflow.handlers.batching import Listing, NotCreated, Refused, Unreached
from agentflow.protocol.batches import Row, RowState
from agentflow.rules import batches as rules

_log = logging.getLogger(__name__)

SKEW: Final = timedelta(minutes=10)
"""A batch may be listed as made so long before the clock said now."""
TOO_LARGE: Final = 413


class _HungUp(AgentFlowError):
    """The last byte may not go."""


class Create:
    """One create for one open row."""

    def __init__(self, place: Place, row: Row) -> None:
        self._place = place
        self._row = row
        self._gone = False
        self._committing = False

    async def run(self) -> None:
        """Do it, as far as it goes. Raises BusError, NotYet, Unreached."""
        place, row = self._place, self._row
        try:
            listing = await place.api.listed()
        except Refused as refused:
            await closing.refused(place, NotCreated(refused.failure))
            return
        if row.tried and await adopt.recognize(place, row):
            return
        async with body_of(place, row) as body:
            if not body.count:
                await self._nobody(body)
                return
            if not await body.money.take():
                raise NotYet("its budgets were faster spent by others")
            place.creating.add(row.nonce)
            try:
                with contextlib.ExitStack() as span:
                    if (spans := place.spans) is not None:
                        span.enter_context(spans.batch(row.nonce, body.count, body.traces))
                    await self._send(body, listing)
            finally:
                place.creating.discard(row.nonce)

    async def _nobody(self, body: Body) -> None:
        """Nobody waits, or nobody has money: then the row stays, until there is some."""
        place, row = self._place, self._row
        if body.left:
            await body.money.tell()
            place.rest(row, body.money)
            if body.money.holds:
                await self._reopen()
            return
        await place.change(lambda table: rules.remove(table, row.nonce, RowState.OPEN))
        await money.release(place, [row.nonce])
        await place.tidy()

    async def _send(self, body: Body, listing: Listing) -> None:
        place, nonce = self._place, self._row.nonce
        try:
            batch = await place.api.create(body.size, self._pieces(body, listing))
        except NotCreated as refused:
            await self._refused(refused, body)
        except BaseException as error:
            if not self._gone and self._committing:
                # Nothing was made. What was written that it might be is taken back, whether or not
                # it is stored yet: the row's next name is another.
                await self._reopen()
            if self._gone and isinstance(error, Unreached):
                _log.warning("batch %s: %s; its list will tell", nonce, error)
                return
            if isinstance(error, Unreached) and self._committing:
                return
            raise
        else:
            now = place.now()
            await place.change(lambda table: rules.made(table, nonce, batch.id, now))
            await closing.answered(place)
            facts = {"action": "batch", "batch": batch.id}
            _log.info("batch %s: %d requests, %s", nonce, body.count, batch.id, extra=facts)
            await self._leave(body)

    async def _leave(self, body: Body) -> None:
        """Let those wait anew that had no room; whoever is missed here waits anew at the end."""
        await body.money.tell()
        for sequence in body.left:
            item = await entry_at(self._place, sequence)
            if item is not None:
                last = await self._place.log.read(item.id)
                if waits(self._place, last, item.waiting):
                    await wait_anew(self._place, last, item)

    async def _pieces(self, body: Body, listing: Listing) -> AsyncIterator[bytes]:
        async for piece in body.pieces(0, body.size - 1):
            yield piece
        await self._commit(body, listing)
        self._gone = True
        async for piece in body.pieces(body.size - 1, body.size):
            yield piece

    async def _commit(self, body: Body, listing: Listing) -> None:
        """Write down that the last byte may go. Raises _HungUp where it may not."""
        place, nonce, now = self._place, self._row.nonce, self._place.now()
        began = time.monotonic()
        self._committing = True
        since = listing.at - SKEW
        try:
            stored = await place.change(
                lambda table: rules.commit(table, nonce, body.count, since, listing.workspace, now),
                within=place.pace.commit,
            )
        except TimeoutError:
            raise _HungUp(f"batch {nonce}: the table did not answer in time") from None
        if stored is None:
            self._committing = False
            raise _HungUp(f"batch {nonce}: another worker has it")
        # Until the server's disk has it a power cut would take it back.
        await asyncio.sleep(place.pace.flush)
        if time.monotonic() - began > place.pace.commit:
            raise _HungUp(f"batch {nonce}: this process stood still")

    async def _reopen(self) -> None:
        place, nonce, new, now = (
            self._place,
            self._row.nonce,
            self._place.nonce(),
            self._place.now(),
        )
        if await place.change(lambda table: rules.reopen(table, nonce, new, now)) is not None:
            await money.release(place, [nonce])

    # Refusals: provably nothing was made.

    async def _refused(self, refused: NotCreated, body: Body) -> None:
        failure = refused.failure
        if failure.status == TOO_LARGE:
            await self._split(body, failure.message)
            return
        if refused.request is not None and refused.request < body.count:
            sequence = body.members[refused.request]
            await self._fail(sequence, "invalid_request", failure.message)
        else:
            await closing.refused(self._place, refused)
        await self._reopen()

    async def _split(self, body: Body, text: str) -> None:
        place, nonce, now = self._place, self._row.nonce, self._place.now()
        if body.count == 1:
            await self._fail(body.members[0], "too_large", text)
            await self._reopen()
            return
        at = body.members[body.count // 2 - 1]
        new = place.nonce(), place.nonce()
        if await place.change(lambda table: rules.split(table, nonce, at, new, now)) is None:
            await self._reopen()  # the table is full: later
            return
        await money.release(place, [nonce])

    async def _fail(self, sequence: int, reason: str, text: str) -> None:
        place = self._place
        item = await entry_at(place, sequence)
        if item is not None:
            last = await place.log.read(item.id)
            if last.sequence == item.waiting:
                await give_up(place, last, item, reason, text)
