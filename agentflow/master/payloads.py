"""Remove payloads from the object bucket that no task wants any more, and what was never finished.

Nothing depends on it but room: a bucket that is full makes whoever submits large tasks wait. What
is wanted says rules/payloads.py, by the log's last record, read from the leader; what the index
knows to be on its way is not looked at. What is said of an object goes first, and only as it was
read, so that a payload that is stored again meanwhile stays.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from agentflow.bus.streams.jetstream import JetStream, Stored
from agentflow.bus.streams.lease import Lease
from agentflow.errors import NotFound, PermissionDenied
from agentflow.log.task import TaskLog
from agentflow.master.index import Index
from agentflow.protocol import limits, subjects
from agentflow.protocol import payload as payloads
from agentflow.protocol.record import State
from agentflow.rules.payloads import is_wanted

_log = logging.getLogger(__name__)

EVERY: Final = 20.0
_ON_ITS_WAY: Final = frozenset(
    {State.RUNNING, State.QUEUED, State.SCHEDULED, State.RETRYING, State.WAITING}
)


class PayloadSweep:
    """Looks now and then; `removed` counts them."""

    def __init__(
        self,
        js: JetStream,
        log: TaskLog,
        lease: Lease,
        index: Index,
        *,
        retention: float = limits.RETENTION,
        upload_within: float = limits.UPLOAD_WITHIN,
    ) -> None:
        self._js = js
        self._log = log
        self._lease = lease
        self._index = index
        self._retention = max(retention, limits.RETENTION)
        self._upload_within = upload_within
        self._parts: dict[str, str] = {}
        """Of each object's subject that of its parts, as last read."""
        self.removed = 0

    async def run(self) -> None:
        """A round now and then, while this master has the lease. Raises BusError."""
        while True:
            await asyncio.sleep(EVERY)
            if self._lease.held:
                try:
                    await self.round()
                except PermissionDenied as error:
                    _log.warning("payloads that are done with stay: %s", error)
                    return

    async def round(self) -> int:
        """Look once; how many were removed. Raises BusError."""
        before = self.removed
        try:
            info = await self._js.stream_info(subjects.OBJECTS, subjects_filter="$O.>")
        except NotFound:
            return 0
        held = info["state"].get("subjects") or {}
        infos = [subject for subject in held if subject.startswith(subjects.OBJECT_INFOS)]
        for subject in infos:
            if await self._is_done_with(subject):
                await self._remove(subject)
        parts = held.keys() - set(infos)
        self._parts = {subject: self._parts[subject] for subject in infos if subject in self._parts}
        if not parts.issubset(self._parts.values()):
            await self._remove_unfinished(parts, infos)
        return self.removed - before

    async def _is_done_with(self, subject: str) -> bool:
        task_id = payloads.task_of(payloads.name_in(subject))
        if not task_id:
            return False  # somebody's own object
        row = self._index.get(task_id)
        if row is not None and row.state in _ON_ITS_WAY:
            return False
        last = await self._log.read(task_id)
        stored = await self._js.last(subjects.OBJECTS, subject)
        if stored is None:
            return False
        dead = await self._js.last(subjects.DEAD, subjects.dead("*", task_id))
        return not is_wanted(
            last, dead_letter=dead is not None, age=self._age(stored), retention=self._retention
        )

    def _age(self, stored: Stored) -> float:
        return (self._log.now() - stored.time).total_seconds()

    async def _remove(self, subject: str) -> None:
        stored = await self._js.last(subjects.OBJECTS, subject)
        if stored is None:
            return
        info = payloads.read_info(stored.data)
        await self._js.purge(subjects.OBJECTS, subject, before=stored.sequence + 1)
        if info is not None and await self._js.last(subjects.OBJECTS, subject) is None:
            await self._js.purge(subjects.OBJECTS, payloads.chunk_subject(info.nuid))
        self.removed += 1
        name = payloads.name_in(subject)
        facts = {"action": "payload", "task_id": payloads.task_of(name)}
        _log.debug("the payload %s is done with; removed", name, extra=facts)

    async def _remove_unfinished(self, parts: set[str], infos: list[str]) -> None:
        """Parts of which no object says that they are its own."""
        for subject in infos:
            stored = await self._js.last(subjects.OBJECTS, subject)
            info = payloads.read_info(stored.data) if stored is not None else None
            if info is not None:
                self._parts[subject] = payloads.chunk_subject(info.nuid)
        for subject in parts - set(self._parts.values()):
            newest = await self._js.last(subjects.OBJECTS, subject)
            if newest is not None and self._age(newest) > self._upload_within:
                await self._js.purge(subjects.OBJECTS, subject, before=newest.sequence + 1)
                self.removed += 1
                _log.info("parts of a payload that was never finished are removed: %s", subject)
