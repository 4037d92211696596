"""When a process that crashed starts again, and when it does not."""

from __future__ import annotations

from agentflow.rules.restarts import RestartPolicy, Restarts


def test_delays_double_up_to_a_limit() -> None:
    restarts = Restarts(RestartPolicy(crashes=100))
    delays = [restarts.crashed(now=float(second), ran_for=1) for second in range(7)]
    assert delays == [0.5, 1, 2, 4, 8, 10, 10]


def test_a_steady_run_begins_anew() -> None:
    restarts = Restarts(RestartPolicy(crashes=100))
    delays = [restarts.crashed(now=0.0, ran_for=ran_for) for ran_for in (1, 1, 29.9, 30, 1)]
    assert delays == [0.5, 1, 2, 0.5, 1]


def test_the_fifth_crash_within_a_minute_is_too_many() -> None:
    restarts = Restarts(RestartPolicy())
    delays = [restarts.crashed(now=now, ran_for=1) for now in (0.0, 15.0, 30.0, 45.0, 60.0)]
    assert delays == [0.5, 1, 2, 4, None]


def test_crashes_that_are_far_apart_are_never_too_many() -> None:
    restarts = Restarts(RestartPolicy())
    delays = [restarts.crashed(now=15.1 * count, ran_for=15) for count in range(50)]
    assert None not in delays


def test_delays_grow_by_the_policys_factor_and_a_wait_without_a_crash_grows_them_too() -> None:
    restarts = Restarts(RestartPolicy(first_delay=1.0, growth=3.0))
    assert restarts.later() == 1
    assert restarts.crashed(now=0.0, ran_for=1) == 3
    assert [restarts.later() for _ in range(9)] == [9] + [10] * 8  # no crash, so never too many
