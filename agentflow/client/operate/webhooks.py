"""Webhooks: keys of the bucket, made where tasks are submitted, read where events are sent on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board, value_of
from agentflow.client.session import Session
from agentflow.errors import NoStream, NotFound, UsageError
from agentflow.protocol import jobs, subjects, webhooks
from agentflow.protocol.webhooks import Cursor, Webhook

KNOWN: Final = 10_000
"""Hooks that a process remembers to have kept."""


class Webhooks:
    """The hooks of a server. All methods raise BusError."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: set[str] = set()

    async def keep(self, hook: Webhook) -> str:
        """Have a hook known; returns its id."""
        hook_id = webhooks.hook_id(hook)
        if hook_id not in self._kept:
            value = msgspec.json.encode(hook)
            await self._set(webhooks.PREFIX + hook_id, lambda _: value)
            if len(self._kept) >= KNOWN:
                self._kept.clear()
            self._kept.add(hook_id)
        return hook_id

    async def of_job(self, job: str, hook: Webhook | None) -> None:
        """Send the events of a job's tasks, or no longer. Raises UsageError."""
        value = None if hook is None else msgspec.json.encode(hook)
        await self._set(webhooks.OF_JOB + jobs.check_id(job), lambda _: value)

    async def cursor(self) -> int | None:
        """Up to where records have been looked at; None: nobody ever has."""
        subject = subjects.kv(webhooks.CURSOR)
        try:
            last = await self._session.js.last(subjects.KV_STREAM, subject)
        except NotFound:
            return None
        return webhooks.cursor(value_of(last))

    async def advance(self, sequence: int) -> None:
        """Records up to there have been looked at; it never goes back."""

        def change(value: bytes | None) -> bytes | None:
            if (webhooks.cursor(value) or 0) >= sequence:
                return value
            return msgspec.json.encode(Cursor(sequence=sequence))

        await self._set(webhooks.CURSOR, change)

    async def restart(self, sequence: int) -> None:
        """The stream was made anew: begin there."""
        await self._set(webhooks.CURSOR, lambda _: msgspec.json.encode(Cursor(sequence=sequence)))

    def followed(self) -> Hooks:
        """A copy that follows what is kept, once it is started."""
        return Hooks(Board(self._session.js))

    async def _set(self, key: str, change: Callable[[bytes | None], bytes | None]) -> None:
        board = Board(self._session.js)
        try:
            await board.change(key, change)
        except (NotFound, NoStream):
            await provision.ensure_streams(self._session.js)
            await board.change(key, change)


class Hooks:
    """The hooks as this process knows them: who asks waits for nothing."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def start(self) -> None:
        """Read them, and follow them from then on. Raises BusError."""
        await self._board.start()

    async def close(self) -> None:
        """Follow them no more."""
        await self._board.close()

    def of(self, labels: Mapping[str, str]) -> list[Webhook]:
        """Those of a task with these labels: its own, and its job's."""
        keys = []
        if named := labels.get(webhooks.LABEL):
            keys.append(webhooks.PREFIX + named)
        if job := labels.get(jobs.LABEL):
            keys.append(webhooks.OF_JOB + job)
        found = (webhooks.decode(self._board.get(key)) for key in keys)
        return [hook for hook in found if hook is not None]


def checked(hook: Webhook, known: frozenset[str]) -> Webhook:
    """The hook. Raises UsageError for an event that there is none of."""
    if wrong := [event for event in hook.events if event not in known]:
        raise UsageError(
            f"there is no event {wrong[0][:40]!r}; there are {', '.join(sorted(known))}"
        )
    return hook
