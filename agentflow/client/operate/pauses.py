"""Pause and resume: keys of the bucket. Neither needs a master."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import msgspec

from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board, read_all
from agentflow.bus.streams.jetstream import JetStream
from agentflow.client.session import Session, orderer
from agentflow.errors import NoStream, NotFound, UsageError
from agentflow.protocol import limits, subjects
from agentflow.protocol.api import GateView
from agentflow.rules.routes import gates
from agentflow.rules.routes.gates import Paused
from agentflow.views import gates as gateviews

_KIND: Final = re.compile(limits.KIND_PATTERN)
_POOL: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?")


class Pauses:
    """What users stop and let go on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._board = Board(session.js)

    def _now(self) -> datetime:
        return self._session.js.now()

    async def standing(self) -> list[GateView]:
        """What is paused or closed now. Raises BusError."""
        return await standing(self._session.js)

    async def pause(
        self, queue: str | None = None, *, kind: str | None = None, reason: str = "operator"
    ) -> GateView:
        """Pause a queue or a kind; returns the pause, which may be an earlier one."""
        if (queue is None) == (kind is None):
            raise UsageError("say what to pause: a queue or a kind (not both)")
        key = _paused_key(queue, kind)
        wanted = msgspec.json.encode(Paused(since=self._now(), reason=reason, actor=orderer()))

        def change(present: bytes | None) -> bytes:
            return wanted if gates.read_paused(present) is None else present or wanted

        try:
            value = await self._board.change(key, change)
        except (NotFound, NoStream):
            await provision.ensure_streams(self._session.js)
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
            if gate.what == gateviews.BUDGET:
                continue  # `agentflow budget raise` is for those
            closed = gate.key.removeprefix(gates.CLOSED)
            named = gate.what == gateviews.POOL and pool in (closed, closed.partition(".")[0])
            if all or named or gate.key == wanted:
                await self._board.change(gate.key, lambda _: None)
                lifted.append(gate)
        return lifted


async def standing(js: JetStream) -> list[GateView]:
    """What is paused or closed now, from the bucket. Raises BusError."""
    return gateviews.views((await _values(js)).items(), js.now())


async def _values(js: JetStream) -> dict[str, bytes]:
    values: dict[str, bytes | None] = {}
    try:
        async for key, _, value in read_all(js):
            values[key] = value
    except NoStream:
        try:
            await js.stream_info(subjects.KV_STREAM)
        except NotFound:
            return {}  # a server that nobody has used
        raise
    return {key: value for key, value in values.items() if value is not None}


def _paused_key(queue: str | None, kind: str | None) -> str:
    if queue is not None:
        return gates.queue_key(subjects.check_queue(queue))
    assert kind is not None
    if _KIND.fullmatch(kind) is None:
        raise UsageError(f"kind {kind[:80]!r} is not allowed: 1 to 64 of A-Z a-z 0-9 . _ -")
    return gates.kind_key(kind)
