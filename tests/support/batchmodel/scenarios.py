"""What is searched: the rules, and variants that lack one."""

from __future__ import annotations

from typing import Any

TWO: dict[str, Any] = {"parked": (0, 1)}
RULES: list[Any] = [
    (
        "two tasks parked twice each, deliveries in any order, one batch",
        (),
        {"deliver": 4, "reserve": 1, "build": 1, "collect": 1, "sched": 0},
    ),
    (
        "late parker: a spool entry that comes when its task has ended",
        (),
        {"tasks": 1, "deliver": 3, "reserve": 2, "build": 2, "collect": 2},
    ),
    (
        "two builders, two resolvers, lost answers, late and unlisted creates",
        (),
        dict(**TWO, reserve=2, build=3, resolve=3, collect=2, lose=2),
    ),
    (
        "refused creates (429, 413) beside a resolver",
        (),
        dict(**TWO, reserve=1, build=3, resolve=1, collect=1, refuse=2, lose=1),
    ),
    (
        "two collectors, cancel at any moment",
        (),
        dict(**TWO, reserve=1, build=2, collect=2, cancel=1),
    ),
    (
        "expiry, second batch through a schedule, two collectors",
        (),
        {
            "tasks": 1,
            "parked": (0,),
            "deliver": 2,
            "reserve": 2,
            "build": 2,
            "collect": 3,
            "expire": 1,
            "sched": 1,
        },
    ),
    (
        "a stranger's batch of the same size",
        (),
        dict(**TWO, stranger=2, reserve=1, build=2, resolve=2, collect=1, lose=1),
    ),
    (
        "a 413 splits the range beside a second builder and a resolver",
        (),
        dict(**TWO, reserve=1, build=3, resolve=1, collect=2, split=1, lose=1),
    ),
    (
        "a builder misses an entry, a results file is cut, two collectors",
        (),
        dict(**TWO, reserve=2, build=2, collect=2, stale=1, cut=1),
    ),
    (
        "a builder misses an entry, cancel at any moment",
        (),
        dict(**TWO, reserve=1, build=2, collect=1, stale=1, cancel=1),
    ),
    (
        "an unknown create, seen and then deleted; a recorded batch deleted",
        (),
        dict(**TWO, reserve=1, build=2, resolve=3, collect=2, delete=1, lose=1),
    ),
    (
        "one parked, one on its way: two ranges",
        (),
        {
            "parked": (0,),
            "deliver": 2,
            "reserve": 2,
            "build": 2,
            "resolve": 1,
            "collect": 2,
            "lose": 1,
        },
    ),
    (
        "no money for one request, two builders, two collectors",
        (),
        dict(**TWO, reserve=2, build=2, collect=2, poor=1),
    ),
    (
        "no money for one request, lost answers",
        (),
        dict(**TWO, reserve=1, build=2, resolve=1, collect=1, poor=1, lose=1),
    ),
    (
        "no money for one request, cancel at any moment",
        (),
        dict(**TWO, reserve=2, build=2, collect=1, poor=1, cancel=1),
    ),
]
BROKEN: list[Any] = [
    (
        "who has no money waits anew before the batch is made",
        ("anew_early",),
        dict(**TWO, reserve=2, build=3, collect=2, poor=1),
    ),
    (
        "create first, record the id then (no intent)",
        ("no_intent",),
        dict(**TWO, reserve=1, build=2, collect=1),
    ),
    (
        "the resolver does not wait for the API to settle",
        ("no_wait",),
        dict(**TWO, reserve=1, build=2, resolve=1, collect=1),
    ),
    (
        "... waits, but not for the list to show what was accepted",
        ("X_ignores_lag",),
        dict(**TWO, reserve=1, build=2, resolve=1, collect=1),
    ),
    (
        "... waits, but not as long as a create may take to be accepted",
        ("X_ignores_inflight",),
        dict(**TWO, reserve=1, build=2, resolve=1, collect=1),
    ),
    (
        "... waits, but a sender paused before its last byte may still send it",
        ("X_ignores_paused_sender",),
        dict(**TWO, reserve=1, build=2, resolve=1, collect=1),
    ),
    (
        "the commit does not look whether the row is still open",
        ("commit_unchecked",),
        dict(**TWO, reserve=1, build=2, resolve=0, collect=1),
    ),
    (
        "an unknown create is adopted by its size alone",
        ("adopt_by_count",),
        dict(**TWO, stranger=2, reserve=1, build=1, resolve=1, collect=1),
    ),
    (
        "spool entries are published without `expected 0`",
        ("spool_twice",),
        {"tasks": 1, "deliver": 2, "reserve": 2, "build": 2, "collect": 1},
    ),
    (
        "the builder does not read the logs",
        ("no_log_check",),
        {"tasks": 1, "deliver": 2, "reserve": 2, "build": 2, "collect": 1},
    ),
    ("ack before the spool entry", ("ack_first",), {"tasks": 1, "deliver": 1}),
    (
        "two keys: the row first, then `next`",
        ("two_keys",),
        dict(**TWO, reserve=2, build=2, collect=1),
    ),
    ("two keys: `next` first, then the row", ("next_first",), dict(**TWO, reserve=1)),
    (
        "the row is removed before its results are written",
        ("done_first",),
        dict(**TWO, reserve=1, build=1, collect=1),
    ),
    (
        "results written after whatever is last (no fence)",
        ("no_fence",),
        dict(**TWO, reserve=1, build=1, collect=2, cancel=1),
    ),
    (
        "a results file that was cut is taken for all there is",
        ("cut_is_all",),
        dict(**TWO, reserve=2, build=2, collect=2, cut=1),
    ),
    (
        "whoever a builder missed is not healed",
        ("no_heal",),
        dict(**TWO, reserve=1, build=1, collect=1, stale=1),
    ),
    (
        "a row is dropped as empty by a builder that has not seen all of it",
        ("drop_blind",),
        dict(**TWO, reserve=1, build=1, stale=1, cancel=1),
    ),
    (
        "an unknown create that was seen, and is gone, is called not created",
        ("forgets_seen",),
        dict(**TWO, reserve=1, build=2, resolve=2, delete=1),
    ),
    (
        "... `seen` is not compared when the row goes back",
        ("seen_not_compared",),
        dict(**TWO, reserve=1, build=2, resolve=2, delete=1),
    ),
    (
        "(beyond the rules) it is deleted before anybody has seen it",
        ("deletes_unseen",),
        dict(**TWO, reserve=1, build=2, resolve=1, delete=1),
    ),
    ("a split in two writes", ("split_in_two_writes",), dict(**TWO, reserve=1, build=1, split=1)),
    (
        "a second collector does not publish the schedule again",
        ("no_republish",),
        {
            "tasks": 1,
            "parked": (0,),
            "deliver": 1,
            "reserve": 2,
            "build": 2,
            "collect": 2,
            "expire": 1,
            "sched": 1,
        },
    ),
]

LARGE = frozenset(
    {
        "two builders, two resolvers, lost answers, late and unlisted creates",
        "expiry, second batch through a schedule, two collectors",
        "one parked, one on its way: two ranges",
        "an unknown create, seen and then deleted; a recorded batch deleted",
        "a 413 splits the range beside a second builder and a resolver",
        "a builder misses an entry, a results file is cut, two collectors",
        "two tasks parked twice each, deliveries in any order, one batch",
    }
)
"""Scenarios of a quarter of a minute to two."""
