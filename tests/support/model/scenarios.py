"""What is searched: SCENARIOS by the tests, DEEP by hand. Each spends on what it is named after."""

from __future__ import annotations

from typing import Final

from tests.support.model.world import B, Scenario

SCENARIOS: Final = [
    Scenario(
        "parked, submitted twice, cancelled", {B.DELIVER: 3, B.PARK: 1, B.DUPLICATE: 1, B.CANCEL: 1}
    ),
    Scenario("failed and retried by hand twice", {B.DELIVER: 3, B.FAIL: 2, B.MANUAL: 2}),
    Scenario(
        "a schedule fires twice, beside a failure",
        {B.DELIVER: 3, B.PARK: 1, B.TWICE: 1, B.FAIL: 1, B.MANUAL: 1},
    ),
    Scenario(
        "stale reads of a run that parks, fails or is handed back",
        {B.DELIVER: 3, B.PARK: 1, B.FAIL: 1, B.HANDBACK: 1},
        tail=3,
    ),
    Scenario(
        "stale reads of a duplicate and a cancel",
        {B.DELIVER: 3, B.DUPLICATE: 1, B.CANCEL: 1},
        tail=3,
    ),
    Scenario(
        "an unanswered write of the one who gives up a lost owner",
        {B.DELIVER: 3, B.UNANSWERED: 1, B.PROGRESS: 1},
        max_attempts=1,
    ),
    Scenario("unanswered writes", {B.DELIVER: 2, B.UNANSWERED: 2, B.PARK: 1, B.FAIL: 1}),
    Scenario("an unanswered write of a duplicate", {B.DELIVER: 3, B.UNANSWERED: 1, B.DUPLICATE: 1}),
    Scenario(
        "an unanswered write beside a manual retry",
        {B.DELIVER: 2, B.UNANSWERED: 1, B.FAIL: 1, B.MANUAL: 1, B.HANDBACK: 1},
    ),
    Scenario(
        "handed back, and progress", {B.DELIVER: 3, B.HANDBACK: 1, B.PROGRESS: 1, B.CANCEL: 1}
    ),
    Scenario("the log of a parked task expires", {B.DELIVER: 3, B.EXPIRE: 1, B.PARK: 1}),
    Scenario(
        "the log expires beside duplicate and manual retry",
        {B.DELIVER: 2, B.EXPIRE: 1, B.FAIL: 1, B.MANUAL: 1, B.PARK: 1, B.DUPLICATE: 1},
    ),
    Scenario(
        "more than 100 deliveries",
        {B.DELIVER: 2, B.MANY: 1, B.PARK: 1, B.FAIL: 1, B.MANUAL: 1},
    ),
    Scenario("owners are lost until it fails", {B.DELIVER: 4, B.PROGRESS: 1}, max_attempts=2),
    Scenario(
        "the sweep, a lost message, a cancel",
        {B.DELIVER: 2, B.SWEEP: 1, B.LOSE: 1, B.PARK: 1, B.CANCEL: 1},
    ),
    Scenario(
        "another request has its id",
        {B.DELIVER: 3, B.REUSE: 1, B.PARK: 1},
    ),
    Scenario(
        "another request, cancels and failures",
        {B.DELIVER: 3, B.REUSE: 1, B.CANCEL: 1, B.FAIL: 1, B.MANUAL: 1},
    ),
    Scenario("stale reads of another request", {B.DELIVER: 3, B.REUSE: 1, B.HANDBACK: 1}, tail=3),
    Scenario(
        "a retry is corrected",
        {B.DELIVER: 3, B.FAIL: 1, B.CORRECT: 1, B.DUPLICATE: 1},
    ),
    Scenario("a hostile submitter beside what parks", {B.DELIVER: 3, B.FORGE: 1, B.PARK: 1}),
    Scenario(
        "a hostile submitter beside failures and hand-backs",
        {B.DELIVER: 3, B.FORGE: 1, B.FAIL: 1, B.MANUAL: 1, B.HANDBACK: 1},
    ),
    Scenario(
        "stale reads beside a manual retry",
        {B.DELIVER: 3, B.FAIL: 1, B.MANUAL: 1, B.PROGRESS: 1},
        tail=3,
    ),
    Scenario(
        "a hostile submitter beside a log that expires",
        {B.DELIVER: 2, B.FORGE: 1, B.EXPIRE: 1, B.PARK: 1, B.DUPLICATE: 1},
    ),
    Scenario(
        "withdrawn beside a duplicate and a worker",
        {B.DELIVER: 2, B.WITHDRAW: 1, B.DUPLICATE: 1},
    ),
    Scenario(
        "withdrawn while parked, handed back, retried by hand",
        {B.DELIVER: 2, B.WITHDRAW: 1, B.PARK: 1, B.HANDBACK: 1, B.MANUAL: 1},
    ),
    Scenario(
        "a schedule fires twice while it is withdrawn",
        {B.DELIVER: 2, B.WITHDRAW: 1, B.PARK: 1, B.TWICE: 1},
    ),
    Scenario("the sweep beside two workers", {B.DELIVER: 3, B.SWEEP: 1, B.PARK: 1}),
]

DEEP: Final = [
    Scenario(
        "two withdraw beside a duplicate and a worker",
        {B.DELIVER: 3, B.WITHDRAW: 2, B.DUPLICATE: 1, B.PROGRESS: 1},
    ),
    Scenario(
        "another request, a duplicate and a corrected retry",
        {B.DELIVER: 4, B.REUSE: 1, B.DUPLICATE: 1, B.FAIL: 1, B.CORRECT: 1},
    ),
    Scenario("parked twice", {B.DELIVER: 4, B.PARK: 2}),
    Scenario(
        "parked, failed, fires twice, retried by hand, cancelled",
        {B.DELIVER: 3, B.PARK: 1, B.FAIL: 1, B.TWICE: 1, B.MANUAL: 1, B.CANCEL: 1},
    ),
    Scenario(
        "everything stale",
        {B.DELIVER: 3, B.PARK: 1, B.FAIL: 1, B.CANCEL: 1, B.DUPLICATE: 1, B.MANUAL: 1},
        tail=4,
    ),
    Scenario(
        "unanswered writes of three deliveries",
        {B.DELIVER: 3, B.UNANSWERED: 2, B.PARK: 1, B.DUPLICATE: 1},
    ),
    Scenario(
        "unanswered writes, a cancel, a manual retry",
        {B.DELIVER: 3, B.UNANSWERED: 1, B.FAIL: 1, B.MANUAL: 1, B.CANCEL: 1, B.HANDBACK: 1},
    ),
    Scenario(
        "the log expires",
        {B.DELIVER: 4, B.EXPIRE: 1, B.FAIL: 1, B.MANUAL: 1, B.PARK: 1, B.TWICE: 1},
    ),
    Scenario("more than 100 deliveries, twice", {B.DELIVER: 2, B.MANY: 2, B.PARK: 1, B.FAIL: 1}),
    Scenario(
        "owners are lost, then a manual retry",
        {B.DELIVER: 4, B.PROGRESS: 1, B.MANUAL: 1, B.FAIL: 1},
        max_attempts=2,
    ),
    Scenario(
        "two sweeps, a lost message, a parked task",
        {B.DELIVER: 3, B.SWEEP: 2, B.LOSE: 1, B.PARK: 1},
    ),
]
