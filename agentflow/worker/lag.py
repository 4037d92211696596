"""Is the event loop on time, and if not, whose code keeps it?

One handler that computes or waits without `await` stops the leases, heartbeats and answers of the
whole process. A background task measures how late it is woken; a thread beside the loop, which a
blocked loop cannot stop, says in the log which task runs meanwhile and where it is.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final

from agentflow.worker.held import Held

_log = logging.getLogger(__name__)

EVERY: Final = 0.25
BLOCKED: Final = 1.0
"""Seconds without a turn of the loop after which somebody is to be named."""
FRAMES: Final = 4

_working: ContextVar[Held | None] = ContextVar("working", default=None)


def working_on(held: Held) -> None:
    """What the current asyncio task, and those it starts, work on."""
    _working.set(held)


class Lag:
    """Measures one loop, and watches it."""

    def __init__(self) -> None:
        self._ticked = time.monotonic()
        self._worst = 0.0
        self._before = 0.0
        self._turned = self._ticked
        self._named = False

    def worst_ms(self) -> float:
        """How late the loop was at most, within the last two heartbeats or so."""
        worst = max(self._worst, self._before)
        if time.monotonic() - self._turned >= 1.0:  # heartbeats beyond the regular ones
            self._before, self._worst, self._turned = self._worst, 0.0, time.monotonic()
        return round(worst * 1000, 1)

    async def measure(self) -> None:
        """Runs until cancelled, with a watchdog thread beside it."""
        ended = threading.Event()
        self._ticked = time.monotonic()
        thread = threading.Thread(
            target=self._watch,
            args=(asyncio.get_running_loop(), threading.get_ident(), ended),
            name="loop watchdog",
            daemon=True,
        )
        thread.start()
        try:
            while True:
                before = time.monotonic()
                await asyncio.sleep(EVERY)
                self._tick(max(0.0, time.monotonic() - before - EVERY))
        finally:
            ended.set()

    def _tick(self, late: float) -> None:
        self._ticked = time.monotonic()
        self._worst = max(self._worst, late)
        if late > BLOCKED:
            why = "" if self._named else "; perhaps the machine slept, or this process was stopped"
            _log.warning("the event loop goes on after %.1f s%s", late, why)
        self._named = False

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int, ended: threading.Event) -> None:
        before = time.monotonic()
        while not ended.wait(EVERY):
            now = time.monotonic()
            # Where this thread was late as well, nothing ran, and no handler is to blame.
            if now - before < 2 * EVERY and now - self._ticked > EVERY + BLOCKED:
                self._name(loop, thread, now - self._ticked - EVERY)
            before = now

    def _name(self, loop: asyncio.AbstractEventLoop, thread: int, seconds: float) -> None:
        if self._named:
            return
        frame = sys._current_frames().get(thread)
        who = _who(asyncio.current_task(loop))
        # In between it may have come to an end.
        if frame is None or time.monotonic() - self._ticked < BLOCKED:
            return
        self._named = True
        _log.warning(
            "%s blocks the event loop, and with it every lease and heartbeat of this process, for "
            "%.1f s so far: %s. Let it await, or use asyncio.to_thread; a plain `def` function of "
            "an App runs in a thread of its own.",
            who,
            seconds,
            _where(frame),
        )


def _who(current: asyncio.Task[Any] | None) -> str:
    if current is None:
        return "a callback"
    held = None
    if sys.version_info >= (3, 12):
        held = current.get_context().get(_working)
    else:
        held = _held_of(current)
    if held is None:
        return f"asyncio task {current.get_name()}"
    return f"task {held.id or held.delivered.identity}" + (held.kind and f" (kind {held.kind})")


def _held_of(current: asyncio.Task[Any]) -> Held | None:
    # Before 3.12 a task does not show its context; the worker's own coroutine has it as argument.
    frame = getattr(current.get_coro(), "cr_frame", None)
    held = frame.f_locals.get("held") if frame is not None else None
    return held if isinstance(held, Held) else None


def _where(frame: FrameType | None) -> str:
    """The innermost calls."""
    calls: list[str] = []
    while frame is not None and len(calls) < FRAMES:
        code = frame.f_code
        if code.co_qualname.startswith("Attempt."):
            break  # from here on it is our own
        calls.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return ", called from ".join(calls) or "in the worker itself"
