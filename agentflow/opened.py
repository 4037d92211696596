"""The client that is open here: what a function of one's own submits itself with.

Known by a context variable: set where a client is opened, it is that of the same asyncio task and
of those that it starts. Handlers know no client by themselves, and stand below it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, Protocol


class Submits(Protocol):
    """A client, as far as it is needed."""

    @property
    def submit(self) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Puts a task into its queue; gives a handle of it."""


client: Final[ContextVar[Submits | None]] = ContextVar("agentflow_client", default=None)
