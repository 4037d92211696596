"""What a failure means: one table, and two questions to it.

`decide` says what becomes of the attempt: is it tried again, when, and does it count?
`route_effect` says what becomes of the route (credential and model family): is it closed for
everybody, why, and does this worker slow down? For how long, and whether it is the route's fault at
all, routes/closures.py says.

A `Signal` says what was seen; the rules are tried from top to bottom and the first that fits
decides. A rule fits by the API's error code, its error type, the HTTP status or the exception's
category; one may ask for a phrase or for the API's own shape besides. Types come beside
statuses because an error inside a stream arrives as status 200: its type is all there is. A signal
that no rule fits is tried again a few times.

What the readers add to the rule:

- `x-should-retry: false` ends the task, `true` gives even a refused request another try.
- A failure is tried again while fewer than `max_attempts` have been counted, this one included;
  a rule's `limit` (what such tries cost in money is not told by anybody) only lowers that number.
  Failures of all kinds are counted together, as the record has only the sum.
- A failure that does not count is no fault of the task's: it parks without an end.
- `retry-after` holds for every rule that retries: never earlier, and up to a fifth later, so that a
  thousand parked tasks do not come back in one second. Nothing is parked beyond the horizon.
- What closes the route is decided for the route first: where it is everybody's failure, the task
  waits with the others whatever its rule says, and nothing is counted. The rule holds where it is
  the task's own.

Refusals, cut answers and full context windows are results with a stop_reason and never come here.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

import msgspec

from agentflow.protocol import limits


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a failure.

    `type` and `code` are the API's error.type and error.details.error_code, `exception` a category:
    connection, dropped, stalled, broken_json, timeout, handler, asked (by the handler, for
    `retry_after` seconds later), batch_expired, batch_canceled, lost, budget, budget_fails,
    unpriced. `should_retry` is the header
    x-should-retry. `message` is the API's sentence: two of the account's failures are told by
    nothing else.
    """

    status: int | None = None
    type: str | None = None
    code: str | None = None
    exception: str | None = None
    retry_after: float | None = None
    should_retry: bool | None = None
    message: str | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with the task: park it for `delay` seconds (`retry`) or fail it.

    `counts`: whether it is a failure against max_attempts. `reason` is the record's short code.
    `limit`: at most so many failures when they end like this, or None.
    """

    retry: bool
    delay: float
    counts: bool
    reason: str
    limit: int | None = None


class RouteEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What a failure says of the route.

    `closes`: why nobody should use it (a reason of closures.STEPS), or None; `retry_after` seconds
    as the API told. `slows`: fewer requests at once for a while.
    """

    closes: str | None = None
    retry_after: float | None = None
    slows: bool = False


class Backoff(msgspec.Struct, frozen=True):
    """`first` seconds, doubled with each failure up to `most`, times a factor of the range."""

    first: float
    most: float
    low: float = 0.0
    high: float = 1.0


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table: what it fits, and what follows. Without `backoff` the task fails.

    `says`: one of these phrases must stand in the message too. `typed`: only an error of the API's
    own shape, not a page that something on the way there answered with.
    """

    reason: str
    statuses: Container[int] = ()
    types: Container[str] = ()
    codes: Container[str] = ()
    exceptions: Container[str] = ()
    says: tuple[str, ...] = ()
    typed: bool = False
    backoff: Backoff | None = None
    counts: bool = True
    limit: int | None = None
    closes: str | None = None
    slows: bool = False

    def fits(self, signal: Signal) -> bool:
        """Whether this rule decides."""
        if self.typed and signal.type is None:
            return False
        if self.says:
            said = (signal.message or "").lower()
            if not any(phrase in said for phrase in self.says):
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
LOADED: Final = Backoff(2.0, 60.0)
RATE: Final = Backoff(2.0, 60.0, 1.0, 1.2)  # earlier would only be refused again
AS_TOLD: Final = Backoff(1.0, 1.0, 1.0, 1.2)  # the header decides; a second where it says zero

_SPENT: Final = ("enforced_spend_limit_reached", "contract_spend_limit_reached")
_ACCOUNT: Final = ("credit balance is too low", "specified api usage limits")
"""The account's failures that come as 400."""
_AWAY: Final = (407, 502, 503, 521, 522, 523, 530)
"""Answers of a proxy, balancer or CDN that does not reach the service, or lets nobody through."""

SCHEMA: Final = "schema"
"""Type and reason of an answer that breaks its schema, however often it was asked again."""

