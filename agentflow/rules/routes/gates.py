"""Who must wait before a request: the keys of the bucket, and what a pause says. Pure.

`closed.<pool>.<family>` keeps a route closed (closures.py). `pause.<queue>` and
`pause.kind.<kind>` stop what is paused from being started.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from agentflow.rules.routes.route import Route

CLOSED: Final = "closed."
PAUSED: Final = "pause."
PAUSED_KIND: Final = "pause.kind."


class Paused(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from"}):
    """A paused queue or kind."""

    v: int = 1
    since: datetime
    reason: str = "operator"
    actor: str = ""


_paused = msgspec.json.Decoder(Paused)


def closed_key(route: Route) -> str:
    """Key of a closed route in the bucket."""
    return f"{CLOSED}{route.pool}.{route.family}"


def queue_key(queue: str) -> str:
    """Key that pauses a queue."""
    return f"{PAUSED}{queue}"


def kind_key(kind: str) -> str:
    """Key that pauses a kind; a dot in a kind would be another token of the subject."""
    return f"{PAUSED_KIND}{kind.replace('.', '_')}"


def read_paused(value: bytes | None) -> Paused | None:
    """The pause in a key's value; one of a later version pauses too, whatever else it says."""
    if not value:
        return None
    try:
        return _paused.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Paused(since=datetime.fromtimestamp(0, UTC), reason="unreadable")
