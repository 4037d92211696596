"""The progress a function reports, at most every half second.

A function may report each of ten thousand rows. Each report is a write that the whole cluster sees,
so only the latest one is written, and the last one always.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, SupportsFloat

from agentflow.errors import AgentFlowError
from agentflow.handlers.contract import Run, clamped

_log = logging.getLogger(__name__)

EVERY: Final = 0.5
_FIX: Final = (
    "ctx.progress takes a fraction from 0 to 1, a sentence, or both, as in "
    'ctx.progress(0.4, "page 2 of 5"); it was given {}'
)
FLUSH_WITHIN: Final = 1.0
"""Seconds the last report may take. It must not cost a finished run its result."""


def checked(fraction: float | str | None, message: str | None) -> tuple[float | None, str | None]:
    """Fraction and message as they are kept; a sentence may stand alone, in the first place.

    A figure out of range is not worth a task: it is cut. Raises TypeError for what is no progress.
    """
    if isinstance(fraction, str):
        if message is not None:
            raise TypeError(_FIX.format("two texts"))
        fraction, message = None, fraction
    if message is not None and not isinstance(message, str):
        raise TypeError(_FIX.format(f"a {type(message).__name__} as the sentence"))
    if fraction is None:
        return None, message
    if not isinstance(fraction, SupportsFloat):
        raise TypeError(_FIX.format(f"a {type(fraction).__name__}"))
    try:
        return clamped(float(fraction)), message
    except OverflowError:
        return (1.0 if fraction > 0 else 0.0), message
    except (TypeError, ValueError):
        raise TypeError(_FIX.format(f"a {type(fraction).__name__}")) from None


class Reports:
    """The reports of one run. Everything happens on the loop."""

    __slots__ = ("_closing", "_fraction", "_message", "_new", "_run", "_writer")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._fraction: float | None = None
        self._message: str | None = None
        self._new = False
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def report(self, fraction: float | None, message: str | None) -> None:
        """Take a report; what it leaves out stays as it was."""
        if self._closing.is_set() or self._run.over:
            return
        self._fraction = self._fraction if fraction is None else fraction
        self._message = self._message if message is None else message
        self._new = True
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._new:
            self._new = False
            try:
                await self._run.progress(self._fraction, self._message)
            except AgentFlowError as error:
                # Where the task is another's by now, the run is interrupted by other means.
                _log.debug("task %s: its progress was not written: %s", self._run.task.id, error)
            try:
                async with asyncio.timeout(EVERY):
                    await self._closing.wait()
            except TimeoutError:
                continue
        self._writer = None

    async def close(self, *, flush: bool) -> None:
        """Take no more, and write the last report."""
        self._closing.set()
        writer = self._writer
        if writer is None:
            return
        if not flush:
            writer.cancel()
        await asyncio.wait({writer}, timeout=FLUSH_WITHIN)
        writer.cancel()
