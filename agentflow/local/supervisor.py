"""Starts the parts of a stack, restarts what crashes, and stops all of them in order.

What a part's end means that nobody here asked for, the part itself says (`verdict`). When a crashed
one starts again, rules/restarts.py says; after too many crashes everything stops, and `wait` raises
the reason with the part's last words. So it does at once where a part refuses its first start, as
it would do again. A worker that ended in order was drained by somebody, and stays down.

Parts started by one call of `start` stop together; the calls are undone in reverse. A part is
asked to stop, after its grace asked again (a worker then hands its tasks back), and then killed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Literal, Protocol

import msgspec

from agentflow.errors import StackError
from agentflow.rules.restarts import RestartPolicy, Restarts

log = logging.getLogger(__name__)

HURRIED_GRACE: Final = (5.0, 1.0)
"""What is left to a part after somebody was in a hurry once, and oftener."""
ASK_EVERY: Final = 0.25
"""Two signals that come close together may reach a process as one, and it would not hurry."""


Verdict = Literal["crashed", "drained", "refused"]


class Part(Protocol):
    """What the supervisor needs of a part. Once it has ended, `wait` returns at once and `ask` and
    `kill` do nothing."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def grace(self) -> float: ...
    @property
    def verdict(self) -> Verdict: ...
    async def start(self) -> None: ...
    async def wait(self) -> str: ...
    def ask(self) -> None: ...
    def kill(self) -> None: ...
    def last_words(self) -> list[str]: ...


class Event(msgspec.Struct, frozen=True):
    """Something happened to a part."""

    kind: Literal["started", "crashed", "restarted", "drained", "stopped"]
    part: str
    pid: int | None = None
    detail: str = ""


class _Kept(msgspec.Struct, frozen=True):
    part: Part
    keeper: asyncio.Task[None]


class Supervisor:
    """Use: `start` parts, first the ones the others need; `wait`; `stop`."""

    def __init__(
        self,
        *,
        on_event: Callable[[Event], None] = lambda _: None,
        policy: RestartPolicy | None = None,
    ) -> None:
        self._on_event = on_event
        self._policy = policy or RestartPolicy()
        self._steps: list[list[_Kept]] = []
        self._left: list[Part] = []
        self._stopping: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._failure: StackError | None = None
        self._hurries = 0
        self._hurried = asyncio.Event()

    async def start(self, *parts: Part) -> None:
        """Start these parts and keep them running. Raises when one cannot be started at all."""
        step: list[_Kept] = []
        self._steps.append(step)
        for part in parts:
            self._refuse_when_stopping()
            await part.start()
            if self._stopping is not None:  # meanwhile another part gave up
                await self._end(part)
                self._refuse_when_stopping()
            self._emit("started", part)
            keeper = asyncio.create_task(self._keep(part), name=f"keep {part.name}")
            step.append(_Kept(part, keeper))

    async def wait(self) -> None:
        """Return when all was stopped. Raises StackError when a part crashed too often."""
        await self._stopped.wait()
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Stop all parts in order; a second call waits for the first one's work."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop_all(), name="stop all parts")
        await asyncio.shield(self._stopping)

    def leave(self, part: Part) -> None:
        """Let a part run on when all are stopped: somebody else needs it, and ends it."""
        self._left.append(part)

    def fail(self, error: StackError) -> None:
        """Stop everything; `wait` raises `error`."""
        if self._stopping is None:
            self._failure = error
            self._stopping = asyncio.create_task(self._stop_all(), name="stop all parts")

    def hurry(self) -> None:
        """Ask the parts that are stopping once more; from the second time on, kill them."""
        self._hurries += 1
        self._hurried.set()
        self._hurried = asyncio.Event()

    # ---------------------------------------------------------------- keeping

    async def _keep(self, part: Part) -> None:
        restarts = Restarts(self._policy)
        started = time.monotonic()
        first = True
        ending = await part.wait()
        while True:
            if part.verdict == "drained":
                self._emit("drained", part)
                return
            if part.verdict == "refused" and first:
                self._emit("crashed", part, ending)
                self.fail(StackError(f"{part.name} cannot work: {ending}{_words(part)}"))
                return
            first = False
            now = time.monotonic()
            delay = restarts.crashed(now=now, ran_for=now - started)
            if delay is None:
                self._emit("crashed", part, ending)
                self._give_up(part, ending)
                return
            self._emit("crashed", part, f"{ending}; it starts again in {delay:g} s")
            await asyncio.sleep(delay)
            started = time.monotonic()
            try:
                await part.start()
            except (StackError, OSError) as error:
                ending = str(error)
                continue
            self._emit("restarted", part)
            ending = await part.wait()

    def _give_up(self, part: Part, ending: str) -> None:
        policy = self._policy
        self.fail(
            StackError(
                f"{part.name} crashed {policy.crashes} times within {policy.window:g} s, so "
                f"everything was stopped. The last time {ending}{_words(part)}"
            )
        )

    def _refuse_when_stopping(self) -> None:
        if self._stopping is not None:
            raise self._failure or StackError("The stack is stopping.")

    # --------------------------------------------------------------- stopping

    async def stop_last(self) -> None:
        """Stop the parts that were started last; the others go on."""
        if self._steps:
            await self._stop_step(self._steps.pop())

    async def _stop_all(self) -> None:
        while self._steps:
            await self._stop_step(self._steps.pop())
        self._stopped.set()

    async def _stop_step(self, step: list[_Kept]) -> None:
        for kept in step:
            kept.keeper.cancel()
        await asyncio.gather(*(kept.keeper for kept in step), return_exceptions=True)
        parts = [kept.part for kept in step if kept.part not in self._left]
        await asyncio.gather(*(self._end(part) for part in parts))

    async def _end(self, part: Part) -> None:
        pid = part.pid
        ended = asyncio.create_task(part.wait(), name=f"wait for {part.name}")
        part.ask()
        in_time = not self._hurries and await self._within(ended, part.grace)
        if not in_time and not await self._ends_soon(part, ended):
            part.kill()
        self._tell(Event("stopped", part.name, pid, await ended))

    async def _ends_soon(self, part: Part, ended: asyncio.Task[str]) -> bool:
        """Ask again and again; whether the part ended before somebody was in a greater hurry."""
        hurries = self._hurries
        end = time.monotonic() + HURRIED_GRACE[hurries > 1]
        while not ended.done() and hurries == self._hurries:
            left = end - time.monotonic()
            if left <= 0:
                break
            part.ask()
            await self._within(ended, min(left, ASK_EVERY))
        return ended.done()

    async def _within(self, ended: asyncio.Task[str], seconds: float) -> bool:
        """Whether the part ended in time, and before somebody was in a hurry."""
        hurried = asyncio.create_task(self._hurried.wait())
        try:
            await asyncio.wait(
                {ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            hurried.cancel()
        return ended.done()

    def _emit(
        self,
        kind: Literal["started", "crashed", "restarted", "drained"],
        part: Part,
        detail: str = "",
    ) -> None:
        self._tell(Event(kind, part.name, part.pid, detail))

    def _tell(self, event: Event) -> None:
        # Whoever listens may fail (a closed pipe behind `print`); the parts go on all the same.
        try:
            self._on_event(event)
        except Exception:
            log.exception("an event of the stack could not be shown: %s", event)


def _words(part: Part) -> str:
    """What a part said last, under a sentence that they end."""
    words = "".join(f"\n  {line}" for line in part.last_words())
    return f":{words}" if words else "."
