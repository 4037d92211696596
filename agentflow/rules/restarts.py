"""When a process that crashed starts again. Pure; times are seconds of one clock.

A crashed one starts again after a delay that grows with every crash and begins anew once it has run
steadily. Too many crashes in a short time are no accident: then it does not start again.
"""

from __future__ import annotations

from collections import deque

import msgspec


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a crashed process starts again, in seconds."""

    first_delay: float = 0.5
    longest_delay: float = 10.0
    growth: float = 2.0
    """Each delay is so many times the one before."""
    steady_after: float = 30.0
    """A run as long as this makes the next crash count as the first."""
    crashes: int = 5
    """With as many within `window`, it does not start again."""
    window: float = 60.0


class Restarts:
    """The crashes of one process so far."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._times: deque[float] = deque()
        self._delay = policy.first_delay

    def later(self) -> float:
        """The delay before the next start; the one after it is longer."""
        delay, policy = self._delay, self._policy
        self._delay = min(policy.growth * delay, policy.longest_delay)
        return delay

    def crashed(self, *, now: float, ran_for: float) -> float | None:
        """The delay before it starts again; None when there were too many crashes."""
        policy = self._policy
        if ran_for >= policy.steady_after:
            self._delay = policy.first_delay
        self._times.append(now)
        while self._times[0] < now - policy.window:
            self._times.popleft()
        return None if len(self._times) >= policy.crashes else self.later()
