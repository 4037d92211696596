"""What a worker does with a delivered task message: the protocol's table, read top down.

`decide` sees the message's own facts and the last record of the log, and names one act. It is
called for every delivery that is not the plain first one, and again after every refusal.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from agentflow.protocol import batches, limits
from agentflow.protocol.asked import Asked
from agentflow.protocol.record import Last, Record, State
from agentflow.rules.reuse import asks_otherwise

LOOKS: Final = 3
"""Deliveries of a message that names a record above the log's end, before it is dropped."""
AGAIN_AFTER: Final = 5.0
"""Seconds; a leader that lost its cluster knows it by then."""
_ENDED: Final = (State.SUCCEEDED, State.CANCELLED)


class Act(StrEnum):
    """What to do with the delivery."""

    CLAIM = "claim"  # write running (or fail, or park) expecting the last sequence
    EXPIRE = "expire"  # fail it: its log is gone or it waited too long
    DISOWN = "disown"  # another request has this id: fail it under the one derived from its place
    REJECT = "reject"  # fail it unparsed: it kills whoever parses it
    LOST = "lost"  # fail it: its worker was lost once too often
    ACK = "ack"  # the log has moved past this message
    REPUBLISH_DEAD = "republish dead"  # then ack
    REPUBLISH_SCHEDULE = "republish schedule"  # then ack
    REPUBLISH_ENTRY = "republish entry"  # of what waits for a batch; then ack
    WAKE = "wake"  # it waits for a batch: end it where its deadline has passed
    ASK = "ask"  # ask the owner, take over when it is silent
    AGAIN = "again"  # what was read may be old: come back in some seconds
    UPGRADE = "upgrade"  # not for this version: come back later


class Delivery(msgspec.Struct, frozen=True):
    """Facts of one delivered message; `age` in seconds since it was stored.

    `deadly`: it was delivered too often, and the process that parsed it on trial died. How often
    alone decides nothing, as hand-backs, outages and naks for an upgrade are deliveries too.
    `asked` is what the message asks, None where that is not to be compared; `stored` when it was.
    `sourced`: it came out of AGENTFLOW_SCHEDULE, as the server says; a client may have stored any
    other, whatever it says that it follows.
    """

    message: str
    follows: int = 0
    delivered: int = 1
    age: float = 0.0
    understood: bool = True
    deadly: bool = False
    sourced: bool = False
    asked: Asked | None = None
    stored: datetime | None = None


def is_fresh(delivery: Delivery) -> bool:
    """Whether the message may claim with expected 0 before anything is read."""
    return (
        delivery.understood
        and delivery.delivered == 1
        and delivery.follows == 0
        and delivery.age < limits.HORIZON
    )


def decide(delivery: Delivery, last: Last) -> Act:
    """The act for a delivery whose log ends with `last`."""
    record = last.record
    if not delivery.understood or (record is not None and not record.readable):
        return Act.UPGRADE
    if record is None and delivery.age > limits.HORIZON:
        return Act.EXPIRE
    if record is not None and record.state == State.WAITING:
        return _waiting(delivery, last, record)
    if record is None or continues(delivery.follows, last, sourced=delivery.sourced):
        return _start(delivery)
    if record.message != delivery.message:
        return _of_another(delivery, last, record)
    match record.state:
        case State.FAILED:
            return Act.REPUBLISH_DEAD
        case State.SCHEDULED | State.RETRYING:
            return Act.REPUBLISH_SCHEDULE
        case State.QUEUED:
            return _start(delivery)
        case State.RUNNING:
            return Act.ASK
        case _:
            return Act.ACK


def continues(follows: int, last: Last, *, sourced: bool) -> bool:
    """Whether a message that names `follows` brings on the log that ends with `last`.

    Only a worker can have something scheduled, after the record that it names: a log that ends
    before that was read from an old leader, and the fence will tell. What any client may store
    continues what has failed, by hand, and nothing else.
    """
    if not follows or last.record is None or last.state in _ENDED:
        return False
    if sourced:
        return follows >= last.sequence
    return last.state == State.FAILED and follows == last.sequence


def _may_be_old(delivery: Delivery, last: Last) -> bool:
    """Whether a retry by hand may name a failure that the answer does not show yet.

    A hostile client can name what is still to come; that is looked at three times.
    """
    ahead = delivery.follows > last.sequence and last.state not in _ENDED
    return ahead and delivery.delivered < LOOKS


def _waiting(delivery: Delivery, last: Last, record: Record) -> Act:
    """Nothing may claim what waits for a batch: it leaves the batch by a record of its own."""
    if record.reason != batches.REASON:
        return Act.UPGRADE
    if continues(delivery.follows, last, sourced=delivery.sourced):
        return Act.WAKE
    if record.message == delivery.message:
        return Act.REPUBLISH_ENTRY
    return _of_another(delivery, last, record)


def _of_another(delivery: Delivery, last: Last, record: Record) -> Act:
    """The act where the log's last record names another message."""
    if _may_be_old(delivery, last):
        return Act.AGAIN
    return Act.DISOWN if _asks_otherwise(delivery, record) else Act.ACK


def _asks_otherwise(delivery: Delivery, record: Record) -> bool:
    """Whether a message that the log does not name is of another request than the log is.

    Not where nobody can tell, or where it may belong to the log: a continuation does, and so does
    the message that began it, which a corrected retry may have followed.
    """
    return (
        delivery.asked is not None
        and asks_otherwise(record, delivery.asked)
        and delivery.follows == 0
        and (delivery.stored is None or delivery.stored != record.timings.submitted)
    )


def is_done_with(delivery: Delivery, last: Last) -> bool:
    """Whether a worker is done with a message once it has acknowledged it.

    One that names this message and has failed comes with a dead letter, which is there before the
    acknowledgement is.
    """
    return decide(delivery, last) in (Act.ACK, Act.REPUBLISH_DEAD)


def _start(delivery: Delivery) -> Act:
    return Act.REJECT if delivery.deadly else Act.CLAIM


def after_silence(delivery: Delivery, last: Last, max_attempts: int) -> Act:
    """The act when the owner of a running task did not say that it holds the message.

    A lost worker counts as a failure: a task that kills its worker must come to an end.
    """
    if delivery.deadly:
        return Act.REJECT
    failures = last.record.failures if last.record else 0
    return Act.LOST if failures + 1 >= max_attempts else Act.CLAIM
