"""Who is told of each attempt: the log, and whoever else wants to count (metrics.py)."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Protocol

from agentflow.protocol.record import Record, State
from agentflow.rules.records import Spent

_log = logging.getLogger("agentflow.worker.tasks")


class Observer(Protocol):
    """Told in the event loop, at every task: it must be quick."""

    def claimed(self, record: Record, not_before: datetime | None) -> None:
        """An attempt begins; `record` is its claim."""

    def ended(self, record: Record, spent: Spent | None) -> None:
        """An attempt ended with `record`; without `spent` nothing was run."""


class Observers:
    """Tells the log and one more. Whatever goes wrong here, the task's message must be answered."""

    def __init__(self) -> None:
        self.counting: Observer | None = None

    def claimed(self, record: Record, not_before: datetime | None = None) -> None:
        """An attempt begins."""
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "task %s: attempt %d begins",
                record.id,
                record.attempt,
                extra=_facts(record, "claim"),
            )
        if self.counting is not None:
            try:
                self.counting.claimed(record, not_before)
            except Exception:
                _log.exception("task %s could not be counted", record.id)

    def ended(self, record: Record, spent: Spent | None = None) -> None:
        """An attempt ended."""
        # Of ten tasks a second a person wants to see those that are given up.
        level = logging.INFO if record.state == State.FAILED else logging.DEBUG
        if _log.isEnabledFor(level):
            _tell(level, record, spent)
        if self.counting is not None:
            try:
                self.counting.ended(record, spent)
            except Exception:
                _log.exception("task %s could not be counted", record.id)


def _tell(level: int, record: Record, spent: Spent | None) -> None:
    facts = _facts(record, "end")
    if record.reason:
        facts["reason"] = record.reason
    if spent is not None:
        facts["seconds"] = spent.run_s
        if spent.usage.total:
            facts["tokens"] = spent.usage.total
            facts["model"] = spent.model
        if spent.cost_micro:
            facts["cost_usd"] = spent.cost_micro / 1_000_000
    said = f": {record.error.message[:300]}" if record.error else ""
    _log.log(level, "task %s %s%s", record.id, record.state, said, extra=facts)


def _facts(record: Record, action: str) -> dict[str, object]:
    return {
        "action": action,
        "task_id": record.id,
        "attempt": record.attempt,
        "queue": record.queue,
        "kind": record.kind,
        "state": str(record.state),
    }
