"""Texts that want to disturb a screen, and a scene in which everything has such names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from agentflow.dashboard.reader.scene import Letter, Receipt
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.protocol.api import GateView
from agentflow.protocol.control import Heartbeat, RunningTask
from agentflow.protocol.record import Usage
from agentflow.views import feed
from agentflow.views.row import Row, encode_labels
from tests.dashboard.support.scenery import NOW

HOSTILE: Final = (
    "\x1b[2J\x1b[Hcleared",
    "\x1b]0;title\x07after\x1b]52;c;aGk=\x1b\\",
    "\x9b31mred\x9c",
    "[bold red]markup[/] [link=x]y[/link] [@click=quit]z",
    "\u202eright to left\u202c",
    "\u2067isolated\u2069",
    "漢字かな混じり文と한국어",
    "ＦＵＬＬwidth",
    "e\u0301a\u0308" * 8,
    "z\u0327\u0323\u0330\u0331\u0353\u0354\u0355\u0356" * 3,
    "👨‍👩‍👧‍👦 family",
    "🇩🇪🇫🇷 flags",
    "👍🏽👍🏿 tones",
    "❤️ heart ❤︎",
    "क्षि हिन्दी ழ்",
    "한글 jamo",
    "line\r\nbreak\ttab\x0bvt\x0cff\x85nel\u2028ls\u2029ps",
    "\x00nul\x7fdel\x08back",
    "\ud800 surrogate",
    "\u00ad\u200b\u200c\u200d\ufeff\u2060invisible",
    "☰ trigram 𝌆 tetragram",
    "long " * 900,
    "漢" * 900,
    "",
    " ",
)


class _Names:
    def __init__(self) -> None:
        self._at = 0

    def next(self, head: str = "") -> str:
        self._at += 1
        return f"{head}{HOSTILE[self._at % len(HOSTILE)]}"


def dashboard(**options: Any) -> Dashboard:
    """A dashboard on which every name and text is hostile."""
    names = _Names()
    dash = Dashboard(zone=UTC, **options)
    store = dash.store
    store.apply(feed.Link(at=NOW - 99, up=True, url=names.next("nats://")))
    states = ("running", "queued", "retrying", "scheduled", "succeeded", "failed", "cancelled")
    rows = []
    for at in range(140):
        rows.append(
            Row(
                id=names.next(f"{at}"),
                sequence=at + 1,
                state=states[at % 7] if at % 20 else names.next("unheard"),
                queue=names.next("q"),
                updated=round((NOW - 3 * at) * 1000),
                priority=names.next(),
                kind=names.next(),
                model=names.next("m"),
                labels=encode_labels({names.next("n").replace("\ud800", ""): "x\u202ey"}),
                attempt=at,
                actor=f"w{at % 9}",
                submitted=round((NOW - 4000 - at) * 1000),
                started=round((NOW - 3600 - at) * 1000),
                resume_at=round((NOW + at) * 1000),
                usage=Usage(10**at if at < 14 else 1, at),
                cost=10**at if at < 15 else at,
                error=names.next("E: "),
                reason=names.next(),
                note=names.next(),
                fingerprint=names.next("f"),
                progress=at / 99,
            )
        )
    store.apply(feed.Rows(at=NOW, rows=rows))
    for at in range(12):
        since = datetime.fromtimestamp(NOW - 50, UTC)
        beat = Heartbeat(
            role="worker" if at else "master",
            actor=f"w{at}",
            name=names.next(),
            host=names.next(),
            pid=at,
            version=names.next(),
            started=since,
            time=since,
            interval_s=2.0,
            queues=[names.next("q") for _ in range(4)],
            kinds=[names.next() for _ in range(4)],
            slots=at,
            running=at,
            held=10**at,
            done=10**at,
            failed=10**at,
            stopping=at == 3,
            rss_bytes=10**at,
            loop_lag_ms=float(10**at),
            tasks=[RunningTask(row.id, row.kind, row.queue, 1, since, 10**at) for row in rows[:9]],
            notes=[names.next() for _ in range(3)],
            pools={
                names.next(): {names.next(): {"in_flight": "x", "limits": {"requests-limit": "y"}}},
                names.next("p"): names.next(),
                "p": {names.next("o"): _pool()},
            },
        )
        store.apply(feed.Beat(at=NOW - (0 if at % 4 else 30), beat=beat))
    store.apply(
        feed.Gates(
            at=NOW,
            gates=[
                GateView(
                    key=names.next(),
                    what=("queue", "kind", "pool")[at % 3],
                    name=names.next("q"),
                    since=datetime.fromtimestamp(NOW - 9, UTC),
                    reason=names.next(),
                    actor=names.next(),
                    error_code=names.next(),
                    message=names.next(),
                )
                for at in range(9)
            ],
        )
    )
    store.apply(
        feed.Depths(
            at=NOW,
            queues=[
                feed.QueueDepth(
                    queue=names.next("q"), messages=10**at, waiting={"high": 10**at}, oldest=1.0
                )
                for at in range(12)
            ],
            dead=10**9,
        )
    )
    store.apply(feed.Note(at=NOW, part=names.next(), text=names.next("t")))
    dash.answers.letters = [
        Letter(
            id=names.next(f"{at}"),
            queue=names.next(),
            kind=names.next(),
            reason=names.next(),
            error=names.next(),
            fingerprint=names.next(),
            attempts=at,
            at=NOW - at,
            labels={names.next(): names.next()},
        )
        for at in range(60)
    ]
    for row in rows[:9]:
        dash.answers.whys[row.id] = names.next()
    dash.receipts = [Receipt(NOW, names.next(), names.next(), "ok", at > 4) for at in range(9)]
    return dash


def _pool() -> dict[str, Any]:
    reset = datetime.fromtimestamp(NOW + 9, UTC).isoformat()
    limits: dict[str, str] = {}
    for name in ("requests", "input-tokens", "output-tokens"):
        limits |= {f"{name}-limit": "1e9", f"{name}-remaining": "12", f"{name}-reset": reset}
    return {"in_flight": 10**9, "refused": 10**9, "limits": limits, "limits_at": reset}
