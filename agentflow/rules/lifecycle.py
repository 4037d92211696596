"""Which state may follow which: one table, one reader.

None stands for an empty log. `succeeded` and `cancelled` are followed by nothing; `failed` only
by what a manual retry brings (its continuation may start, be parked, or fail again at once).
"""

from __future__ import annotations

from typing import Final

from agentflow.protocol.record import State

S = State

FOLLOWERS: Final[dict[str | None, frozenset[str]]] = {
    None: frozenset({S.RUNNING, S.SCHEDULED, S.RETRYING, S.WAITING, S.FAILED, S.CANCELLED}),
    S.RUNNING: frozenset(
        {S.RUNNING, S.QUEUED, S.SCHEDULED, S.RETRYING, S.SUCCEEDED, S.FAILED, S.CANCELLED}
    ),
    S.QUEUED: frozenset({S.RUNNING, S.SCHEDULED, S.RETRYING, S.WAITING, S.FAILED, S.CANCELLED}),
    S.SCHEDULED: frozenset({S.RUNNING, S.SCHEDULED, S.RETRYING, S.WAITING, S.FAILED, S.CANCELLED}),
    S.RETRYING: frozenset({S.RUNNING, S.SCHEDULED, S.RETRYING, S.WAITING, S.FAILED, S.CANCELLED}),
    S.WAITING: frozenset({S.WAITING, S.RETRYING, S.SUCCEEDED, S.FAILED, S.CANCELLED}),
    S.FAILED: frozenset({S.RUNNING, S.SCHEDULED, S.RETRYING, S.WAITING, S.FAILED}),
    S.SUCCEEDED: frozenset(),
    S.CANCELLED: frozenset(),
}


def may_follow(last: str | None, next_state: str) -> bool:
    """Whether a record of `next_state` may follow one of `last`.

    A state this version does not know may be followed only by `cancelled`.
    """
    if last is not None and last not in FOLLOWERS:
        return next_state == S.CANCELLED
    return next_state in FOLLOWERS[last]
