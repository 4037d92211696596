"""Whether an id is that of another request. Pure.

A log without what was asked (of an older version, or cancelled before a worker saw the task) cannot
tell, so it is nobody else's.
"""

from __future__ import annotations

from agentflow.errors import IdReused
from agentflow.protocol.asked import Asked, differences
from agentflow.protocol.record import Record


def asks_otherwise(record: Record | None, ask: Asked) -> bool:
    """Whether the log that ends with `record` is of another request."""
    return record is not None and record.asked is not None and record.asked != ask


def check(task_id: str, ask: Asked, record: Record | None, *, where: str = "") -> None:
    """Raise IdReused where the log of the id holds another request; `where` begins its text."""
    if record is not None and record.asked is not None and asks_otherwise(record, ask):
        raise IdReused(task_id, differences(record.asked, ask), where=where)
