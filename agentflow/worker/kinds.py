"""The kinds of tasks that a worker runs: their handlers, and what those say of themselves."""

from __future__ import annotations

from typing import Any, Final

from agentflow.errors import InvalidTask
from agentflow.handlers.batching import Batched
from agentflow.handlers.contract import (
    Handler,
    Metered,
    Noted,
    Pooled,
    Priced,
    Routed,
    defaults_of,
)
from agentflow.protocol.task import Task
from agentflow.rules.routes.prices import Cost
from agentflow.rules.routes.route import Route

_LITTLE: Final = Cost(1)


class Kinds:
    """Handlers by kind. A task of another kind waits `unknown_kind_for` seconds for its worker."""

    def __init__(self, handlers: dict[str, Handler], *, unknown_kind_for: float) -> None:
        self.handlers = handlers
        self.defaults = defaults_of(handlers)
        self.unknown_kind_for = unknown_kind_for
        known: dict[str, object] = dict(handlers)
        # Asked once: whether an object fits a Protocol takes longer than a record.
        self._routes = {
            kind: handler.route for kind, handler in known.items() if isinstance(handler, Routed)
        }
        self._priced = {
            kind: handler.most for kind, handler in known.items() if isinstance(handler, Priced)
        }
        self._metered = {
            kind
            for kind, handler in known.items()
            if isinstance(handler, Metered) and handler.metered
        }
        self._pooled = [handler for handler in known.values() if isinstance(handler, Pooled)]
        self._batched = {
            kind: handler for kind, handler in known.items() if isinstance(handler, Batched)
        }
        self._noted = [handler for handler in known.values() if isinstance(handler, Noted)]

    def route(self, task: Task) -> Route | None:
        """By which route a task asks, if its handler knows that beforehand."""
        route_of = self._routes.get(task.kind)
        return route_of(task) if route_of is not None else None

    def batched(self, kind: str) -> Batched | None:
        """The handler of a kind, if its tasks may be asked in batches."""
        return self._batched.get(kind)

    def most(self, task: Task) -> Cost:
        """What a task's first request may cost; a millionth where its handler does not know.

        So it starts only while there is money at all.
        """
        most_of = self._priced.get(task.kind)
        try:
            return most_of(task) if most_of is not None else _LITTLE
        except InvalidTask:
            return _LITTLE  # its handler fails it, and says why

    def metered(self, kind: str) -> bool:
        """Whether the answers to a kind's requests tell the limits of their route."""
        return kind in self._metered

    @property
    def asks(self) -> bool:
        """Whether any kind asks a service that others share."""
        return bool(self._routes)

    def pools(self) -> dict[str, Any]:
        """How the limits of the handlers' credentials stand, by pool and family."""
        return {
            pool: families for handler in self._pooled for pool, families in handler.pools().items()
        }

    def notes(self) -> list[str]:
        """What the handlers want a person to know."""
        return [note for handler in self._noted for note in handler.notes()]
