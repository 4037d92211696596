"""The real rules over the model's tuples; remembered, since few facts differ in a search."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache, lru_cache

from agentflow.protocol import limits, record
from agentflow.protocol.asked import Asked
from agentflow.rules import claim, lifecycle, withdrawal
from agentflow.rules.claim import Act
from tests.support.model.world import Entry


def _instant(message: int) -> datetime:
    return datetime.fromtimestamp(message, UTC)


def _request(number: int) -> Asked:
    return {"kind": "echo", "prompt": str(number)}


@cache
def last(entry: Entry) -> record.Last:
    """The real struct for an entry of the model."""
    if not entry.seq:
        return record.EMPTY
    return record.Last(
        entry.seq,
        record.Record(
            v=record.VERSION, id="t", state=entry.state, attempt=1, failures=entry.failures,
            actor=str(entry.actor), follows=entry.follows, message=str(entry.message),
            time=datetime.fromtimestamp(0, UTC), queue="q", priority="normal", kind="echo",
            labels={}, usage=record.Usage(), cost_usd=None,
            timings=record.Timings(submitted=_instant(entry.first)),
            asked=None if entry.asked is None else _request(entry.asked),
        ),
    )  # fmt: skip


@cache
def delivery(
    message: int, follows: int, delivered: int, old: bool, asked: int = 0, sourced: bool = False
) -> claim.Delivery:
    """The real struct for a delivery of the model; one too many is deadly there, as it may be."""
    age = limits.HORIZON + 1.0 if old else 1.0
    deadly = delivered > limits.MAX_DELIVERIES
    return claim.Delivery(
        str(message), follows, delivered, age, deadly=deadly,
        sourced=sourced, asked=_request(asked), stored=_instant(message),
    )  # fmt: skip


@cache
def decide(
    message: int,
    follows: int,
    delivered: int,
    old: bool,
    entry: Entry,
    asked: int = 0,
    sourced: bool = False,
) -> Act:
    """The real decision."""
    return claim.decide(delivery(message, follows, delivered, old, asked, sourced), last(entry))


@cache
def is_fresh(message: int, follows: int, delivered: int, old: bool) -> bool:
    return claim.is_fresh(delivery(message, follows, delivered, old))


@cache
def after_silence(message: int, delivered: int, entry: Entry, max_attempts: int) -> Act:
    return claim.after_silence(delivery(message, 0, delivered, False), last(entry), max_attempts)


@cache
def withdraw(message: int, follows: int, entry: Entry) -> withdrawal.Step:
    """The real decision; a schedule has the message 0."""
    return withdrawal.step(str(message), follows, last(entry))


may_follow = lru_cache(maxsize=None)(lifecycle.may_follow)
