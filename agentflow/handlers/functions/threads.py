"""Threads for plain functions.

A thread cannot be stopped. So a run that is over leaves its thread behind: whoever waited goes on,
the thread is listed as left until its function ends by itself, and another one takes its place. A
pool of a fixed size would run out of threads here, and the standard library's keeps the process
from exiting until each of its threads is done; these are daemons.

Threads are used again, so that what a function keeps in a threading.local is made once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

_log = logging.getLogger(__name__)


class _Job(NamedTuple):
    call: Callable[[], Any]
    done: Callable[[bool, Any], None]


class _Thread:
    """One thread that does a job after the other until it is given None."""

    __slots__ = ("jobs",)

    def __init__(self, name: str) -> None:
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (job := self.jobs.get()) is not None:
            well = True
            try:
                result: Any = job.call()
            except BaseException as error:  # SystemExit too: it is for the caller to judge
                well, result = False, error
            job.done(well, result)
            del job, result  # an idle thread must not keep the last result alive


class Threads:
    """Runs calls in threads, as many at once as it is asked for."""

    def __init__(self) -> None:
        self._idle: list[_Thread] = []
        self._left: dict[_Thread, tuple[str, float]] = {}
        self._count = 0
        self._closed = False

    @property
    def left(self) -> list[str]:
        """Names of the calls that nobody waits for any more and that still run."""
        return [name for name, _ in self._left.values()]

    async def run(self, call: Callable[[], Any], name: str) -> Any:
        """What `call` returns or raises. Cancelled, it returns at once and leaves the thread."""
        loop = asyncio.get_running_loop()
        thread = self._idle.pop() if self._idle else self._new()
        future: asyncio.Future[tuple[bool, Any]] = loop.create_future()

        def done(well: bool, result: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it
                loop.call_soon_threadsafe(self._done, thread, future, well, result)

        context = contextvars.copy_context()
        thread.jobs.put(_Job(lambda: context.run(call), done))
        try:
            # The outcome and not the exception itself: a future refuses StopIteration.
            well, result = await future
        except asyncio.CancelledError:
            if not future.done() or future.cancelled():
                self._left[thread] = (name, time.monotonic())
            raise
        if well:
            return result
        raise result

    def _new(self) -> _Thread:
        self._count += 1
        return _Thread(f"agentflow-function-{self._count}")

    def _done(
        self,
        thread: _Thread,
        future: asyncio.Future[tuple[bool, Any]],
        well: bool,
        result: Any,
    ) -> None:
        left = self._left.pop(thread, None)
        if left is not None:
            name, since = left
            _log.info("%s: its thread has ended, %.1f s late", name, time.monotonic() - since)
        if not future.done():
            future.set_result((well, result))
        if self._closed:
            thread.jobs.put(None)
        else:
            self._idle.append(thread)

    def close(self) -> None:
        """End the threads that have nothing to do."""
        self._closed = True
        for thread in self._idle:
            thread.jobs.put(None)
        self._idle.clear()
