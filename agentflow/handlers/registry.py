"""Which handler runs which kind. Each is imported only by a worker that runs its kind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Protocol, runtime_checkable

from agentflow.errors import UsageError
from agentflow.handlers.contract import Handler


@runtime_checkable
class Service(Protocol):
    """A handler that holds something open for as long as its worker runs."""

    async def start(self) -> None:
        """Called once, before the first task."""

    async def close(self) -> None:
        """Called once, after the last task."""


def _claude() -> Handler:
    # Here and not above: it imports anthropic, which takes 1.2 s and 74 MB.
    from agentflow.handlers.claude import ClaudeHandler

    return ClaudeHandler(pool=os.environ.get("AGENTFLOW_POOL") or None)


def _echo() -> Handler:
    from agentflow.handlers.echo import echo

    return echo


def _sleep() -> Handler:
    from agentflow.handlers.sleep import sleep

    return sleep


KINDS: Final[Mapping[str, Callable[[], Handler]]] = {
    "claude": _claude,
    "echo": _echo,
    "sleep": _sleep,
}


def load(kinds: Sequence[str] | None = None) -> dict[str, Handler]:
    """The handlers of `kinds` (None: all), not started. Raises UsageError for an unknown kind."""
    wanted = dict.fromkeys(KINDS if kinds is None else kinds)
    unknown = [kind for kind in wanted if kind not in KINDS]
    if unknown or not wanted:
        named = f"no kind {unknown[0]!r}" if unknown else "no kind given"
        raise UsageError(f"{named}; there are {', '.join(KINDS)}")
    return {kind: KINDS[kind]() for kind in wanted}


@asynccontextmanager
async def open_handlers(kinds: Sequence[str] | None = None) -> AsyncIterator[dict[str, Handler]]:
    """The handlers of `kinds`, started; closed at the end. Raises UsageError, KeyMissing."""
    handlers = load(kinds)
    async with AsyncExitStack() as stack:
        for handler in handlers.values():
            if isinstance(handler, Service):
                await handler.start()
                stack.push_async_callback(handler.close)
        yield handlers
