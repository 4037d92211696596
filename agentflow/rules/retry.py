"""What becomes of a failed attempt: one table, one reader.

A `Signal` says what was seen; the rows are tried from top to bottom and the first that fits
decides. A row fits by the API's error code, its error type, the HTTP status or the exception's
category; one that names `retry_after` fits only where that header came. Types come beside
statuses because an error inside a stream arrives as status 200: its type is all there is. A signal
that no row fits is tried again a few times.

What the reader adds to the row:

- `x-should-retry: false` ends the task, `true` gives even a refused request another try.
- A failure is tried again while fewer than `max_attempts` have been counted, this one included;
  a row's `limit` (what such tries cost in money is not told by anybody) only lowers that number.
  Failures of all kinds are counted together, as the record has only the sum.
- A failure that does not count is no fault of the task's: it parks without an end, for as long as
  the API says.
- `retry-after` holds for every row that retries: never earlier, and up to a fifth later, so that a
  thousand parked tasks do not come back in one second. Nothing is parked beyond the horizon.
- What closes the pool is reported also when the task itself fails: then the first task fails, and
  the worker holds the others. A closed `rate` reopens when the delay is over; `auth` and `spend`
  wait for a person.

Refusals, cut answers and full context windows are results with a stop_reason and never come here.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final

import msgspec

from agentflow.protocol import limits


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a failure.

    `type` and `code` are the API's error.type and error.details.error_code, `exception` a category:
    connection, dropped, stalled, broken_json, timeout, handler, asked (by the handler, for
    `retry_after` seconds later), lost. `should_retry` is the header x-should-retry.
    """

    status: int | None = None
    type: str | None = None
    code: str | None = None
    exception: str | None = None
    retry_after: float | None = None
    should_retry: bool | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: park for `delay` seconds (`retry`) or fail.

    `counts`: whether it is a failure against max_attempts. `closes`: why nobody should use the
    credential for a while (rate, spend, auth), or None. `reason` is the record's short code.
    `limit`: at most so many failures when they end like this, or None.
    """

    retry: bool
    delay: float
    counts: bool
    closes: str | None
    reason: str
    limit: int | None = None


class Backoff(msgspec.Struct, frozen=True):
    """`first` seconds, doubled with each failure up to `most`, times a factor of the range."""

    first: float
    most: float
    low: float = 0.0
    high: float = 1.0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table: what it fits, and what follows. Without `backoff` the task fails."""

    reason: str
    statuses: Container[int] = ()
    types: Container[str] = ()
    codes: Container[str] = ()
    exceptions: Container[str] = ()
    retry_after: bool = False
    backoff: Backoff | None = None
    counts: bool = True
    limit: int | None = None
    closes: str | None = None

    def fits(self, signal: Signal) -> bool:
        """Whether this row decides."""
        if self.retry_after and signal.retry_after is None:
            return False
        return (
            signal.code in self.codes
            or signal.type in self.types
            or signal.status in self.statuses
            or signal.exception in self.exceptions
        )


AT_ONCE: Final = Backoff(0.0, 0.0)
BLINK: Final = Backoff(0.5, 8.0, 0.5)  # half of it is fixed: never a hot loop
SERVER: Final = Backoff(1.0, 30.0)
PATIENT: Final = Backoff(1.0, 30.0, 0.5)
LOADED: Final = Backoff(2.0, 60.0)
RATE: Final = Backoff(2.0, 60.0, 1.0, 1.2)  # earlier would only be refused again
AS_TOLD: Final = Backoff(1.0, 1.0, 1.0, 1.2)  # the header decides; a second where it says zero

_SPENT: Final = ("enforced_spend_limit_reached", "contract_spend_limit_reached")
_RATE: Final = ("rate_limit_error",)
_TOO_MANY: Final = (429,)

