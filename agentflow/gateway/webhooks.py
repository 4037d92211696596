"""From records to webhooks: each event that a hook wants becomes a task of kind `webhook`.

So it has what tasks have: retries, a dead letter, cancel. Its id is made of the event, so it is
sent once though every gateway submits it. Records are looked at from the cursor on, which moves
behind what was submitted: what happens while no gateway runs is sent when one does.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec

from agentflow.client import Client, Event
from agentflow.client.operate.webhooks import Hooks
from agentflow.errors import IdReused
from agentflow.gateway.events.frames import TOKENS, TYPES, frame
from agentflow.protocol import webhooks
from agentflow.protocol.webhooks import Delivery

_log = logging.getLogger(__name__)

KNOWN: Final = frozenset(TYPES) - {TOKENS, "task.queued"}
"""Events that can be sent: those that are records."""
EVERY: Final = 500
"""Records after which the cursor moves, though nothing was sent."""


class Sending:
    """Looks at the records of one server."""

    def __init__(self) -> None:
        self.sent = 0

    async def run(self, client: Client) -> None:
        """Until cancelled. Raises BusError."""
        kept = client.operate.webhooks
        hooks = kept.followed()
        await hooks.start()
        try:
            span = await client.history.span()
            last = span.last if span is not None else 0
            cursor = await kept.cursor()
            if cursor is None or cursor > last:
                await kept.restart(cursor := last)
            feed: AsyncGenerator[Event] = client.watch(tokens=False, after=cursor)
            async with aclosing(feed):
                async for event in feed:
                    if event.record is None:
                        continue
                    sent = await self._look(client, hooks, event)
                    if sent or event.sequence >= cursor + EVERY:
                        cursor = event.sequence
                        await kept.advance(cursor)
        finally:
            await hooks.close()

    async def _look(self, client: Client, hooks: Hooks, event: Event) -> bool:
        """Submit what hooks want of an event; whether any did."""
        known = [] if event.task_kind == webhooks.KIND else hooks.of(event.labels)
        if not known:
            return False
        told = frame(event)
        wanting = {hook.url: hook for hook in known if hook.wants(told.type)}
        for url in wanting:
            await self._submit(client, url, event, told.type, msgspec.to_builtins(told.data))
        return bool(wanting)

    async def _submit(
        self, client: Client, url: str, event: Event, type: str, data: dict[str, Any]
    ) -> None:
        assert event.record is not None
        message = webhooks.message_id(event.id, event.sequence)
        delivery = Delivery(
            url=url, id=message, type=type, timestamp=event.record.time.isoformat(), data=data
        )
        tasks = client.tasks
        fields = {
            "kind": webhooks.KIND,
            "params": msgspec.to_builtins(delivery),
            "labels": {"of": event.id[:64]},
        }
        task_id = webhooks.task_id(f"{message} {url}")
        try:
            await tasks.store(tasks.message(fields, task_id=task_id, queue=webhooks.QUEUE))
        except IdReused:
            _log.warning("the webhook of %s is there already, otherwise", message)
        self.sent += 1
