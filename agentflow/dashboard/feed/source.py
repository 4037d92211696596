"""What the dashboard needs of a feed, live or replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from agentflow.views import feed

if TYPE_CHECKING:
    # The terminal is drawn before nats is imported.
    from agentflow.client import Client

Apply = Callable[[feed.Item], None]


class Source(Protocol):
    """A feed. `run` lasts until it is cancelled; what it begins ends with it."""

    @property
    def now(self) -> float:
        """The time that the items are of, in seconds since 1970."""

    @property
    def client(self) -> Client | None:
        """The client for acts; None while there is no server, and always in a replay."""

    async def run(self, apply: Apply) -> None:
        """Call `apply` with each item, in the event loop."""

    def follow_tokens(self, ids: Iterable[str]) -> None:
        """Hear what is generated for exactly these tasks."""
