"""Remove task messages that were acknowledged and that the server has kept all the same.

A server that is killed may have written that a message was acknowledged, and not yet that it was
removed. Nobody gets such a message again, so it would stay in AGENTFLOW_TASKS for ever and be
counted as queued. It lies at or below the ack floor of its consumer, before everything that is
still to come; so the first message of each consumer tells whether there are any, and where the
consumers account for all messages nobody looks.

A message is removed only where a worker that got it would acknowledge it: `rules/claim.py` is asked
with the log's last record, read from the leader. Where it would not, that is said once: nothing
brings the task on, and whoever reads the log of the master must know.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.lease import Lease
from agentflow.bus.streams.pages import page, sequence_of, stored_ns, subject_of
from agentflow.bus.wire.message import Message
from agentflow.errors import PermissionDenied
from agentflow.log.task import TaskLog
from agentflow.protocol import headers as blocks
from agentflow.protocol import streams, subjects
from agentflow.protocol import task as tasks
from agentflow.protocol.asked import asked_by
from agentflow.protocol.identity import message_identity
from agentflow.rules.claim import Act, Delivery, decide, is_done_with

_log = logging.getLogger(__name__)

EVERY: Final = 30.0
AGE: Final = 10.0
"""Seconds since a message was stored: before, its removal may just be on its way."""


class Leftovers:
    """Looks for them now and then; `removed` counts them."""

    def __init__(self, js: JetStream, log: TaskLog, lease: Lease, *, age: float = AGE) -> None:
        self._js = js
        self._log = log
        self._lease = lease
        self._age = age
        self._told: set[str] = set()
        self.removed = 0

    async def run(self) -> None:
        """A round now and then, while this master has the lease. Raises BusError."""
        while True:
            await asyncio.sleep(EVERY)
            if self._lease.held:
                try:
                    await self.round()
                except PermissionDenied as error:
                    _log.warning("acknowledged messages stay in %s: %s", subjects.TASKS, error)
                    return

    async def round(self) -> int:
        """Look once; how many were removed. Raises BusError."""
        before = self.removed
        consumers = await self._js.consumers(subjects.TASKS)
        state = (await self._js.stream_info(subjects.TASKS))["state"]
        open_ = sum(each["num_pending"] + each["num_ack_pending"] for each in consumers)
        if int(state["messages"]) > open_:
            for info in consumers:
                await self._look_through(info)
        return self.removed - before

    async def _look_through(self, info: dict[str, Any]) -> None:
        floor = int(info["ack_floor"]["stream_seq"])
        if not floor or streams.own_consumer(info["config"]) is None:
            return
        config = info["config"]
        for filter in config.get("filter_subjects") or [config.get("filter_subject", "")]:
            sequence = 1
            while sequence <= floor:
                first = await page(
                    self._js.connection, subjects.TASKS, sequence, filter=filter, batch=1
                )
                if not first.messages:
                    break
                (message,) = first.messages
                sequence = sequence_of(message) + 1
                if sequence - 1 <= floor:
                    await self._look(message)

    async def _look(self, message: Message) -> None:
        sequence, stored = sequence_of(message), stored_ns(message)
        age = self._log.now().timestamp() - stored / 1e9
        if age < self._age:
            return
        queue = subjects.queue_of(subject_of(message))
        task_id, follows = tasks.identified(message.headers, message.data, queue, sequence, stored)
        last = await self._log.read(task_id)
        identity = message_identity(sequence, stored)
        delivery = Delivery(
            identity,
            follows=follows,
            age=age,
            sourced=blocks.sourced(message.block, subjects.SCHEDULE),
            asked=asked_by(message.data, message.headers),
            stored=datetime.fromtimestamp(stored / 1e9, UTC),
        )
        if decide(delivery, last) is Act.DISOWN:
            task_id = tasks.derived_id(queue, sequence, stored)
            last = await self._log.read(task_id)
            delivery = msgspec.structs.replace(delivery, asked=None)
        facts = {"action": "leftover", "task_id": task_id}
        if is_done_with(delivery, last):
            if await self._js.delete(subjects.TASKS, sequence):
                self.removed += 1
                _log.info(
                    "task %s: message %s was acknowledged and still there; removed",
                    task_id,
                    identity,
                    extra=facts,
                )
        elif identity not in self._told:
            self._told.add(identity)
            _log.warning(
                "task %s: message %s is stored, and its consumer takes it for done; nothing brings "
                "the task on: cancel it and submit it again",
                task_id,
                identity,
                extra=facts,
            )
