"""Who must wait before a request: closed routes, paused queues and kinds.

`closed.<pool>.<family>` in the bucket says until when nobody should send a request by a route, and
why. It moves only later; only `agentflow resume` shortens it. `pause.<queue>` and
`pause.kind.<kind>` stop what is paused from being started. Pure: time and the bucket's values are
passed in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from agentflow.rules.routes.route import Route

CLOSED: Final = "closed."
PAUSED: Final = "pause."
PAUSED_KIND: Final = "pause.kind."


class Closed(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from"}):
    """A closed route. `until` None: until a person resumes it."""

    v: int = 1
    since: datetime
    until: datetime | None = None
    reason: str
    error_code: str | None = None
    request_id: str | None = None
    actor: str = ""
    message: str | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it is still closed."""
        return self.until is None or self.until > now


class Paused(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from"}):
    """A paused queue or kind."""

    v: int = 1
    since: datetime
    reason: str = "operator"
    actor: str = ""


_closed = msgspec.json.Decoder(Closed)
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


def read_closed(value: bytes | None) -> Closed | None:
    """The closure in a key's value; one that cannot be read closes nothing."""
    if not value:
        return None
    try:
        return _closed.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_paused(value: bytes | None) -> Paused | None:
    """The pause in a key's value; one of a later version pauses too, whatever else it says."""
    if not value:
        return None
    try:
        return _paused.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Paused(since=datetime.fromtimestamp(0, UTC), reason="unreadable")


def later(present: bytes | None, wanted: Closed, now: datetime) -> bytes | None:
    """The key's value after closing: whichever of the two holds longer."""
    closure = read_closed(present)
    if closure is not None and closure.holds(now):
        if closure.until is None:
            return present
        if wanted.until is not None and wanted.until <= closure.until:
            return present
    return msgspec.json.encode(wanted)
