"""Money an hour is a rate, however short what is known of the hour."""

import pytest

from agentflow.dashboard.rows.costs import burn

NOW = 1_000


@pytest.mark.parametrize(
    ("costs", "an_hour"),
    [
        ({}, 0),
        ({NOW: 5}, 0),  # a minute that is not over
        ({NOW - 1: 5}, 300),
        ({NOW - 2: 6, NOW: 9}, 180),
        ({NOW - 60: 60, NOW - 1: 60}, 120),
        ({NOW - 61: 9, NOW - 30: 30}, 60),
    ],
)
def test_it_counts_from_the_first_minute_that_cost(costs: dict[int, int], an_hour: int) -> None:
    assert burn(costs, NOW) == an_hour
