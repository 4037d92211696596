"""How fast one worker may ask, when a route says that it is overloaded. Pure."""

from __future__ import annotations

from typing import Final


class InFlightLimit:
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
