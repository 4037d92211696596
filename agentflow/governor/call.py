"""One request on its way through the governor: what it is expected to cost, and what was charged.

`ticket` is None where it went without one: its route was free, or nothing was known of it.
"""

from __future__ import annotations

from agentflow.handlers.contract import Run
from agentflow.rules.routes.route import Route
from agentflow.rules.routes.tickets import Ticket

CHARACTERS: float = 3.5
"""A token of an answer under way; the end of it is counted exactly."""


class Call:
    """A request."""

    __slots__ = (
        "charged",
        "cost",
        "counted",
        "due",
        "heard",
        "key",
        "most",
        "name",
        "probing",
        "route",
        "run",
        "sent",
        "size",
        "ticket",
    )

    def __init__(
        self, route: Route, key: tuple[str, str], size: int, most: int | None = None
    ) -> None:
        self.route = route
        self.name = ""
        """The id of its task."""
        self.key = key
        self.size = size
        self.most = most
        self.ticket: Ticket | None = None
        self.cost: dict[str, int] = {}
        """What it was taken for when its ticket was taken."""
        self.due = False
        """Whether its time has come."""
        self.charged = 0
        """Output tokens that the counter has of it."""
        self.probing = False
        """Whether it is the request that finds out the limits of its route."""
        self.counted = False
        """Whether the input was told to the counter."""
        self.heard = False
        """Whether headers came."""
        self.run: Run | None = None
        self.sent = 0.0
        """When, by the server's time (Unix seconds)."""

    @property
    def produced(self) -> float:
        """Tokens of the answer so far, as far as anybody knows."""
        return self.run.characters / CHARACTERS if self.run is not None else 0.0
