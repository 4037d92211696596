"""Lines whose id is that of another request: all of them are told before anything is submitted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final, NamedTuple

from agentflow.client import Client
from agentflow.client.tasks.submission import asked_as_sent
from agentflow.errors import IdReused, InvalidInput
from agentflow.job.source import Item
from agentflow.protocol.asked import Asked, asked
from agentflow.rules import reuse

_AT_ONCE: Final = 256
_TOLD: Final = 1000
"""Bad lines after which no more are looked for: they are the ids of another file."""


class _Named(NamedTuple):
    line: int
    id: str
    asked: Asked


async def check(
    client: Client, items: Iterable[Item | None], *, name: str, retry_failed: bool = False
) -> None:
    """Raise InvalidInput for those of the input `name` whose log holds another request.

    At each None among the items others on the loop have their turn. A failed task that is tried
    again may be asked otherwise. Raises BusError.
    """
    problems: list[tuple[int, str]] = []
    async for some in _batches(items):
        found = await asyncio.gather(*(_problem(client, item, retry_failed) for item in some))
        problems += [one for one in found if one is not None]
        if len(problems) >= _TOLD:
            break
    if problems:
        raise InvalidInput(name, problems)


def asked_of(item: Item) -> Asked:
    """What the message of a line will ask."""
    return asked_as_sent(item.body) if item.large else asked(item.body)


async def _batches(items: Iterable[Item | None]) -> AsyncIterator[list[_Named]]:
    some: list[_Named] = []
    for item in items:
        if item is None:
            await asyncio.sleep(0)
        elif item.body.id:
            # Without its texts: a batch of long ones would be gigabytes.
            some.append(_Named(item.line, item.task_id, asked_of(item)))
        if len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


async def _problem(client: Client, item: _Named, retry_failed: bool) -> tuple[int, str] | None:
    record = await client.tasks.lookup.known(item.id)
    if record is not None and record.failed and retry_failed:
        return None
    try:
        reuse.check(item.id, item.asked, record)
    except IdReused as error:
        return item.line, str(error)
    return None
