"""Rate limits as the Messages API has them: token buckets, and what its headers say of them.

Each family of models (opus, sonnet, ...) has three buckets: requests, input tokens, output tokens.
They refill continuously. A request is admitted when its one request and its input fit and the
output bucket is not in debt; output is taken as it is produced, whatever `max_tokens` said, so
that bucket can fall below zero. Cached input read back does not count.

Nothing here reads a clock: `now` is any monotonic second, `wall` the Unix time of the same moment.
"""

from __future__ import annotations

import math
import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta

PerMinute = Annotated[float, Meta(gt=0)]

_SHOWN_WITHOUT_LIMIT: Final = {
    "requests": 4_000,
    "input-tokens": 2_000_000,
    "output-tokens": 400_000,
}
"""What the headers tell a client whose simulator has no limit: an account far from its own."""

LINES: Final = ("opus", "sonnet", "haiku", "fable", "mythos")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits a minute; None is no limit."""

    requests: PerMinute | None = None
    input_tokens: PerMinute | None = None
    output_tokens: PerMinute | None = None
    burst: Annotated[float, Meta(gt=0)] = 60.0
    """Seconds of refill that a full bucket holds."""

    full: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """How full the buckets are at first."""

    stranger: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Share of each refill that somebody else takes, who has the same account."""


class Bucket:
    """Fills at `limit` a minute up to its capacity; may be in debt."""

    def __init__(
        self, limit: float, burst: float, now: float, *, full: float = 1.0, stranger: float = 0.0
    ) -> None:
        self.limit = limit
        self.rate = limit / 60.0
        self.capacity = self.rate * burst
        self._gain = self.rate * (1.0 - stranger)
        self._level = self.capacity * full
        self._at = now

    def level(self, now: float) -> float:
        """What is in it; negative in debt."""
        # A clock read before another one may arrive after it; a bucket never runs backwards.
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self._gain)
            self._at = now
        return self._level

    def after(self, other: Bucket, now: float) -> None:
        """Hold what `other` held, as far as it fits: a limit was changed."""
        self._level = min(self.capacity, other.level(now))
        self._at = now

    def take(self, amount: float, now: float) -> None:
        """Takes it, there or not."""
        self.level(now)
        self._level -= amount

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there; more than fits waits for a full bucket."""
        missing = min(amount, self.capacity) - self.level(now)
        # Refill sums to a hair below the mark; a client that waited as told must not wait again.
        return missing / self.rate if missing > 1e-6 * self.capacity else 0.0

    def until_full(self, now: float) -> float:
        """Seconds."""
        return max(0.0, (self.capacity - self.level(now)) / self.rate)


class Meter:
    """The buckets of one family of models."""

    def __init__(self, limits: Limits, now: float) -> None:
        def bucket(limit: float | None) -> Bucket | None:
            if limit is None:
                return None
            return Bucket(limit, limits.burst, now, full=limits.full, stranger=limits.stranger)

        self._requests = bucket(limits.requests)
        self._input = bucket(limits.input_tokens)
        self._output = bucket(limits.output_tokens)

    def after(self, other: Meter, now: float) -> None:
        """Go on with what another one's buckets held."""
        for own, before in (
            (self._requests, other._requests),
            (self._input, other._input),
            (self._output, other._output),
        ):
            if own is not None and before is not None:
                own.after(before, now)

    def admit(self, input_tokens: int, now: float) -> float:
        """Takes a request and its input and returns 0.0; or takes nothing and returns the wait."""
        needs = ((self._requests, 1), (self._input, input_tokens), (self._output, 1))
        wait = max((bucket.wait(n, now) for bucket, n in needs if bucket), default=0.0)
        if wait == 0.0:
            if self._requests:
                self._requests.take(1, now)
            if self._input:
                self._input.take(input_tokens, now)
        return wait

    def produced(self, output_tokens: int, now: float) -> None:
        """Takes output that has just been produced."""
        if self._output:
            self._output.take(output_tokens, now)

    def header_lines(self, now: float, wall: float) -> str:
        """The twelve headers, a CRLF after each."""
        rows = {
            name: _row(bucket, _SHOWN_WITHOUT_LIMIT[name], now)
            for name, bucket in (
                ("requests", self._requests),
                ("input-tokens", self._input),
                ("output-tokens", self._output),
            )
        }
        for name in ("input-tokens", "output-tokens"):
            limit, remaining, reset = rows[name]
            rows[name] = (limit, min(limit, round(remaining / 1000) * 1000), reset)
        (in_limit, in_left, in_reset) = rows["input-tokens"]
        (out_limit, out_left, out_reset) = rows["output-tokens"]
        rows["tokens"] = (in_limit + out_limit, in_left + out_left, max(in_reset, out_reset))
        return "".join(
            f"anthropic-ratelimit-{name}-limit: {limit}\r\n"
            f"anthropic-ratelimit-{name}-remaining: {remaining}\r\n"
            f"anthropic-ratelimit-{name}-reset: {_rfc3339(wall + reset)}\r\n"
            for name, (limit, remaining, reset) in rows.items()
        )


class Limiter:
    """A meter for each family of models. Without limits it costs nothing and admits all."""

    def __init__(self, limits: Limits | None) -> None:
        self.limits = limits
        self._meters: dict[str, Meter] = {}
        self._idle_lines = ""
        self._idle_second = -1

    def meter(self, model: str, now: float) -> Meter | None:
        """The meter a model counts on, or None when nothing is limited."""
        if self.limits is None:
            return None
        name = family(model)
        if name not in self._meters:
            self._meters[name] = Meter(self.limits, now)
        return self._meters[name]

    def changed(self, limits: Limits | None, now: float) -> Limiter:
        """One with other limits, whose buckets hold what these held."""
        limiter = Limiter(limits)
        if limits is not None:
            for name, meter in self._meters.items():
                limiter._meters[name] = Meter(limits, now)
                limiter._meters[name].after(meter, now)
        return limiter

    def idle_lines(self, wall: float) -> str:
        """The twelve headers of an account that has used nothing."""
        if int(wall) != self._idle_second:
            self._idle_second = int(wall)
            self._idle_lines = Meter(self.limits or Limits(), 0.0).header_lines(0.0, wall)
        return self._idle_lines


def family(model: str) -> str:
    """Models of one line share their limits; one of no known line stands alone."""
    return next((line for line in LINES if line in model), model)


def retry_after(wait: float) -> int:
    """Whole seconds that surely suffice: the header has no fractions."""
    return max(1, math.ceil(wait))


def _row(bucket: Bucket | None, shown: int, now: float) -> tuple[int, int, float]:
    if bucket is None:
        return shown, shown, 0.0
    return round(bucket.limit), max(0, math.floor(bucket.level(now) + 1e-6)), bucket.until_full(now)


def _rfc3339(wall: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(math.ceil(wall)))
