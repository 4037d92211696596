"""A task at every stage, as the feed and the streams would tell it: for tests of its view."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.protocol import record as records
from agentflow.protocol.record import EMPTY, Failure, Last, Record, State, Usage
from agentflow.protocol.task import TaskBody
from agentflow.rules import records as entries
from agentflow.rules.records import Origin, Spent
from agentflow.views import feed
from agentflow.views import row as projection
from agentflow.views.row import Row

BEGAN = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
NOW = BEGAN.timestamp() + 100
ID = "t-1"
BODY = TaskBody(prompt="Why is the sky blue?", system="Be brief", labels={"team": "a"}, timeout=60)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


class World:
    """A dashboard with the task open, and the log that grows."""

    def __init__(self, task_id: str = ID) -> None:
        self.dash = Dashboard()
        self.log: list[tuple[int, Record]] = []
        self.origin = Origin(
            id=task_id,
            queue="reports",
            priority="normal",
            message="7-7",
            submitted=BEGAN,
            kind="claude",
            labels={"team": "a"},
        )
        self.dash.store.apply(feed.Link(at=NOW, up=True, url="nats://127.0.0.1:4222"))
        self.dash.do("open_task", task_id, NOW)

    @property
    def last(self) -> Last:
        return Last(*self.log[-1]) if self.log else EMPTY

    def store(self, record: Record) -> None:
        """The record is stored, and the feed tells of it."""
        sequence = 10 * (len(self.log) + 1)
        self.log.append((sequence, record))
        self.dash.store.apply(feed.Rows(at=record.time.timestamp(), rows=[self.row()], live=True))

    def row(self) -> Row:
        sequence, record = self.log[-1]
        return projection.from_record(
            record.subject,
            sequence,
            round(record.time.timestamp() * 1000),
            records.encode(record),
            detailed=True,
        )

    def run(self, seconds: float) -> None:
        self.store(entries.claimed(self.origin, self.last, actor="w-007-abc", now=at(seconds)))

    def succeed(self, seconds: float, text: str) -> None:
        spent = Spent(usage=Usage(1200, 340), cost_micro=4200, run_s=5, first_token_s=0.8)
        self._end(State.SUCCEEDED, seconds, spent, text=text, stop_reason="end_turn")

    def fail(self, seconds: float, reason: str, error: Failure, *, retry_at: float = 0) -> None:
        spent = Spent(usage=Usage(100, 20), cost_micro=1000, request_id="req_1")
        if retry_at:
            self._end(
                State.RETRYING, seconds, spent, reason=reason, error=error, resume_at=at(retry_at)
            )
        else:
            self._end(State.FAILED, seconds, spent, reason=reason, error=error)

    def _end(self, state: State, seconds: float, spent: Spent, **content: Any) -> None:
        self.store(
            entries.follow(
                self.origin,
                self.last,
                state,
                actor="w-007-abc",
                now=at(seconds),
                ended=at(seconds),
                spent=spent,
                **content,
            )
        )

    def answer(self, body: TaskBody | None = BODY) -> None:
        """What was asked for has come."""
        self.dash.answers.logs[self.origin.id] = list(self.log)
        self.dash.answers.prompts[self.origin.id] = body

    def generate(self, text: str, attempt: int = 1, offset: int = 0) -> None:
        self.dash.wanted(NOW)
        item = feed.Tokens(at=NOW, id=self.origin.id, text=text, attempt=attempt, offset=offset)
        self.dash.store.apply(item)

    def screen(self, width: int = 120, height: int = 36, now: float = NOW) -> list[str]:
        lines = self.dash.frame(width, height, now)
        return [line.text for line in lines]

    def shows(self, *texts: str, width: int = 120, height: int = 36) -> None:
        screen = "\n".join(self.screen(width, height))
        for text in texts:
            assert text in screen, f"{text!r} is not in\n{screen}"
