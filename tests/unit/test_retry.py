"""The retry table, row by row, and what holds for every signal."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.protocol import limits
from agentflow.rules import retry
from agentflow.rules.retry import TABLE, Decision, RouteEffect, Signal, decide, route_effect
from agentflow.rules.routes.closures import STEPS


def decided(
    signal: Signal, *, failures: int = 0, max_attempts: int = 100, chance: float = 0.5
) -> Decision:
    return decide(signal, failures=failures, max_attempts=max_attempts, chance=chance)


def effect(signal: Signal) -> RouteEffect:
    return route_effect(signal)


# What the API sends for a status, when it is the API that answers.
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def of_status(status: int, **fields: object) -> list[Signal]:
    """The signals of a status: from the API, and from a proxy that says nothing more."""
    both = [Signal(status=status, type=TYPES.get(status)), Signal(status=status)]
    return [Signal(**{**_fields(each), **fields}) for each in both]


def _fields(signal: Signal) -> dict[str, object]:
    return {name: getattr(signal, name) for name in signal.__struct_fields__}


@pytest.mark.parametrize(
    ("status", "reason", "closes"),
    [
        (400, "invalid_request", None),
        (401, "authentication", "auth"),
        (402, "billing", "spend"),
        (403, "permission", "auth"),
        (404, "not_found", None),
        (412, "invalid_request", None),
        (413, "too_large", None),
        (418, "invalid_request", None),
        (422, "invalid_request", None),
        (431, "too_large", None),
    ],
)
def test_what_would_be_refused_again_fails_at_once(
    status: int, reason: str, closes: str | None
) -> None:
    for signal in of_status(status):
        decision = decided(signal)
        assert not decision.retry
        assert decision.delay == 0.0
        assert decision.counts
        assert decision.reason == reason
        # What the API did not say itself (a page of a firewall, say) is that one task's affair.
        assert effect(signal).closes == (closes if signal.type else None)


@pytest.mark.parametrize(
    ("signal", "reason", "closes"),
    [
        *[(s, "rate_limited", "rate") for s in of_status(429)],
        *[(s, "overloaded", "overload") for s in of_status(529)],
        *[(s, "unavailable", "unreachable") for n in (502, 503, 521, 522) for s in of_status(n)],
        (Signal(status=407), "unavailable", "unreachable"),
        (Signal(exception="connection"), "connection", "unreachable"),
        (Signal(status=200, type="overloaded_error"), "overloaded", "overload"),
        (Signal(status=200, type="rate_limit_error"), "rate_limited", "rate"),
    ],
)
def test_what_never_reached_a_model_counts_nothing_and_closes_the_route(
    signal: Signal, reason: str, closes: str
) -> None:
    decision = decided(signal, failures=99, max_attempts=1)
    assert (decision.retry, decision.counts, decision.reason) == (True, False, reason)
    assert effect(signal).closes == closes
    assert effect(signal).slows is (reason == "overloaded")


@pytest.mark.parametrize(
    "message",
    [
        "Your credit balance is too low to access the Anthropic API.",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
    ],
)
def test_an_account_without_money_is_told_as_400(message: str) -> None:
    signal = Signal(status=400, type="invalid_request_error", message=message)
    assert (decided(signal).reason, effect(signal).closes) == ("billing", "spend")
    other = Signal(status=400, type="invalid_request_error", message="messages: required")
    assert (decided(other).reason, effect(other).closes) == ("invalid_request", None)


@pytest.mark.parametrize(
    ("signal", "reason", "first", "most", "limit"),
    [
        *[(s, "conflict", 0.5, 8.0, None) for n in (408, 409, 499) for s in of_status(n)],
        *[(s, "server_error", 1.0, 30.0, 5) for n in (500, 504) for s in of_status(n)],
        (Signal(exception="dropped"), "dropped", 0.5, 8.0, 3),
        (Signal(exception="stalled"), "stalled", 0.5, 8.0, 3),
        (Signal(exception="broken_json"), "broken_json", 0.5, 8.0, 3),
        (Signal(exception="timeout"), "timeout", 1.0, 30.0, None),
        (Signal(exception="handler"), "handler_error", 1.0, 30.0, None),
        (Signal(exception="lost"), "worker_lost", 0.0, 0.0, None),
        (Signal(), "unknown_error", 1.0, 30.0, 3),
        (Signal(exception="of a later version"), "unknown_error", 1.0, 30.0, 3),
        (Signal(status=200, type="new_error"), "unknown_error", 1.0, 30.0, 3),
    ],
)
def test_what_may_pass_is_tried_again(
    signal: Signal, reason: str, first: float, most: float, limit: int | None
) -> None:
    decision = decided(signal)
    assert decision.retry
    assert decision.counts
    assert effect(signal).closes == ("server" if reason == "server_error" else None)
    assert (decision.reason, decision.limit) == (reason, limit)
    rule = retry.rule_of(signal)
    assert rule.backoff is not None
    assert (rule.backoff.first, rule.backoff.most) == (first, most)
    allowed = limit or 100
    assert decided(signal, failures=allowed - 2).retry
    assert not decided(signal, failures=allowed - 1).retry
    assert not decided(signal, failures=1, max_attempts=2).retry
    assert not decided(signal, max_attempts=1).retry


@pytest.mark.parametrize(
    ("kind", "reason", "retried"),
    [
        ("overloaded_error", "overloaded", True),
        ("api_error", "server_error", True),
        ("timeout_error", "server_error", True),
        ("conflict_error", "conflict", True),
        ("rate_limit_error", "rate_limited", True),
        ("invalid_request_error", "invalid_request", False),
        ("authentication_error", "authentication", False),
        ("permission_error", "permission", False),
        ("billing_error", "billing", False),
        ("not_found_error", "not_found", False),
        ("request_too_large", "too_large", False),
    ],
)
def test_an_error_within_a_stream_is_known_by_its_type(
    kind: str, reason: str, retried: bool
) -> None:
    decision = decided(Signal(status=200, type=kind))
    assert (decision.reason, decision.retry) == (reason, retried)


class TestRateLimits:
    @pytest.mark.parametrize("code", [None, "ramp_limit_exceeded"])
    def test_parks_as_long_as_told_and_counts_nothing(self, code: str | None) -> None:
        for signal in of_status(429, retry_after=30.0, code=code):
            # However often: the task has done nothing wrong.
            decision = decided(signal, failures=99, max_attempts=1)
            assert decision.retry
            assert not decision.counts
            assert (decision.reason, effect(signal).closes) == ("rate_limited", "rate")
            assert decided(signal, chance=0.0).delay == 30.0
            assert decided(signal, chance=0.999).delay == pytest.approx(36.0, abs=0.1)
            assert effect(signal).retry_after == 30.0

    def test_a_wait_of_zero_is_still_a_wait(self) -> None:
        assert decided(Signal(status=429, retry_after=0.0)).delay >= 1.0

    def test_no_wait_goes_beyond_the_horizon(self) -> None:
        for seconds in (1e9, math.inf):
            decision = decided(Signal(status=429, retry_after=seconds))
            assert decision.retry
            assert decision.delay == limits.HORIZON

    @pytest.mark.parametrize(
        "code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"]
    )
    def test_a_spend_limit_closes_the_pool(self, code: str) -> None:
        for signal in of_status(429, code=code):
            decision = decided(signal)
            assert not decision.retry
            assert decision.reason == "spend_limit"
            assert effect(signal) == RouteEffect(closes="spend")

    def test_without_a_header_the_waits_double_up_to_a_minute(self) -> None:
        signal = Signal(status=429, type="rate_limit_error")
        waits = [decided(signal, failures=n, chance=0.0).delay for n in range(7)]
        assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
        assert decided(signal, failures=6, chance=0.999).delay == pytest.approx(72.0, abs=0.1)


class TestShouldRetry:
    @pytest.mark.parametrize("signal", [Signal(status=529), Signal(status=429, retry_after=5.0)])
    def test_false_ends_what_the_table_would_try_again(self, signal: Signal) -> None:
        final = Signal(**{**_fields(signal), "should_retry": False})
        decision = decided(final)
        assert not decision.retry
        assert decision.counts
        assert effect(final) == effect(signal)

    @pytest.mark.parametrize("status", [400, 401, 402, 404, 413])
    def test_true_tries_again_what_the_table_would_end(self, status: int) -> None:
        signal = Signal(status=status, should_retry=True)
        decision = decided(signal)
        assert decision.retry
        assert decision.counts
        assert effect(signal).closes is None
        assert not decided(signal, failures=4, max_attempts=5).retry

    def test_true_changes_nothing_where_the_table_tries_again(self) -> None:
        assert decided(Signal(status=529, should_retry=True)) == decided(Signal(status=529))


def test_every_retry_waits_at_least_as_long_as_told() -> None:
    for signal in (Signal(status=529, retry_after=100.0), Signal(status=503, retry_after=100.0)):
        assert decided(signal, chance=0.0).delay == 100.0


def test_full_jitter_reaches_from_nothing_to_the_whole() -> None:
    assert decided(Signal(status=529), failures=3, chance=0.0).delay == 0.0
    assert decided(Signal(status=529), failures=3, chance=0.5).delay == 8.0
    assert decided(Signal(exception="dropped"), chance=0.0).delay == 0.25


def test_every_rule_of_the_table_decides_something() -> None:
    """A rule that another one hides is a sentence that does not hold."""
    reached = (
        {
            id(retry.rule_of(signal))
            for status in (None, *range(100, 600))
            for retry_after in (None, 1.0)
            for code in (None, "enforced_spend_limit_reached")
            for kind in (None, "other")
            for said in (None, "Your credit balance is too low")
            for signal in (
                Signal(status=status, retry_after=retry_after, code=code, type=kind, message=said),
            )
        }
        | {
            id(retry.rule_of(Signal(exception=name)))
            for rule in TABLE
            for name in (rule.exceptions if isinstance(rule.exceptions, tuple) else ())
        }
        | {
            id(retry.rule_of(Signal(status=200, type=name)))
            for rule in TABLE
            for name in (rule.types if isinstance(rule.types, tuple) else ())
        }
    )
    assert reached >= {id(rule) for rule in TABLE}


texts = st.none() | st.sampled_from([*TYPES.values(), "other"])
signals = st.builds(
    Signal,
    status=st.none() | st.integers(0, 700),
    type=texts,
    code=st.none() | st.sampled_from(["enforced_spend_limit_reached", "ramp_limit_exceeded"]),
    exception=st.none() | st.sampled_from(["dropped", "stalled", "handler", "lost", "new"]),
    retry_after=st.none() | st.floats(),
    should_retry=st.none() | st.booleans(),
)


@given(
    signals,
    st.integers(0, 10_000),
    st.integers(1, limits.MAX_ATTEMPTS_LIMIT),
    st.floats(0, 1, exclude_max=True),
)
def test_whatever_comes_the_decision_can_be_carried_out(
    signal: Signal, failures: int, max_attempts: int, chance: float
) -> None:
    decision = decided(signal, failures=failures, max_attempts=max_attempts, chance=chance)
    assert 0.0 <= decision.delay <= limits.HORIZON
    assert decision.reason
    if not decision.retry:
        assert decision.delay == 0.0
        assert decision.counts
    elif decision.counts:
        assert failures + 1 < max_attempts


@given(signals)
def test_whatever_comes_the_route_is_closed_for_a_reason_that_is_known(signal: Signal) -> None:
    assert effect(signal).closes in (None, *STEPS)
