"""Records for a dashboard to follow: `python -m bench.tui.records URL TASKS RATE SECONDS`.

Writes what a fleet would have written, without one: TASKS logs of an hour, then RATE records a
second, straight into the stream. It prints `ready` when the logs are there, and waits for a line.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import nats
from nats.js import JetStreamContext

from agentflow.views import feed
from agentflow.views.row import Row, decode_labels
from tests.dashboard.support.lifelike import Lifelike

WINDOW = 256
STEP = 0.05


def record(row: Row, shift: float) -> tuple[str, bytes]:
    """The subject and the record of a row."""

    def instant(ms: int | None) -> str | None:
        if ms is None:
            return None
        return datetime.fromtimestamp(ms / 1000 + shift, UTC).isoformat().replace("+00:00", "Z")

    error: dict[str, Any] | None = None
    if row.error:
        kind, _, text = row.error.partition(": ")
        error = {"type": kind, "message": text}
    fields = {
        "v": 1,
        "state": row.state,
        "attempt": row.attempt,
        "failures": row.failures,
        "actor": row.actor or "client-1",
        "time": instant(row.updated),
        "queue": row.queue,
        "priority": row.priority,
        "kind": row.kind,
        "labels": decode_labels(row.labels) if row.labels else {},
        "usage": msgspec.to_builtins(row.usage),
        "cost_usd": None if row.cost is None else row.cost / 1e6,
        "timings": {
            "submitted": instant(row.submitted),
            "started": instant(row.started),
            "ended": instant(row.ended),
        },
        "model": row.model,
        "resume_at": instant(row.resume_at),
        "reason": row.reason,
        "stop_reason": row.stop_reason,
        "progress": row.progress,
        "note": row.note,
        "error": error,
    }
    where = "results" if row.finished else "progress"
    return f"agentflow.{where}.{row.id}", msgspec.json.encode(fields)


async def publish(js: JetStreamContext, items: Iterable[feed.Item], shift: float) -> None:
    """Store the rows of these items, some at once, in their order."""
    for item in items:
        if not isinstance(item, feed.Rows):
            continue
        for row in item.rows:
            subject, data = record(row, shift)
            _ = await js.publish_async(subject, data)  # its answer is counted, not looked at
    await js.publish_async_completed()


async def main(url: str, tasks: int, rate: float, seconds: float) -> None:
    """Write."""
    client = await nats.connect(url)
    js = client.jetstream(publish_async_max_pending=WINDOW)
    life = Lifelike(tasks=tasks, workers=200)
    loop = asyncio.get_running_loop()
    shift = datetime.now(UTC).timestamp() - life.at
    await publish(js, life.begin(), shift)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    last = loop.time()
    end = last + seconds
    shift = datetime.now(UTC).timestamp() - life.at
    while (now := loop.time()) < end:
        items = list(life.pass_time(now - last, rate))
        last = now
        await publish(js, items, shift)
        await asyncio.sleep(max(0.0, STEP - (loop.time() - now)))
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
