"""Pause, resume and drain: keys of the bucket, and the word to a worker. None needs a master."""

from __future__ import annotations

import asyncio
import getpass
import re
import socket
from datetime import datetime
from typing import Final

import msgspec

from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board, read_all
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.message import Message
from agentflow.errors import BusError, NoStream, NotFound, UsageError, WorkerNotFound
from agentflow.protocol import control, limits, subjects
from agentflow.protocol.api import GateView, WorkerView
from agentflow.protocol.control import Drain, Heartbeat
from agentflow.protocol.identity import is_process_of
from agentflow.rules import presence
from agentflow.rules.presence import ONE_BEAT, Seen
from agentflow.rules.routes import gates
from agentflow.rules.routes.gates import Paused
from agentflow.views import gates as gateviews

_KIND: Final = re.compile(limits.KIND_PATTERN)
_POOL: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?")


def whoami() -> str:
    """Who gives an order here: user and host."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return f"{name}@{socket.gethostname().split('.')[0]}"


class Pauses:
    """What users stop and let go on."""

    def __init__(self, js: JetStream) -> None:
        self._js = js
        self._board = Board(js)

    def _now(self) -> datetime:
        return self._js.now()

    # Pauses and closures.

    async def standing(self) -> list[GateView]:
        """What is paused or closed now. Raises BusError."""
        return gateviews.views((await self._items()).items(), self._now())

    async def _items(self) -> dict[str, bytes]:
        values: dict[str, bytes | None] = {}
        try:
            async for key, _, value in read_all(self._js):
                values[key] = value
        except NoStream:
            try:
                await self._js.stream_info(subjects.KV_STREAM)
            except NotFound:
                return {}  # a server that nobody has used
            raise
        return {key: value for key, value in values.items() if value is not None}

    async def pause(
        self, queue: str | None = None, *, kind: str | None = None, reason: str = "operator"
    ) -> GateView:
        """Pause a queue or a kind; returns the pause, which may be an earlier one."""
        if (queue is None) == (kind is None):
            raise UsageError("say what to pause: a queue or a kind (not both)")
        key = _paused_key(queue, kind)
        wanted = msgspec.json.encode(Paused(since=self._now(), reason=reason, actor=whoami()))

        def change(present: bytes | None) -> bytes:
            return wanted if gates.read_paused(present) is None else present or wanted

        try:
            value = await self._board.change(key, change)
        except (NotFound, NoStream):
            await provision.ensure_streams(self._js)
            value = await self._board.change(key, change)
        view = gateviews.view(key, value or wanted, self._now())
        assert view is not None
        return view

    async def resume(
        self,
        queue: str | None = None,
        *,
        kind: str | None = None,
        pool: str | None = None,
        all: bool = False,
    ) -> list[GateView]:
        """Lift pauses and closures; returns those that stood."""
        if sum((queue is not None, kind is not None, pool is not None, all)) != 1:
            raise UsageError("say what to resume: a queue, a kind, a pool or all (one of them)")
        if pool is not None and _POOL.fullmatch(pool) is None:
            raise UsageError(f"pool {pool[:80]!r} is not of the form POOL or POOL.FAMILY")
        wanted = _paused_key(queue, kind) if pool is None and not all else ""
        lifted = []
        for gate in await self.standing():
            closed = gate.key.removeprefix(gates.CLOSED)
            named = gate.what == gateviews.POOL and pool in (closed, closed.partition(".")[0])
            if all or named or gate.key == wanted:
                await self._board.change(gate.key, lambda _: None)
                lifted.append(gate)
        return lifted

    # Workers.

    async def drain(self, worker: str | None = None, *, all: bool = False) -> list[WorkerView]:
        """Tell workers to stop when they have finished; returns when each has said it does.

        Who stops already is not told again: that would mean to hurry.
        """
        if (worker is None) == (not all):
            raise UsageError("say which worker: its name, or all (not both)")
        workers: dict[str, Seen] = {}
        news = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hear(message: Message) -> None:
            beat = control.decode_heartbeat(message.data)
            if beat is not None and beat.role == "worker":
                presence.hear(workers, beat, loop.time(), Seen)
                news.set()

        subscription = await self._js.connection.subscribe(subjects.presence("worker", "*"), hear)
        try:
            wanted = await self._living(worker, workers, news)
            for view in wanted:
                if not view.stopping:
                    self._js.connection.publish(
                        subjects.control("worker", view.actor), control.encode(Drain())
                    )
            await self._js.connection.flush()
            silent: list[str] = []
            try:
                async with asyncio.timeout(ONE_BEAT):
                    while silent := [
                        view.name
                        for view in wanted
                        if not view.stopping and not _stops(workers.get(view.actor))
                    ]:
                        news.clear()
                        await news.wait()
            except TimeoutError:
                raise BusError(
                    f"{', '.join(silent)} did not say that it stops: it is gone or lost, or this "
                    "user may not tell it"
                ) from None
        finally:
            await subscription.close()
        return wanted

    async def _living(
        self, worker: str | None, workers: dict[str, Seen], news: asyncio.Event
    ) -> list[WorkerView]:
        """The workers meant, by what they say of themselves. Raises WorkerNotFound."""
        try:
            async with asyncio.timeout(ONE_BEAT):
                # A name may be that of several, so all are heard; an actor's is its own.
                while worker is None or worker not in workers:
                    news.clear()
                    await news.wait()
        except TimeoutError:
            pass
        views = [presence.view(seen.beat) for seen in workers.values() if _means(worker, seen.beat)]
        if worker is None:
            return sorted(views, key=lambda view: (view.name, view.actor))
        if not views:
            names = sorted({seen.beat.name for seen in workers.values()})
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
    return is_process_of(beat.name, worker)


def _stops(seen: Seen | None) -> bool:
    """Whether a worker that was heard says that it stops, or has said goodbye."""
    return seen is None or seen.beat.stopping


def _paused_key(queue: str | None, kind: str | None) -> str:
    if queue is not None:
        return gates.queue_key(subjects.check_queue(queue))
    assert kind is not None
    if _KIND.fullmatch(kind) is None:
        raise UsageError(f"kind {kind[:80]!r} is not allowed: 1 to 64 of A-Z a-z 0-9 . _ -")
    return gates.kind_key(kind)
