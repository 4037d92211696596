"""A feed that is lifelike and the same every time: items of a fleet that never was.

Seeded, with a clock of its own, it knows neither bus nor terminal. Tests look at what it tells, and
`python -m bench tui` loads the dashboard with it: `rate` counts changed rows a second.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from agentflow.protocol.api import GateView
from agentflow.protocol.control import Heartbeat, RunningTask
from agentflow.protocol.record import State, Usage
from agentflow.views import feed
from agentflow.views.row import FINISHED, Row, encode_labels

BEGIN: Final = datetime(2026, 11, 27, 20, 51, 7, tzinfo=UTC).timestamp()
KINDS: Final = ("review", "refactor", "docs", "test")
QUEUES: Final = ("default", "review", "nightly", "batch")
MODELS: Final = ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")
TEAMS: Final = ("core", "web", "research")
NOTES: Final = (
    "reading src/api/auth.py",
    "the lock is taken twice",
    "writing tests",
    "summing up",
    "waiting for the limit",
)
ERRORS: Final = (
    ("APITimeoutError: no answer within 600 s", "timeout", "f1"),
    ("BadRequestError: prompt is too long: 212400 tokens > 200000", "bad_request", "f2"),
    ("PermissionDenied: src/secrets", "error", "f3"),
)


class Lifelike:
    """The feed. `begin` tells what is there at first, `pass_time` what happens then."""

    def __init__(self, *, seed: int = 1, tasks: int = 200, workers: int = 12) -> None:
        self.random = random.Random(seed)
        self.at = BEGIN
        self.tasks = tasks
        self.workers = [f"w-{number:03}" for number in range(workers)]
        self.rows: dict[str, Row] = {}
        self._sequence = 0
        self._made = 0
        self._live: list[str] = []
        """Tasks that have not ended."""
        self._owed = 0.0
        self._beats_due = 0.0

    # What is there at first.

    def begin(self, rows_at_once: int = 500) -> Iterator[feed.Item]:
        """Connection, heartbeats, queues and the tasks so far, a page at a time."""
        yield feed.Link(at=self.at, up=True, url="nats://127.0.0.1:4222", server="2.15.1")
        yield feed.Gates(at=self.at, gates=[])
        page: list[Row] = []
        for number in range(self.tasks):
            # The past of an hour: most have ended, the newest run or wait.
            begun = self.at - 3600 * (1 - number / max(1, self.tasks))
            page.append(self._past(begun))
            if len(page) >= rows_at_once:
                yield feed.Rows(at=self.at, rows=page)
                yield feed.Loading(at=self.at, done=number + 1, total=self.tasks)
                page = []
        yield feed.Rows(at=self.at, rows=page)
        yield feed.Loading(at=self.at, done=self.tasks, total=self.tasks)
        yield from self.beats()
        yield self.depths()

    def _past(self, submitted: float) -> Row:
        row = self._new(submitted)
        chance = self.random.random()
        if self.at - submitted < 300 and chance < 0.7:
            row = self._next(row, submitted + 2) if chance < 0.4 else row
        else:
            row = self._next(row, submitted + 1 + 5 * chance)
            ended = submitted + 10 + 200 * self.random.random()
            row = self._end(row, min(self.at, ended))
        return self._keep(row)

    # What happens.

    def pass_time(self, seconds: float, rate: float, *, at_once: int = 50) -> Iterator[feed.Item]:
        """What becomes known in that time, `rate` changed rows a second."""
        self.at += seconds
        self._owed += rate * seconds
        page: list[Row] = []
        while self._owed >= 1:
            self._owed -= 1
            page.append(self._keep(self._change()))
            if len(page) >= at_once:
                yield feed.Rows(at=self.at, rows=page, live=True)
                page = []
        if page:
            yield feed.Rows(at=self.at, rows=page, live=True)
        if self.at >= self._beats_due:
            self._beats_due = self.at + 2
            yield from self.beats()
            yield self.depths()

    def touch(self, task_id: str, **changes: object) -> feed.Rows:
        """One task, changed so."""
        self._sequence += 1
        row = msgspec.structs.replace(
            self.rows[task_id], sequence=self._sequence, updated=round(self.at * 1000), **changes
        )
        return feed.Rows(at=self.at, rows=[self._keep(row)], live=True)

    def lose(self, why: str = "connection refused") -> feed.Link:
        """The connection is lost."""
        return feed.Link(at=self.at, up=False, url="nats://127.0.0.1:4222", detail=why)

    def found(self) -> feed.Link:
        """It is back."""
        return feed.Link(at=self.at, up=True, url="nats://127.0.0.1:4222", server="2.15.1")

    def pause(self, queue: str) -> feed.Gates:
        """A queue is paused."""
        gate = GateView(
            key=f"paused.{queue}",
            what="queue",
            name=queue,
            since=self.now(),
            reason="by hand",
            actor="ana",
        )
        return feed.Gates(at=self.at, gates=[gate])

    def now(self) -> datetime:
        """The feed's time."""
        return datetime.fromtimestamp(self.at, UTC)

    def beats(self) -> Iterator[feed.Beat]:
        """A heartbeat of each."""
        yield feed.Beat(at=self.at, beat=self._beat("master", "m-1"))
        running: dict[str, list[Row]] = {}
        for task_id in self._live:
            row = self.rows[task_id]
            if row.state == State.RUNNING:
                running.setdefault(row.actor, []).append(row)
        for name in self.workers:
            yield feed.Beat(at=self.at, beat=self._beat("worker", name, running.get(_actor(name))))

    def _beat(self, role: str, name: str, running: list[Row] | None = None) -> Heartbeat:
        rows = (running or [])[:200]
        return Heartbeat(
            role=role,
            actor=_actor(name),
            name=name,
            host="example",
            pid=1000,
            version="0.1.0",
            started=datetime.fromtimestamp(BEGIN - 7200, UTC),
            time=self.now(),
            interval_s=2.0,
            queues=list(QUEUES) if role == "worker" else [],
            kinds=list(KINDS) if role == "worker" else [],
            slots=8 if role == "worker" else 0,
            running=len(running or []),
            rss_bytes=90_000_000,
            loop_lag_ms=1.5,
            lease_s=30.0,
            simulated=False,
            tasks=[
                RunningTask(
                    id=row.id,
                    kind=row.kind,
                    queue=row.queue,
                    attempt=row.attempt,
                    since=datetime.fromtimestamp((row.started or 0) / 1000, UTC),
                    output_tokens=row.usage.output_tokens,
                )
                for row in rows
            ],
        )

    def depths(self) -> feed.Depths:
        """The queues as they are."""
        waiting: dict[str, dict[str, int]] = {queue: {} for queue in QUEUES}
        for task_id in self._live:
            row = self.rows[task_id]
            if row.state == State.QUEUED:
                found = waiting[row.queue]
                found[row.priority] = found.get(row.priority, 0) + 1
        queues = [
            feed.QueueDepth(
                queue=queue,
                messages=sum(counts.values()),
                waiting=counts,
                oldest=self.at - 4 if counts else None,
                pulls=4,
            )
            for queue, counts in waiting.items()
        ]
        return feed.Depths(at=self.at, queues=queues, first=1, dead=7)

    # One task.

    def _change(self) -> Row:
        if len(self._live) < max(20, self.tasks // 20) or self.random.random() < 0.1:
            return self._new(self.at)
        place = self.random.randrange(len(self._live))
        row = self.rows[self._live[place]]
        if row.state != State.RUNNING:
            return self._next(row, self.at)
        if self.random.random() < 0.25:
            return self._end(row, self.at)
        return self._progress(row)

    def _new(self, at: float) -> Row:
        self._made += 1
        self._sequence += 1
        chance = self.random
        return Row(
            id=f"t-{self._made:06x}",
            sequence=self._sequence,
            state=State.QUEUED,
            queue=chance.choice(QUEUES),
            updated=round(at * 1000),
            submitted=round(at * 1000),
            priority=chance.choices(("normal", "high", "low"), (8, 1, 1))[0],
            kind=chance.choice(KINDS),
            model=chance.choice(MODELS),
            labels=encode_labels({"team": chance.choice(TEAMS)}),
        )

    def _next(self, row: Row, at: float) -> Row:
        return self._with(
            row,
            at,
            state=State.RUNNING,
            attempt=row.attempt + 1,
            actor=_actor(self.random.choice(self.workers)),
            started=round(at * 1000),
            resume_at=None,
            progress=0.0,
            error=None,
            fingerprint="",
        )

    def _progress(self, row: Row) -> Row:
        usage = Usage(
            row.usage.input_tokens + 40, row.usage.output_tokens + self.random.randrange(20, 90)
        )
        return self._with(
            row,
            self.at,
            progress=min(0.99, (row.progress or 0.0) + 0.07),
            note=self.random.choice(NOTES),
            usage=usage,
            cost=usage.output_tokens * 15 + usage.input_tokens * 3,
        )

    def _end(self, row: Row, at: float) -> Row:
        chance = self.random.random()
        usage = Usage(900 + row.usage.input_tokens, 400 + row.usage.output_tokens)
        ended = {
            "usage": usage,
            "cost": usage.output_tokens * 15 + usage.input_tokens * 3,
            "ended": round(at * 1000),
        }
        if chance < 0.92:
            return self._with(
                row, at, state=State.SUCCEEDED, progress=None, stop_reason="end_turn", **ended
            )
        error, reason, group = self.random.choice(ERRORS)
        failed = {"error": error, "reason": reason, "fingerprint": group, **ended}
        failed["failures"] = row.failures + 1
        if chance < 0.97:
            return self._with(
                row, at, state=State.RETRYING, resume_at=round(at * 1000) + 8000, **failed
            )
        return self._with(row, at, state=State.FAILED, **failed)

    def _with(self, row: Row, at: float, **changes: object) -> Row:
        self._sequence += 1
        return msgspec.structs.replace(
            row, sequence=self._sequence, updated=round(at * 1000), **changes
        )

    def _keep(self, row: Row) -> Row:
        known = self.rows.get(row.id)
        self.rows[row.id] = row
        if known is None and row.state not in FINISHED:
            self._live.append(row.id)
        elif known is not None and row.state in FINISHED and known.state not in FINISHED:
            self._live.remove(row.id)
        return row


def _actor(name: str) -> str:
    return f"{name}-a1b2c3"