# fmt: off
TABLE: Final[tuple[Rule, ...]] = (
    # The account and the credential: every further task would meet the same, if it is theirs.
    Rule(reason="spend_limit",     codes=_SPENT, closes="spend"),
    Rule(reason="billing",         statuses=(400,), types=("invalid_request_error",),
        says=_ACCOUNT, closes="spend"),
    Rule(reason="billing",         statuses=(402,), types=("billing_error",), typed=True,
        closes="spend"),
    Rule(reason="authentication",  statuses=(401,), types=("authentication_error",), typed=True,
        closes="auth"),
    Rule(reason="permission",      statuses=(403,), types=("permission_error",), typed=True,
        closes="auth"),
    # What never reached a model: nothing is counted, and the route is closed until it is better.
    Rule(reason="rate_limited",    statuses=(429,), types=("rate_limit_error",),
        backoff=RATE, counts=False, closes="rate"),
    Rule(reason="overloaded",      statuses=(529,), types=("overloaded_error",),
        backoff=LOADED, counts=False, closes="overload", slows=True),
    Rule(reason="unavailable",     statuses=_AWAY,
        backoff=LOADED, counts=False, closes="unreachable"),
    Rule(reason="connection",      exceptions=("connection",),
        backoff=LOADED, counts=False, closes="unreachable"),
    # The service: an outage is everybody's, a prompt that it cannot bear is one task's.
    Rule(reason="conflict",        statuses=(408, 409, 499), types=("conflict_error",),
        backoff=BLINK),
    Rule(reason="server_error",    statuses=range(500, 600), types=("api_error", "timeout_error"),
        backoff=SERVER, limit=5, closes="server"),
    # The request: it would be refused again.
    Rule(reason="paused",          types=("pause_turn",)),
    Rule(reason=SCHEMA,            types=(SCHEMA,)),
    Rule(reason="authentication",  statuses=(401,)),
    Rule(reason="billing",         statuses=(402,)),
    Rule(reason="permission",      statuses=(403,)),
    Rule(reason="too_large",       statuses=(413, 431), types=("request_too_large",)),
    Rule(reason="not_found",       statuses=(404,), types=("not_found_error",)),
    Rule(reason="invalid_request", statuses=range(400, 500), types=("invalid_request_error",)),
    # The way back: the answer may be billed, so few tries.
    Rule(reason="dropped",         exceptions=("dropped",), backoff=BLINK, limit=3),
    Rule(reason="stalled",         exceptions=("stalled",), backoff=BLINK, limit=3),
    Rule(reason="not_an_answer",   types=("not_an_answer",), backoff=SERVER, limit=3),
    Rule(reason="broken_json",     exceptions=("broken_json",), backoff=BLINK, limit=3),
    # The run.
    Rule(reason="timeout",         exceptions=("timeout",), backoff=SERVER),
    Rule(reason="handler_error",   exceptions=("handler",), backoff=SERVER),
    Rule(reason="handler_retry",   exceptions=("asked",), backoff=AS_TOLD),
    Rule(reason="batch_expired",   exceptions=("batch_expired",), backoff=AT_ONCE),
    Rule(reason="batch_canceled",  exceptions=("batch_canceled",)),
    Rule(reason="worker_lost",     exceptions=("lost",), backoff=AT_ONCE),
    # A budget without room: the task was not asked, and waits for a higher limit, or fails by it.
    Rule(reason="budget",          exceptions=("budget",), backoff=RATE, counts=False),
    Rule(reason="budget",          exceptions=("budget_fails",)),
    Rule(reason="unpriced",        exceptions=("unpriced",)),
)
# fmt: on

UNKNOWN: Final = Rule(reason="unknown_error", backoff=SERVER, limit=3)


def rule_of(signal: Signal) -> Rule:
    """The rule that decides."""
    return next((rule for rule in TABLE if rule.fits(signal)), UNKNOWN)


def decide(signal: Signal, *, failures: int, max_attempts: int, chance: float) -> Decision:
    """What becomes of the attempt after `failures` earlier failures; `chance` is of [0, 1)."""
    rule = rule_of(signal)
    backoff = rule.backoff
    if signal.should_retry is False:
        backoff = None
    elif signal.should_retry and backoff is None:
        backoff = SERVER
    allowed = max_attempts if rule.limit is None else min(max_attempts, rule.limit)
    counts = rule.counts or backoff is None
    retry = backoff is not None and (not counts or failures + 1 < allowed)
    return Decision(
        retry=retry,
        delay=_delay(backoff, signal.retry_after, failures, chance) if backoff and retry else 0.0,
        counts=counts,
        reason=rule.reason,
        limit=rule.limit,
    )


def route_effect(signal: Signal) -> RouteEffect:
    """What the failure says of the route; nothing of the task is asked."""
    rule = rule_of(signal)
    closes = rule.closes
    if signal.should_retry and rule.backoff is None:
        # The API expects it to work next time, so the credential cannot be at fault.
        closes = None
    return RouteEffect(closes=closes, retry_after=signal.retry_after, slows=rule.slows)


def _delay(backoff: Backoff, retry_after: float | None, failures: int, chance: float) -> float:
    # Doubling is cut long before it could overflow a float.
    grown = min(backoff.most, backoff.first * 2.0 ** min(failures, 32))
    delay = grown * (backoff.low + (backoff.high - backoff.low) * chance)
    if retry_after is not None:
        delay = max(delay, _told(retry_after, chance))
    return min(delay, float(limits.HORIZON))


def _told(retry_after: float, chance: float) -> float:
    """Seconds to wait where the API says how long: never less, and up to a fifth more."""
    seconds = max(AS_TOLD.first, retry_after)
    return seconds * (AS_TOLD.low + (AS_TOLD.high - AS_TOLD.low) * chance)
