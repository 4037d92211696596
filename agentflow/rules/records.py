"""How one record follows another: what is copied, what is counted, what is summed.

Each function takes the log's last entry and gives the record to append; writing it is log/task.py's
business. Money is added in integer micro-USD, because floats of cents do not add up.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from agentflow.protocol import limits
from agentflow.protocol.asked import Asked
from agentflow.protocol.batches import REASON
from agentflow.protocol.record import (
    NOTHING_SAVED,
    PARKED,
    VERSION,
    Failure,
    Last,
    Record,
    Repair,
    State,
    Timings,
    Usage,
)

PARTIAL_BYTES: Final = limits.MIB
"""Of the text, and of the content, of a broken answer that a record keeps."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a record copies from its task message."""

    id: str
    queue: str
    priority: str
    message: str
    submitted: datetime
    kind: str = "unknown"
    labels: dict[str, str] = {}
    model: str | None = None
    title: str = ""
    asked: Asked | None = None
    lane: str = ""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt used: tokens, micro-USD (None: price unknown), seconds.

    `saved_micro` is what the same would have cost more by a live request.

    `usage_told` is the usage as it came, `unpriced` why there is no cost, `estimated` that tokens
    are counted by what came, `assumed` what the answer left out. `repair` is a part of usage and
    cost.
    """

    usage: Usage = Usage()
    cost_micro: int | None = 0
    saved_micro: int = 0
    run_s: float = 0.0
    first_token_s: float | None = None
    request_id: str | None = None
    model: str | None = None
    simulated: bool = False
    usage_told: dict[str, Any] | None = None
    unpriced: str | None = None
    estimated: bool = False
    assumed: list[str] | None = None
    repair: Repair | None = None


NOTHING_SPENT = Spent()


def origin_of(record: Record) -> Origin:
    """The origin as the log itself remembers it, for writers who have no message."""
    return Origin(
        id=record.id,
        queue=record.queue,
        priority=record.priority,
        message=record.message,
        submitted=record.timings.submitted or record.time,
        kind=record.kind,
        labels=record.labels,
        model=record.model,
        title=record.title or "",
        asked=record.asked,
        lane=record.lane,
    )


def micro(dollars: float) -> int:
    """Dollars as integer micro-USD."""
    return round(dollars * 1_000_000)


def add_cost(so_far: float | None, more: int | None) -> float | None:
    """Dollars after adding micro-USD; unknown once any part is unknown."""
    if so_far is None or more is None:
        return None
    return (micro(so_far) + more) / 1_000_000


def add_repair(so_far: Repair | None, more: Repair | None) -> Repair | None:
    """Two parts of a sum, None where there is nothing."""
    if so_far is None or more is None:
        return so_far or more
    known = more.cost_usd is not None
    return Repair(
        so_far.turns + more.turns,
        so_far.usage + more.usage,
        add_cost(so_far.cost_usd, micro(more.cost_usd or 0.0) if known else None),
    )


def follow(
    origin: Origin,
    last: Last,
    state: State,
    *,
    actor: str,
    now: datetime,
    spent: Spent = NOTHING_SPENT,
    attempt: int | None = None,
    failures: int | None = None,
    started: datetime | None = None,
    ended: datetime | None = None,
    due: datetime | None = None,
    **content: Any,
) -> Record:
    """The record of `state` that follows `last`, with sums brought forward."""
    before = last.record
    old = before.timings if before else Timings(submitted=origin.submitted)
    timings = Timings(
        submitted=old.submitted or origin.submitted,
        started=started or old.started,
        ended=ended,
        run_s=round(old.run_s + spent.run_s, 6),
        first_token_s=spent.first_token_s,
        due=due if started is not None else old.due,
    )
    return Record(
        v=VERSION,
        id=origin.id,
        state=state,
        attempt=attempt if attempt is not None else (before.attempt if before else 0),
        failures=failures if failures is not None else (before.failures if before else 0),
        actor=actor,
        follows=last.sequence,
        message=origin.message,
        time=now,
        queue=origin.queue,
        priority=origin.priority,
        kind=origin.kind,
        labels=origin.labels,
        usage=before.usage + spent.usage if before else spent.usage,
        cost_usd=add_cost(before.cost_usd if before else 0.0, spent.cost_micro),
        saved_usd=(micro(before.saved_usd if before else 0.0) + spent.saved_micro) / 1_000_000
        or NOTHING_SAVED,
        timings=timings,
        model=spent.model or origin.model or (before.model if before else None),
        title=origin.title or (before.title if before else None) or None,
        request_id=spent.request_id,
        simulated=spent.simulated or (before.simulated if before else False),
        usage_told=spent.usage_told,
        # Sums, like cost and usage: once a part is unknown or guessed, the sum is.
        unpriced=spent.unpriced or (before.unpriced if before else None),
        estimated=spent.estimated or (before.estimated if before else False),
        assumed=spent.assumed,
        # Of a corrected retry it is what is answered from here on.
        asked=origin.asked or (before.asked if before else None) or None,
        repair=add_repair(before.repair if before else None, spent.repair),
        lane=origin.lane,
        traceparent=before.traceparent if before else None,
        carry=before.carry if before else msgspec.UNSET,
        **content,
    )


def claimed(origin: Origin, last: Last, *, actor: str, now: datetime) -> Record:
    """The record that starts an attempt.

    Taking over from a lost worker counts as a failure; a manual retry starts counting anew.
    """
    before = last.record
    failures = before.failures if before else 0
    if before is not None and before.state == State.RUNNING:
        failures += 1
    elif before is not None and before.state == State.FAILED:
        failures = 0
    return follow(
        origin,
        last,
        State.RUNNING,
        actor=actor,
        now=now,
        attempt=(before.attempt if before else 0) + 1,
        failures=failures,
        started=now,
        due=before.resume_at if before is not None and before.state in PARKED else None,
    )


def handed_back(origin: Origin, last: Last, *, actor: str, now: datetime, spent: Spent) -> Record:
    """The record that gives a running task back to the queue; its attempt does not count."""
    attempt = max(0, (last.record.attempt if last.record else 1) - 1)
    return follow(
        origin,
        last,
        State.QUEUED,
        actor=actor,
        now=now,
        spent=spent,
        attempt=attempt,
        reason="handed_back",
    )


def failed(
    origin: Origin,
    last: Last,
    *,
    actor: str,
    now: datetime,
    reason: str,
    error: Failure,
    spent: Spent = NOTHING_SPENT,
    failures: int | None = None,
) -> Record:
    """The record that ends a task without success."""
    return follow(
        origin,
        last,
        State.FAILED,
        actor=actor,
        now=now,
        spent=spent,
        failures=failures,
        ended=now,
        reason=reason,
        error=error,
    )


def parked(
    origin: Origin,
    last: Last,
    state: State,
    *,
    actor: str,
    now: datetime,
    resume_at: datetime,
    reason: str,
    error: Failure | None = None,
    spent: Spent = NOTHING_SPENT,
    failures: int | None = None,
) -> Record:
    """The record of a task that waits until `resume_at`; a continuation will claim it."""
    if last.state == State.FAILED and failures is None:
        failures = 0  # what parks a manual retry's continuation starts its count anew
    return follow(
        origin,
        last,
        state,
        actor=actor,
        now=now,
        spent=spent,
        failures=failures,
        resume_at=resume_at,
        reason=reason,
        error=error,
    )


def into_batch(origin: Origin, last: Last, *, actor: str, now: datetime, pool: str) -> Record:
    """The record of a task that waits for a batch of a pool."""
    return follow(
        origin,
        last,
        State.WAITING,
        actor=actor,
        now=now,
        failures=0 if last.state == State.FAILED else None,
        reason=REASON,
        pool=pool,
    )


def cancelled(
    origin: Origin,
    last: Last,
    *,
    actor: str,
    now: datetime,
    reason: str,
    spent: Spent = NOTHING_SPENT,
    by: str | None = None,
) -> Record:
    """The record that ends a task because somebody (`by`) asked for it."""
    return follow(
        origin,
        last,
        State.CANCELLED,
        actor=actor,
        now=now,
        spent=spent,
        ended=now,
        reason=reason,
        by=by,
    )


def dropped(last: Last, *, actor: str, now: datetime, by: str) -> Record:
    """The record of a failed task whose dead letter somebody drops: it says all it said."""
    assert last.record is not None
    return msgspec.structs.replace(
        last.record, actor=actor, follows=last.sequence, time=now, by=by, dropped=True
    )


def with_partial(
    record: Record, text: str | None, content: Any, stop_reason: str | None = None
) -> Record:
    """The record with what came of an answer that broke off, marked `partial`.

    With a reason to stop it did not break off: it is whole, and no success for another reason.

    What is too long is cut (`truncated`) or left out: the record itself must always be stored.
    """
    if text is None and content is None:
        return record
    if content is not None and len(msgspec.json.encode(content)) > PARTIAL_BYTES:
        content = None
    whole = msgspec.structs.replace(
        record,
        text=text,
        content=content,
        partial=stop_reason is None,
        stop_reason=stop_reason,
    )
    size = len(msgspec.json.encode(text))
    return fit(whole, PARTIAL_BYTES, size) or msgspec.structs.replace(whole, text=None)


def fit(record: Record, room: int, encoded: int) -> Record | None:
    """The record cut to `room` bytes where its text can be cut, else None.

    `encoded` is the record's size as it is. A cut text is marked `truncated`. Blocks that are too
    long beside it are left out, and marked so too: the text of an answer was paid for.
    """
    if encoded <= room:
        return record
    cut = _cut(record, room, encoded)
    if cut is None and record.content is not None and record.text:
        left = encoded - len(msgspec.json.encode(record.content))
        bare = msgspec.structs.replace(record, content=None, truncated=True)
        return bare if left <= room - _MARK else _cut(bare, room - _MARK, left)
    return cut


_MARK: Final = 32
"""Bytes that saying `truncated` takes."""


def _cut(record: Record, room: int, encoded: int) -> Record | None:
    text = record.text or ""
    # A character takes at most six bytes as JSON (\\uXXXX), so this many can always be cut.
    excess = encoded - room
    raw = msgspec.json.encode(text)
    keep = len(raw) - excess - 64
    if keep <= 0:
        return None
    part = raw[1:keep].decode("utf-8", "ignore")
    while part:
        try:
            shorter: str = msgspec.json.decode(f'"{part}"'.encode())
        except msgspec.DecodeError:
            part = part[:-1]  # an escape sequence was cut in two
        else:
            return msgspec.structs.replace(record, text=shorter, truncated=True)
    return None
