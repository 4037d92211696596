"""Drain: of workers, which finish what they run and exit, or of a queue or a kind, which is paused
until nothing of it runs. Both listen to what workers say of themselves and need no master.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from agentflow.bus.wire.message import Message
from agentflow.client.asking import Asking
from agentflow.client.operate.pauses import Pauses
from agentflow.client.session import Session
from agentflow.errors import BusError, MasterAbsent, UsageError, WorkerNotFound
from agentflow.protocol import control, subjects
from agentflow.protocol.api import WorkerView
from agentflow.protocol.control import Drain, Heartbeat
from agentflow.rules import draining, presence
from agentflow.rules.draining import DrainView
from agentflow.rules.presence import ONE_BEAT, Seen

LOOK_EVERY: Final = 0.5

Told = Callable[[DrainView], None]


class _Workers:
    """What workers have said since somebody listens."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def take(self, message: Message) -> None:
        beat = control.decode_heartbeat(message.data)
        if beat is not None and beat.role == "worker":
            presence.hear(self.seen, beat, self._loop.time(), Seen)
            self._news.set()

    async def wait(self, complete: Callable[[], bool], within: float) -> bool:
        """Whether it is `complete` within so many seconds."""
        try:
            async with asyncio.timeout(within):
                while not complete():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def next(self, within: float) -> None:
        """Return with the next word, or after so many seconds."""
        self._news.clear()
        await self.wait(self._news.is_set, within)


class Draining:
    """Drains one thing after the other."""

    def __init__(self, session: Session, pauses: Pauses, asking: Asking) -> None:
        self._session = session
        self._pauses = pauses
        self._asking = asking

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[_Workers]:
        connection = self._session.connection
        workers = _Workers()
        subscription = await connection.subscribe(subjects.presence("worker", "*"), workers.take)
        try:
            yield workers
        finally:
            await subscription.close()

    # Workers.

    async def workers(self, worker: str | None = None, *, all: bool = False) -> list[WorkerView]:
        """Tell workers to stop when they have finished; returns when each has said it does.

        Who stops already is not told again: that would mean to hurry.
        """
        if (worker is None) == (not all):
            raise UsageError("say which worker: its name, or all (not both)")
        async with self._listening() as heard:
            # A name may be that of several, so all are heard; an actor's is its own.
            await heard.wait(lambda: worker in heard.seen, ONE_BEAT)
            views = _chosen(worker, heard.seen)
            told = [view for view in views if not view.stopping]
            connection = self._session.connection
            for view in told:
                connection.publish(subjects.control("worker", view.actor), control.encode(Drain()))
            await connection.flush()

            def silent() -> list[str]:
                return [view.name for view in told if not _stops(heard.seen.get(view.actor))]

            if not await heard.wait(lambda: not silent(), ONE_BEAT):
                raise BusError(
                    f"{', '.join(silent())} did not say that it stops: it is gone or lost, or this "
                    "user may not tell it"
                )
        return views

    # A queue or a kind.

    async def tasks(
        self,
        queue: str | None,
        kind: str | None,
        *,
        reason: str,
        timeout: float | None,
        told: Told,
    ) -> DrainView:
        """Return when nothing runs, or after `timeout` seconds with what does; the pause stays."""
        async with self._listening() as heard:
            loop = asyncio.get_running_loop()
            gate = await self._pauses.pause(queue, kind=kind, reason=reason)
            paused = loop.time()
            end = paused + timeout if timeout is not None else float("inf")
            while True:
                view = draining.view(
                    gate, heard.seen.values(), loop.time(), queue, kind, paused=paused
                )
                told(view)
                if view.done or loop.time() >= end:
                    return await self._with_waiting(view, queue)
                await heard.next(min(LOOK_EVERY, max(0.01, end - loop.time())))

    async def _with_waiting(self, view: DrainView, queue: str | None) -> DrainView:
        if queue is None:
            return view
        try:
            queues = (await self._asking.stats()).queues
        except MasterAbsent:
            return view
        waiting = sum(row.queued + row.parked for row in queues if row.queue == queue)
        return msgspec.structs.replace(view, waiting=waiting)


def _chosen(worker: str | None, seen: dict[str, Seen]) -> list[WorkerView]:
    """The workers meant, by what they say of themselves. Raises WorkerNotFound."""
    living = [each.beat for each in seen.values()]
    views = [presence.view(beat) for beat in living if _means(worker, beat)]
    if worker is None:
        return sorted(views, key=lambda view: (view.name, view.actor))
    if not views:
        names = sorted({beat.name for beat in living})
        there = f"; there are {', '.join(names[:20])}" if names else "; there are none"
        raise WorkerNotFound(f"no living worker is called {worker[:80]}{there}")
    hosts = {view.host for view in views}
    if len(hosts) == 1 and all(view.name.startswith(f"{worker}.") for view in views):
        return sorted(views, key=lambda view: view.name)  # the processes of one worker
    if len(views) > 1:
        actors = ", ".join(f"{view.actor} on {view.host}" for view in views)
        raise UsageError(f"{len(views)} workers are called {worker[:80]}; name one: {actors}")
    return views


def _means(worker: str | None, beat: Heartbeat) -> bool:
    """Whether this worker is meant: all are, or it by its name or actor, or one of its parent's."""
    if worker is None or worker in (beat.actor, beat.name):
        return True
    name, _, number = beat.name.rpartition(".")
    return name == worker and number.isdigit()


def _stops(seen: Seen | None) -> bool:
    """Whether a worker that was heard says that it stops, or has said goodbye."""
    return seen is None or seen.beat.stopping
