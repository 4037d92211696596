"""The product's own proof, as every fault test ends with it: no finding means the promise was kept.

What a test adds is what only it knows: that its ledger is complete, that all has ended, and which
second submissions and early cancellations there were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from agentflow.audit import verify
from agentflow.audit.evidence import Calls, Submission
from agentflow.audit.judgement import differing
from agentflow.audit.reading import read_records
from agentflow.audit.trail import Kind
from agentflow.bus.streams.jetstream import JetStream
from agentflow.client import Client
from agentflow.dashboard.store.store import Store
from agentflow.protocol import subjects
from agentflow.protocol.record import Last

__all__ = ["check", "logs", "read_records"]


async def logs(js: JetStream) -> dict[str, list[Last]]:
    """All logs of the record stream, each in its order."""
    found: dict[str, list[Last]] = {}
    async for subject, last in read_records(js):
        found.setdefault(subjects.record_id(subject), []).append(last)
    return found


async def _dashboard(js: JetStream) -> Counter[str]:
    """By state: what the dashboard's model makes of the feed of this moment."""
    store = Store()
    async with Client(js.connection.options) as client:
        for item in await client.snapshot(newest=5_000_000):
            store.apply(item)
    told: Counter[str] = Counter()
    for counts in store.totals.states.values():
        told.update(counts)
    return told


async def check(
    js: JetStream,
    ledger: Iterable[str | Submission],
    *,
    faults: int | None = None,
    calls: Calls | None = None,
    listen: float = 0.0,
) -> list[str]:
    """What is wrong once everything in `ledger` should have ended, as sentences.

    Where not every line of the ledger has a sequence, a message that no record names is taken for
    one of the second submissions and early cancellations of the test.
    """
    known = [line if isinstance(line, Submission) else Submission(line) for line in ledger]
    report = await verify(
        js, ledger=known, complete=True, at_rest=True, faults=faults, calls=calls, listen=listen
    )
    told = await _dashboard(js)
    report.findings += differing(report.figures.states, told, "the dashboard")
    strict = all(line.sequence is not None for line in known)
    return [
        f"{finding.kind}: {finding.id}: {finding.text}"
        for finding in report.findings
        if strict or finding.kind != Kind.UNPROVED
    ]
