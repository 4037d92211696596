"""What the headers of an answer say: when to come back, and how much of a limit is left. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

RATE_LIMITS: Final = "anthropic-ratelimit-"


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


def _number(text: str | None) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    # "nan" and "inf" are numbers to Python.
    return number if math.isfinite(number) else None
