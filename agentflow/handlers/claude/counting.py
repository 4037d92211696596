"""How many tokens prompts are, by the API's own count, which costs nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Final

import anthropic
import msgspec
from anthropic.resources.messages import AsyncMessages

from agentflow.handlers.claude import client as clients
from agentflow.handlers.claude.headers import rate_limits
from agentflow.handlers.claude.request import build
from agentflow.protocol.task import Task

STALL: Final = 10.0
AT_ONCE: Final = 4
_KNOWN: Final = frozenset(inspect.signature(AsyncMessages.create).parameters)
_COUNTED: Final = frozenset(inspect.signature(AsyncMessages.count_tokens).parameters) - {
    "self",
    "timeout",
}


class Counts(msgspec.Struct, frozen=True):
    """Tokens of each prompt, None where the API would not count it; `why` of the last such.

    `limits` are the rate limits that the API told, without what their names have in common.
    """

    tokens: list[int | None]
    limits: dict[str, str] = {}
    why: str = ""


async def count(tasks: Sequence[Task], *, base_url: str | None = None) -> Counts:
    """Ask for each prompt, a few at once. Raises KeyMissing, UsageError."""
    client = clients.make(None, base_url, STALL)
    places = asyncio.Semaphore(AT_ONCE)
    limits: dict[str, str] = {}
    why = ""

    async def one(task: Task) -> int | None:
        nonlocal why
        asked = build(task, _KNOWN)
        async with places:
            try:
                answer = await client.messages.with_raw_response.count_tokens(
                    **{name: value for name, value in asked.items() if name in _COUNTED}
                )
                limits.update(rate_limits(answer.headers))
                return (await answer.parse()).input_tokens
            except anthropic.APIError as error:
                why = type(error).__name__
            except (TypeError, ValueError) as error:
                why = str(error)
        return None

    try:
        return Counts(await asyncio.gather(*map(one, tasks)), limits, why)
    finally:
        await client.close()