# fmt: off
TABLE: Final[tuple[Row, ...]] = (
    # 429. A spend limit has no retry-after: trying again is of no use until a person acts.
    Row(reason="rate_limited", statuses=_TOO_MANY, types=_RATE, retry_after=True,
        backoff=AS_TOLD, counts=False, closes="rate"),
    Row(reason="spend_limit",     codes=_SPENT, closes="spend"),
    Row(reason="rate_limited",    statuses=_TOO_MANY, types=_RATE, backoff=RATE),
    # The credential: every further task would meet the same.
    Row(reason="billing",         statuses=(402,), types=("billing_error",), closes="spend"),
    Row(reason="authentication",  statuses=(401,), types=("authentication_error",), closes="auth"),
    Row(reason="permission",      statuses=(403,), types=("permission_error",), closes="auth"),
    # The service.
    Row(reason="overloaded",      statuses=(529,), types=("overloaded_error",),
        backoff=LOADED, limit=8),
    Row(reason="conflict",        statuses=(408, 409, 499), types=("conflict_error",),
        backoff=BLINK),
    Row(reason="server_error",    statuses=range(500, 600), types=("api_error", "timeout_error"),
        backoff=SERVER, limit=5),
    # The request: it would be refused again.
    Row(reason="too_large",       statuses=(413, 431), types=("request_too_large",)),
    Row(reason="not_found",       statuses=(404,), types=("not_found_error",)),
    Row(reason="invalid_request", statuses=range(400, 500), types=("invalid_request_error",)),
    # The way there. All but a connection never made may be billed: few tries.
    Row(reason="connection",      exceptions=("connection",), backoff=PATIENT),
    Row(reason="dropped",         exceptions=("dropped",), backoff=BLINK, limit=3),
    Row(reason="stalled",         exceptions=("stalled",), backoff=BLINK, limit=3),
    Row(reason="broken_json",     exceptions=("broken_json",), backoff=BLINK, limit=3),
    # The run.
    Row(reason="timeout",         exceptions=("timeout",), backoff=SERVER),
    Row(reason="handler_error",   exceptions=("handler",), backoff=SERVER),
    Row(reason="handler_retry",   exceptions=("asked",), backoff=AS_TOLD),
    Row(reason="worker_lost",     exceptions=("lost",), backoff=AT_ONCE),
)
# fmt: on

UNKNOWN: Final = Row(reason="unknown_error", backoff=SERVER, limit=3)


def row_of(signal: Signal) -> Row:
    """The row that decides."""
    return next((row for row in TABLE if row.fits(signal)), UNKNOWN)


def decide(
    signal: Signal, *, failures: int, max_attempts: int, random: Callable[[], float]
) -> Decision:
    """What to do after `failures` earlier failures; `random` gives numbers of [0, 1)."""
    row = row_of(signal)
    backoff = row.backoff
    closes = row.closes
    if signal.should_retry is False:
        backoff = None
    elif signal.should_retry and backoff is None:
        # The API expects it to work next time, so the credential cannot be at fault.
        backoff, closes = SERVER, None
    allowed = max_attempts if row.limit is None else min(max_attempts, row.limit)
    counts = row.counts or backoff is None
    retry = backoff is not None and (not counts or failures + 1 < allowed)
    return Decision(
        retry=retry,
        delay=_delay(backoff, signal.retry_after, failures, random) if backoff and retry else 0.0,
        counts=counts,
        closes=closes,
        reason=row.reason,
        limit=row.limit,
    )


def _delay(
    backoff: Backoff, retry_after: float | None, failures: int, random: Callable[[], float]
) -> float:
    chance = random()
    # Doubling is cut long before it could overflow a float.
    grown = min(backoff.most, backoff.first * 2.0 ** min(failures, 32))
    delay = grown * (backoff.low + (backoff.high - backoff.low) * chance)
    if retry_after is not None:
        told = max(AS_TOLD.first, retry_after)
        delay = max(delay, told * (AS_TOLD.low + (AS_TOLD.high - AS_TOLD.low) * chance))
    return min(delay, float(limits.HORIZON))
