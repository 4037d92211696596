"""Who is told of each attempt: the log, and whoever else attaches (metrics, traces)."""

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
    """All who are told, the log first. Whatever goes wrong here, the message must be answered."""

    def __init__(self) -> None:
        self._observers: list[Observer] = [_LogObserver()]

    def add(self, observer: Observer) -> None:
        """Tell one more."""
        self._observers.append(observer)

    def claimed(self, record: Record, not_before: datetime | None = None) -> None:
        """An attempt begins."""
        for observer in self._observers:
            try:
                observer.claimed(record, not_before)
            except Exception:
                _log.exception("an observer failed over task %s", record.id)

    def ended(self, record: Record, spent: Spent | None = None) -> None:
        """An attempt ended."""
        for observer in self._observers:
            try:
                observer.ended(record, spent)
            except Exception:
                _log.exception("an observer failed over task %s", record.id)


class _LogObserver:
    """Tells the program's log."""

    def claimed(self, record: Record, not_before: datetime | None) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "task %s: attempt %d begins",
                record.id,
                record.attempt,
                extra=_facts(record, "claim"),
            )

    def ended(self, record: Record, spent: Spent | None) -> None:
        # Of ten tasks a second a person wants to see those that are given up.
        level = logging.INFO if record.state == State.FAILED else logging.DEBUG
        if not _log.isEnabledFor(level):
            return
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
        error = f": {record.error.message[:300]}" if record.error else ""
        _log.log(level, "task %s %s%s", record.id, record.state, error, extra=facts)


def _facts(record: Record, action: str) -> dict[str, object]:
    return {
        "action": action,
        "task_id": record.id,
        "attempt": record.attempt,
        "queue": record.queue,
        "kind": record.kind,
        "state": str(record.state),
    }
