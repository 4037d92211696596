"""Which runs of a worker wait for other tasks: a handler asks its own client, the worker sees it.

A handler that waits for a task keeps its slot. Where all slots wait so for tasks of the queue that
they serve, nobody is left to run those. Known by a context variable, which asyncio tasks and the
threads of functions inherit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final


class Waits:
    """What one run waits for, from whatever thread."""

    __slots__ = ("_for",)

    def __init__(self) -> None:
        self._for: list[frozenset[str]] = []

    def __bool__(self) -> bool:
        return bool(self._for)

    def queues(self) -> set[str]:
        """The queues of the tasks waited for, as far as they are known."""
        return {queue for queues in list(self._for) for queue in queues}

    @contextmanager
    def waiting(self, queues: Collection[str]) -> Iterator[None]:
        """Within it the run waits for tasks of these queues; none given: nobody knows which."""
        one = frozenset(queues)
        self._for.append(one)
        try:
            yield
        finally:
            self._for.remove(one)


current: Final[ContextVar[Waits | None]] = ContextVar("agentflow_waits", default=None)
"""Those of the run in which this code is."""


@contextmanager
def waiting_for(*queues: str | None) -> Iterator[None]:
    """Within it somebody waits for tasks of these queues; where that is no handler, nothing."""
    waits = current.get()
    if waits is None:
        yield
        return
    with waits.waiting([queue for queue in queues if queue]):
        yield
