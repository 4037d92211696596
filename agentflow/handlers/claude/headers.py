"""What the headers of an answer say: when to come back, and how much of a limit is left. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from agentflow.rules.routes.clock import Level, Reading

RATE_LIMITS: Final = "anthropic-ratelimit-"
_LIMITED: Final = {
    b"anthropic-ratelimit-requests-": "requests",
    b"anthropic-ratelimit-input-tokens-": "input",
    b"anthropic-ratelimit-output-tokens-": "output",
}
_PREFIX: Final = RATE_LIMITS.encode()
_MOST: Final = 1e12
"""A limit above it is a slip of somebody's."""


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, None where no header says; `now` is Unix time, for those that are dates."""
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return max(0.0, millis / 1000.0)
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is None and text:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else max(0.0, seconds)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """What x-should-retry says, None where it is absent or says something else."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())


def rate_limits(headers: Mapping[str, str]) -> dict[str, str]:
    """The rate limit headers, without what their names have in common."""
    return {
        name[len(RATE_LIMITS) :]: value
        for name, value in headers.items()
        if name.startswith(RATE_LIMITS)
    }


def reading(lines: Iterable[tuple[bytes, bytes]], sent: float) -> Reading:
    """The limits that an answer's headers tell; `sent` is the Unix time of its request.

    A reset is an instant of their clock: what it is from now their own Date says, where it is told.
    """
    told: dict[str, dict[bytes, bytes]] = {}
    date = b""
    for name, value in lines:
        lower = name.lower()
        if lower.startswith(_PREFIX):
            start, dash, what = lower.rpartition(b"-")
            axis = _LIMITED.get(start + dash)
            if axis is not None:
                told.setdefault(axis, {})[what] = value
        elif lower == b"date":
            date = value
    if not told:
        return _NOTHING
    now = _instant_of(date) or sent
    levels = {}
    for axis, texts in told.items():
        limit = _number(texts.get(b"limit", b"").decode("latin-1"))
        left = _number(texts.get(b"remaining", b"").decode("latin-1"))
        if limit is not None and left is not None and 0 < limit < _MOST and 0 <= left < _MOST:
            levels[axis] = Level(limit, left, _full_in(texts.get(b"reset"), now))
    return Reading(levels)


_NOTHING: Final = Reading()


def _full_in(reset: bytes | None, now: float) -> float | None:
    """Seconds until a bucket is full; resets are whole seconds, rounded up."""
    if not reset:
        return None
    try:
        instant = datetime.fromisoformat(reset.decode("ascii"))
    except ValueError:
        return None
    return None if instant.tzinfo is None else max(0.0, instant.timestamp() - now - 0.5)


def _instant_of(date: bytes) -> float | None:
    if not date:
        return None
    try:
        return parsedate_to_datetime(date.decode("ascii")).timestamp() + 0.5
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    # "nan" and "inf" are numbers to Python.
    return number if math.isfinite(number) else None
