"""Who must wait before a request: closed pools, paused queues and kinds, and the pace under load.

A pool is a credential; a family is the models that share its limits. `closed.<pool>.<family>` in
the bucket says until when nobody should send a request, and why. It moves only later; only
`agentflow resume` shortens it. `pause.<queue>` and `pause.kind.<kind>` stop what is paused from
being started. Pure: time and the bucket's values are passed in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

CLOSED: Final = "closed."
PAUSED: Final = "pause."
PAUSED_KIND: Final = "pause.kind."

Route = tuple[str, str]
"""Pool and family."""


class Closed(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from"}):
    """A closed pool and family. `until` None: until a person resumes it."""

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
    """Key of a pool and family in the bucket."""
    return f"{CLOSED}{route[0]}.{route[1]}"


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
    found = read_closed(present)
    if found is not None and found.holds(now):
        if found.until is None:
            return present
        if wanted.until is not None and wanted.until <= found.until:
            return present
    return msgspec.json.encode(wanted)


class Pace:
    """How many requests of one route may be in flight here.

    Additive increase, multiplicative decrease: an overload takes it to 70 % of what was in flight,
    at most once a second, and each second without one gives a request more.
    """

    DECREASE: Final = 0.7
    PER_SECOND: Final = 1.0

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._changed = 0.0

    def limit(self, now: float) -> int:
        """Requests that may be in flight at `now` (seconds of any steady clock)."""
        if self._limit < self._most:
            self._limit = min(self._most, self._limit + (now - self._changed) * self.PER_SECOND)
            self._changed = now
        return max(1, int(self._limit))

    def overloaded(self, in_flight: int, now: float) -> None:
        """An overload was met with so many in flight."""
        limit = self.limit(now)
        if limit < self._most and now - self._changed < 1.0 and in_flight > limit:
            return  # the answers of one burst are one overload
        self._limit = max(1.0, min(limit, in_flight) * self.DECREASE)
        self._changed = now
