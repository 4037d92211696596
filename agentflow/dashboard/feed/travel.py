"""Another time: the records up to there are read and folded, and the dashboard shows the result.

Nothing was recorded for it: the stream is the record, as far as its retention reaches. What it does
not hold (heartbeats, gates, depths, generated text) is not known there. Of a long stream as many
records are read before the instant as the live feed reads before now.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

from agentflow.client import Client
from agentflow.client.live.history import Span
from agentflow.client.live.live import NEWEST
from agentflow.dashboard.reader.effects import Travel
from agentflow.dashboard.reader.reader import Reader
from agentflow.dashboard.render.amounts import stamp
from agentflow.dashboard.store.timeline import Timeline
from agentflow.errors import AgentFlowError
from agentflow.views.row import Row

CHUNK: Final = 1_000
"""Sequences of one reading."""
CHUNKS: Final = 16
"""Readings that are kept: stepping back and forth reads nothing twice."""
TOLD_EVERY: Final = 0.2
"""Seconds between two words about a long reading."""


class _Overtaken(Exception):
    """The person wants to go somewhere else."""


class Travelling:
    """The journeys of one dashboard. `touch` asks for another frame.

    Steps are taken one after the other; a seek or the way back to now ends what is under way.
    """

    def __init__(
        self,
        client: Client,
        reader: Reader,
        now: Callable[[], float],
        touch: Callable[[], None] = lambda: None,
        *,
        newest: int = NEWEST,
    ) -> None:
        self._client = client
        self._reader = reader
        self._now = now
        self._touch = touch
        self._newest = newest
        self._line: Timeline | None = None
        self._chunks: OrderedDict[int, tuple[list[Row], int]] = OrderedDict()
        self._turn = asyncio.Lock()
        self._wish = 0
        self._place = 0
        """The sequence of the record after which the picture is."""
        self._target = 0.0
        """The instant that was last asked for."""
        self._told = 0.0

    async def go(self, effect: Travel) -> None:
        """Go there; an error becomes a notice, and the picture stays."""
        if effect.live:
            self._wish += 1
            self._end()
            return
        to = effect.to
        if effect.leap:
            to = (self._target if self._under_way else self._now()) + effect.leap
        if to is not None:
            self._wish += 1
            self._target = to
        wish = self._wish
        async with self._turn:
            try:
                self._check(wish)
                if to is not None:
                    await self._seek(to, wish)
                elif effect.step:
                    await self._step(effect.step, wish)
            except _Overtaken:
                pass
            except AgentFlowError as error:
                self._reader.tell(f"the past cannot be read: {error}", self._now(), "warn")
            finally:
                self._touch()

    @property
    def _travelled(self) -> bool:
        return self._reader.travelled is not None

    @property
    def _under_way(self) -> bool:
        return self._travelled or self._turn.locked()

    def _check(self, wish: int) -> None:
        if wish != self._wish:
            raise _Overtaken

    def _end(self) -> None:
        self._reader.travelled = None
        self._line = None
        self._chunks.clear()
        self._touch()

    # Going.

    async def _seek(self, to: float, wish: int) -> None:
        if to >= self._now():
            self._end()
            self._reader.tell("that is not past yet: this is now", self._now())
            return
        span = await self._span()
        begin = span.first_at.timestamp()
        if to < begin:
            self._check(wish)
            self._show(Timeline(span.first - 1), to)
            text = "before the first record that is kept, which is of "
            self._reader.tell(text + stamp(begin, self._reader.zone), self._now(), "warn")
            return
        # All that was stored up to the instant, it included.
        after = datetime.fromtimestamp(to, UTC) + timedelta(microseconds=1)
        place = min(await self._client.history.locate(after) - 1, span.last)
        line = await self._folded(span, place, wish)
        self._check(wish)
        self._show(line, to)

    async def _step(self, step: int, wish: int) -> None:
        span = await self._span()
        # Now is after the last record.
        place = self._place if self._travelled else span.last
        for _ in range(abs(step)):
            following = await self._next(place, span) if step > 0 else place - 1
            if following is None or following < span.first - 1:
                text = "this is the last record: L goes back to now"
                self._reader.tell(
                    text if step > 0 else "no record is kept before this", self._now()
                )
                return
            line = await self._folded(span, following, wish)
            self._check(wish)
            place = line.place
            at = line.at or span.first_at.timestamp() - 0.001
            self._target = at
            self._show(line, at)

    async def _next(self, place: int, span: Span) -> int | None:
        """The sequence of the record after a place."""
        async with aclosing(self._rows(place + 1, span.last)) as parts:
            async for rows in parts:
                if rows:
                    return rows[0].sequence
        return None

    def _show(self, line: Timeline, at: float) -> None:
        self._line, self._place = line, line.place
        self._reader.travelled, self._reader.travelled_to = line.store, at
        self._reader.notice = None

    # Reading.

    async def _span(self) -> Span:
        span = await self._client.history.span()
        if span is None:
            self._reader.tell("there are no records", self._now(), "warn")
            raise _Overtaken
        return span

    async def _folded(self, span: Span, place: int, wish: int) -> Timeline:
        """The timeline at a place; what one looks at stays as it is until that is there."""
        line, first = self._line, max(span.first, place + 1 - self._newest)
        if line is not None and self._travelled and line.base < first and line.place <= span.last:
            line.back(place)
        else:
            line = None
        if line is None or place - line.place > self._newest:
            line = Timeline(first - 1, older=first - span.first)
            self._chunks.clear()
        elif place - line.place > 1 and line.store is self._reader.travelled:
            line.store = line.store.copy()
        start = line.place
        async with aclosing(self._rows(start + 1, place)) as parts:
            async for rows in parts:
                line.fold(rows)
                self._tell(line.place - start, place - start)
                await asyncio.sleep(0)
                self._check(wish)
        return line

    async def _rows(self, first: int, last: int) -> AsyncGenerator[list[Row]]:
        """The rows of a range, chunk by chunk."""
        at = first
        while at <= last:
            rows, following = await self._chunk(at)
            yield [row for row in rows if first <= row.sequence <= last]
            at = following

    async def _chunk(self, sequence: int) -> tuple[list[Row], int]:
        """The rows of the chunk that has a sequence, and where the next chunk with rows begins."""
        number = (sequence - 1) // CHUNK
        if number in self._chunks:
            self._chunks.move_to_end(number)
            return self._chunks[number]
        begin, end = number * CHUNK + 1, (number + 1) * CHUNK
        rows = await self._client.history.rows(begin, CHUNK)
        inside = [row for row in rows if row.sequence <= end]
        following = end + 1
        if not inside and rows:
            following = rows[0].sequence
        answer = (inside, following)
        # What the stream still writes to is read again.
        if rows and rows[-1].sequence >= end:
            self._chunks[number] = answer
            while len(self._chunks) > CHUNKS:
                self._chunks.popitem(last=False)
        return answer

    def _tell(self, done: int, total: int) -> None:
        if time.monotonic() - self._told < TOLD_EVERY or done >= total:
            return
        self._told = time.monotonic()
        text = f"reading the records: {100 * done / total:.0f}%   L stays in now"
        self._reader.tell(text, self._now(), "dim")
        self._touch()
