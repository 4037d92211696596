"""Batches for a test that breaks everything else: an API with mishaps, and what it has sold."""

from __future__ import annotations

import msgspec

from agentflow.audit.reading import read_records
from agentflow.bus.streams.bucket import read_all
from agentflow.bus.streams.jetstream import JetStream
from agentflow.protocol import batches, subjects
from agentflow.protocol.record import State
from agentflow.simulator import Simulator

PACE = {"gather": 1.0, "look": 0.2, "poll": 0.5, "settle": 25.0, "flush": 0.05, "commit": 5.0}
"""No process stands still for as long as a create is waited for: what was not listed by then was
not made."""
MISHAPS = {
    "processing": {"kind": "uniform", "low": 0.1, "high": 4.0},
    "lost": 0.05,
    "lost_by": "500",
    "refused": 0.02,
    "missing": 0.02,
    "cut": 0.1,
    "short": 0.1,
    "errored": 0.01,
    "expired": 0.01,
}


def environment(simulator: Simulator) -> dict[str, str]:
    """Of workers that ask this API."""
    simulator.set_mode({"batches": MISHAPS})
    return {
        "ANTHROPIC_BASE_URL": simulator.url,
        "ANTHROPIC_API_KEY": "simulated",
        "AGENTFLOW_POOL": "pool",
        "AGENTFLOW_BATCHES": msgspec.json.encode(PACE).decode(),
    }


async def left(js: JetStream) -> str:
    """What is still under way, "" where nothing is. Raises BusError."""
    waiting = (await js.stream_info(subjects.BATCH))["state"]["messages"]
    rows = [row for table in await _tables(js) for row in table.rows]
    return f"{waiting} wait for {len(rows)} batches" if waiting or rows else ""


async def wrong(js: JetStream, simulator: Simulator) -> list[str]:
    """Tasks whose prompt is their id, `b...`: each that has an answer must be paid once.

    What the API leaves open is told in the tables, and is no fault. Raises BusError.
    """
    twice = sum(one.count for table in await _tables(js) for one in table.twice)
    paid = simulator.batches.paid
    needed = set()
    async for _, entry in read_records(js, "agentflow.results.>"):
        record = entry.record
        if record is not None and record.state == State.SUCCEEDED and record.kind == "claude":
            needed.add(record.id)
    found = [f"paid: {name} was paid, and has no answer" for name in paid.keys() - needed]
    found += [f"paid: {name} has an answer nobody paid for" for name in needed - paid.keys()]
    if paid.total() - len(paid) > twice:
        more = {name: count for name, count in paid.items() if count > 1}
        found.append(f"paid: more than once, and told of {twice} only: {more}")
    return found


async def _tables(js: JetStream) -> list[batches.Table]:
    found: dict[str, batches.Table] = {}
    async for key, _, value in read_all(js):
        if value is not None and batches.parse_key(key) is not None:
            found[key] = batches.read(value)
    return list(found.values())
