"""One scene, the same every time and everywhere: what the golden frames are drawn from.

A fleet on two machines at 21:04:11 on a Friday: some of everything that a view can show. The clock
stands still, the zone is UTC, chance is a seeded sequence of numbers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from agentflow.dashboard.reader.scene import Letter, Receipt
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.protocol.api import GateView
from agentflow.protocol.batches import Progress
from agentflow.protocol.control import Heartbeat, RunningTask
from agentflow.protocol.record import Usage
from agentflow.views import feed
from agentflow.views.row import Row, encode_labels

T = TypeVar("T")

NOW: Final = datetime(2026, 11, 27, 21, 4, 11, tzinfo=UTC).timestamp()
SIZES: Final = ((120, 36), (80, 24), (60, 20))

KINDS: Final = ("claude", "claude", "review", "summarise", "embed")
MODELS: Final = ("claude-opus-4-5", "claude-sonnet-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")
TITLES: Final = (
    "auth-token-refresh",
    "billing-report",
    "changelog",
    "crash-triage",
    "docs-api",
    "flaky-tests",
    "glossary",
    "inbox-sort",
    "pr-3127",
    "pr-3131",
    "pr-3140",
    "release-notes",
    "schema-migration",
    "survey-answers",
    "translate-faq",
)
NOTES: Final = (
    "reading src/api/auth.py",
    "the refresh path takes the lock twice",
    "writing a test for the expired token",
    "summing up 14 findings",
    "comparing with the last release",
    "",
)
TEAMS: Final = ("core", "web", "research")
CAUSES: Final = (
    (
        "invalid_request",
        "invalid_request_error: prompt is too long: 212400 tokens > 200000 maximum",
        "3f9c21aa07",
        12,
        900.0,
    ),
    ("timeout", "TimeoutError: the attempt took longer than 600 s", "b41d0c7e15", 9, 10_300.0),
    (
        "handler_error",
        "PermissionError: [Errno 13] Permission denied: 'secrets.toml'",
        "77aa90ce02",
        6,
        32_500.0,
    ),
    ("bad_field", "InvalidTask: unknown field 'repo'", "0c5512ffe9", 4, 42_000.0),
)


class Chance:
    """Picks from a seeded sequence; only `random()` is the same in every Python."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def part(self) -> float:
        """From 0 to 1."""
        return self._random.random()

    def of(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[int(self.part() * len(choices))]

    def between(self, least: float, most: float) -> float:
        """A number in between."""
        return least + (most - least) * self.part()


class Scenery:
    """The items of the feed that make the scene."""

    def __init__(self, *, seed: int = 7, finished: int = 1_900) -> None:
        self.chance = Chance(seed)
        self.rows: list[Row] = []
        self.workers = [f"w-{number:02}" for number in range(1, 25)]
        self.beats: list[Heartbeat] = []
        self._names: dict[str, int] = {}
        self._finished(finished)
        self._failed()
        self._waiting()
        self._running()
        self._numbered()

    # Tasks.

    def name(self) -> str:
        """A task's id that none had before."""
        title = self.chance.of(TITLES)
        number = self._names[title] = self._names.get(title, 0) + 1
        return f"{title}-{number:03}"

    def row(self, state: str, ago: float, **more: Any) -> Row:
        """A task whose last record is so many seconds old."""
        updated = round((NOW - ago) * 1000)
        team = self.chance.of(TEAMS)
        fields: dict[str, Any] = {
            "id": self.name(),
            "sequence": 1,
            "state": state,
            "queue": "review" if self.chance.part() < 0.45 else "default",
            "updated": updated,
            "kind": self.chance.of(KINDS),
            "model": self.chance.of(MODELS),
            "labels": encode_labels({"team": team, "job": f"J{int(self.chance.part() * 9)}"}),
            "attempt": 1,
            "actor": self._actor(),
            "submitted": updated - 60_000,
        }
        made = Row(**{**fields, **more})
        self.rows.append(made)
        return made

    def _actor(self) -> str:
        return f"{self.chance.of(self.workers[:22])}-5c1e0a"

    def _usage(self) -> Usage:
        read = int(self.chance.between(0, 30_000))
        return Usage(
            input_tokens=int(self.chance.between(300, 9_000)),
            output_tokens=int(self.chance.between(80, 2_400)),
            cache_creation_input_tokens=read // 9,
            cache_read_input_tokens=read,
        )

    def _cost(self, usage: Usage) -> int:
        return usage.input_tokens * 3 + usage.output_tokens * 15 + usage.cache_read_input_tokens

    def _finished(self, number: int) -> None:
        for at in range(number):
            # Most within the last hour, denser towards now, in waves.
            ago = 70 * 60 * (1 - at / number) ** 1.3 + 2
            ago += 40 * (0.5 + 0.5 * ((at // 150) % 2)) * self.chance.part()
            usage = self._usage()
            run = self.chance.between(2, 60) * self.chance.between(0.3, 4)
            ended = round((NOW - ago) * 1000)
            state = "cancelled" if self.chance.part() < 0.01 else "succeeded"
            self.row(
                state,
                ago,
                usage=usage,
                cost=self._cost(usage),
                started=ended - round(run * 1000),
                submitted=ended - round((run + self.chance.between(0.1, 12)) * 1000),
                ended=ended,
            )

    def _failed(self) -> None:
        for reason, error, cause, number, oldest in CAUSES:
            for at in range(number):
                ago = 60 + (oldest - 60) * at / number
                ended = round((NOW - ago) * 1000)
                usage = self._usage()
                self.row(
                    "failed",
                    ago,
                    reason=reason,
                    error=error,
                    fingerprint=cause,
                    attempt=3,
                    failures=3,
                    usage=usage,
                    cost=self._cost(usage),
                    started=ended - 40_000,
                    ended=ended,
                )

    def _waiting(self) -> None:
        for at in range(214):
            submitted = round((NOW - 1 - at * 2.3) * 1000)
            queue = "batch" if at % 9 == 0 else "nightly" if at % 7 == 0 else "default"
            self.row(
                "queued",
                0,
                sequence=0,
                queue=queue,
                updated=submitted,
                submitted=submitted,
                message=f"{9000 - at}-17",
                actor="",
                attempt=0,
                priority="high" if at % 50 == 3 else "normal",
            )
        for at in range(9):
            self.row(
                "retrying",
                12 + at,
                resume_at=round((NOW + 8 + 7 * at) * 1000),
                reason="overloaded",
                error="overloaded_error: Overloaded",
                fingerprint="9e01",
                attempt=1 + at % 3,
                failures=1,
                cost=4_000 + 311 * at,
                usage=Usage(900, 40),
            )
        for at in range(3):
            self.row(
                "scheduled",
                300,
                resume_at=round((NOW + 1800 * (at + 1)) * 1000),
                reason="not_before",
                attempt=0,
                actor="",
            )

    def _running(self) -> None:
        for at in range(64):
            started = round((NOW - 2 - 8.6 * at) * 1000)
            progress = None if at % 3 == 0 else round(min(0.97, 0.05 + at / 70), 2)
            self.row(
                "running",
                3 + 0.43 * at,
                started=started,
                submitted=started - 900,
                progress=progress,
                note=self.chance.of(NOTES) or None,
                attempt=2 if at % 11 == 5 else 1,
                actor=f"{self.workers[(at * 5) % 23]}-5c1e0a",
            )

    def _numbered(self) -> None:
        """Records have the sequences in which they were stored."""
        stored = sorted(
            (row for row in self.rows if row.sequence), key=lambda row: (row.updated, row.id)
        )
        first = 8_214_507 - len(stored)
        place = {row.id: first + at for at, row in enumerate(stored)}
        self.rows = [
            msgspec.structs.replace(row, sequence=place[row.id]) if row.sequence else row
            for row in self.rows
        ]

    # Actors.

    def beat(self, at: int, when: float) -> Heartbeat:
        """A worker's heartbeat; the tokens of its tasks grow with the time."""
        name = self.workers[at]
        actor = f"{name}-5c1e0a"
        mine = [row for row in self.rows if row.state == "running" and row.actor == actor]
        mine = [row for row in mine if row.started is not None and row.started < when * 1000]
        tasks = []
        for row in mine:
            assert row.started is not None
            seconds = when - row.started / 1000
            rate = 20 + sum(map(ord, row.id)) % 90
            since = datetime.fromtimestamp(row.started / 1000, UTC)
            tokens = int(seconds * rate)
            tasks.append(RunningTask(row.id, row.kind, row.queue, row.attempt, since, tokens))
        slots = 4
        share = 0.08 if at % 2 else 0.41
        reset = (datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=38)).isoformat()
        limits = {
            "requests-limit": "1000",
            "requests-remaining": "588",
            "requests-reset": reset,
            "input-tokens-limit": "450000",
            "input-tokens-remaining": "140000",
            "input-tokens-reset": reset,
            "output-tokens-limit": "80000",
            "output-tokens-remaining": str(round(80_000 * share)),
            "output-tokens-reset": reset,
        }
        return Heartbeat(
            role="worker",
            actor=actor,
            name=name,
            host="eu-a" if at < 12 else "eu-b",
            pid=4100 + at,
            version="1.4.1" if at == 3 else "1.4.2",
            started=datetime.fromtimestamp(NOW - 273_000 - 977 * at, UTC),
            time=datetime.fromtimestamp(when, UTC),
            interval_s=2.0 if when > NOW - 10 else 15.0,
            queues=["default", "review"] if at % 3 else ["default", "review", "nightly"],
            kinds=["claude", "review", "summarise", "embed"],
            slots=slots,
            running=len(tasks),
            held=3 if at in (2, 8) else 0,
            done=400 + 17 * at,
            failed=2 if at % 5 == 0 else 0,
            stopping=at == 15,
            lease_s=15.0,
            rss_bytes=(180 + 3 * at) * 1024 * 1024,
            loop_lag_ms=1900.0 if at == 7 else 1.2 + at / 10,
            tasks=tasks,
            notes=["upgrade needed: 2 tasks are of a later version"] if at == 3 else [],
            pools={
                "key-1": {
                    "opus": {
                        "in_flight": len(tasks),
                        "refused": 14 if at == 2 else 0,
                        "limits": limits,
                        "limits_at": datetime.fromtimestamp(when - at / 100, UTC).isoformat(),
                        **self._clock(at, when),
                    },
                    "sonnet": {
                        "in_flight": 2,
                        "refused": 0,
                        "limits": {**limits, "output-tokens-remaining": "61000"},
                        "limits_at": datetime.fromtimestamp(when, UTC).isoformat(),
                    },
                }
            },
            batches=self._batches(when) if at == 4 else [],
        )

    def _clock(self, at: int, when: float) -> dict[str, Any]:
        """What a worker tells of the governor, and who waits with it."""
        limits = {"requests": 1_000, "input": 450_000, "output": 80_000}
        axes = {
            name: {"limit": limit, "used": 0.41 + place / 10, "pace": 0.92 - place / 50}
            for place, (name, limit) in enumerate(limits.items())
        }
        instant = datetime.fromtimestamp(when - at / 100, UTC).isoformat()
        said: dict[str, Any] = {
            "clock": {"state": "governed", "source": "headers", "at": instant, "axes": axes}
        }
        if at in (2, 8):
            starts = datetime.fromtimestamp(when + 12 + at, UTC).isoformat()
            said |= {"waiting": 3, "axis": "output", "starts": starts}
        return said

    def _batches(self, when: float) -> list[Progress]:
        """What a batcher tells of its batches."""
        made = datetime.fromtimestamp(NOW - 9_720, UTC)
        common: dict[str, Any] = {"pool": "key-1", "queue": "nightly"}
        return [
            Progress(
                **common,
                nonce="af11d0c8a97e52",
                state="made",
                count=12_400,
                id="msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d",
                status="in_progress",
                made=made,
                expires=made + timedelta(hours=24),
                settled=8_112,
                cost_micro=21_400_000,
                saved_micro=21_400_000,
            ),
            Progress(**common, nonce="af93b20c64d1fe", state="sent", count=340),
        ]

    def items(self) -> list[feed.Item]:
        """All items, in the order in which they became known."""
        found: list[feed.Item] = [
            feed.Link(at=NOW - 5_000, up=True, url="nats://127.0.0.1:4222", server="n1"),
            feed.Loading(at=NOW - 4_999, done=5, total=5),
            self.gates(),
        ]
        ordered = sorted(self.rows, key=lambda row: (row.updated, row.id))
        for start in range(0, len(ordered), 200):
            part = ordered[start : start + 200]
            found.append(feed.Rows(at=max(NOW - 4_990, part[-1].updated / 1000), rows=part))
        for step in range(20, -1, -1):
            when = NOW - 15.0 * step - 0.8
            for at in range(len(self.workers)):
                if at == 22 and step < 6:
                    continue  # lost since a minute and a half
                offset = 0.0 if step else (at % 7) / 10
                found.append(feed.Beat(at=when - offset, beat=self.beat(at, when - offset)))
            found.append(feed.Beat(at=when, beat=self.master(when)))
        depths = self.depths()
        # The server answers every two seconds, whoever is silent.
        found += [msgspec.structs.replace(depths, at=depths.at - 2.0 * step) for step in range(200)]
        return sorted(found, key=lambda item: item.at)

    def master(self, when: float) -> Heartbeat:
        """The master's heartbeat."""
        return Heartbeat(
            role="master",
            actor="m-1-77ab",
            name="m-1",
            host="eu-a",
            pid=4000,
            version="1.4.2",
            started=datetime.fromtimestamp(NOW - 273_600, UTC),
            time=datetime.fromtimestamp(when, UTC),
            interval_s=2.0 if when > NOW - 10 else 15.0,
        )

    def gates(self) -> feed.Gates:
        """A paused queue, a pool that is closed for a while."""
        return feed.Gates(
            at=NOW - 700,
            gates=[
                GateView(
                    key="paused.nightly",
                    what="queue",
                    name="nightly",
                    since=datetime.fromtimestamp(NOW - 700, UTC),
                    reason="until the new prompt is in",
                    actor="ana",
                ),
                GateView(
                    key="closed.key-1.opus",
                    what="pool",
                    name="key-1.opus",
                    since=datetime.fromtimestamp(NOW - 21, UTC),
                    until=datetime.fromtimestamp(NOW + 39, UTC),
                    reason="rate",
                    actor="w-03-5c1e0a",
                    error_code="rate_limit_error",
                ),
            ],
        )

    def depths(self) -> feed.Depths:
        """What the server holds of each queue."""
        waiting: dict[str, dict[str, int]] = {}
        oldest: dict[str, float] = {}
        for row in self.rows:
            if row.state == "queued":
                of = waiting.setdefault(row.queue, {})
                of[row.priority] = of.get(row.priority, 0) + 1
                at = row.updated / 1000
                oldest[row.queue] = min(at, oldest.get(row.queue, at))
        taken = {"default": 41, "review": 23}
        return feed.Depths(
            at=NOW - 1,
            queues=[
                feed.QueueDepth(
                    queue=name,
                    messages=sum(waiting.get(name, {}).values()) + taken.get(name, 0),
                    waiting=waiting.get(name, {}),
                    oldest=oldest.get(name),
                    pulls=12 if name in taken else 0,
                )
                for name in ("batch", "default", "nightly", "review")
            ],
            dead=sum(number for _, _, _, number, _ in CAUSES),
        )

    def letters(self) -> list[Letter]:
        """The dead letters of the failed tasks."""
        return [
            Letter(
                id=row.id,
                queue=row.queue,
                kind=row.kind,
                reason=row.reason or "",
                error=row.error or "",
                fingerprint=row.fingerprint,
                attempts=row.attempt,
                at=row.updated / 1000,
                labels={"team": "core"},
                truncated=number == 20,
            )
            for number, row in enumerate(row for row in self.rows if row.state == "failed")
        ]


def dashboard(**options: Any) -> Dashboard:
    """A dashboard that shows the scene."""
    scenery = Scenery()
    dash = Dashboard(zone=UTC, **options)
    for item in scenery.items():
        dash.store.apply(item)
    dash.answers.letters = scenery.letters()
    dash.receipts = [
        Receipt(NOW - 95, "agentflow pause nightly", "paused, 24 tasks wait", "ok", True),
    ]
    return dash


def empty(**options: Any) -> Dashboard:
    """A dashboard that knows nothing yet."""
    return Dashboard(zone=UTC, **options)
