"""What `doctor` says of batches: those that nobody looks after, and those that were paid twice."""

from __future__ import annotations

from agentflow.bus.streams.bucket import read_all
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.pages import left_after, page
from agentflow.cli.checks.check import Check, Status
from agentflow.errors import BusError, NoStream
from agentflow.protocol import batches, subjects
from agentflow.protocol.batches import RowState, Table

_NAME = "batches"


async def cared_for(js: JetStream) -> list[Check]:
    """Whether a batcher looks after every batch, and what was paid twice."""
    tables: dict[str, Table] = {}
    leases: set[str] = set()
    try:
        async for key, _, value in read_all(js):
            if batches.parse_key(key) is not None and value is not None:
                tables[key] = batches.read(value)
            elif key.startswith(f"lease.{batches.KEYS}"):
                (leases.discard if value is None else leases.add)(key)
        waiting = {key: await _waiting(js, key, table) for key, table in tables.items()}
    except (BusError, ValueError) as error:
        return [Check(_NAME, Status.UNKNOWN, f"they cannot be read: {error}")]
    checks = [_twice(key, table) for key, table in tables.items() if table.twice]
    for key, table in tables.items():
        if (table.rows or waiting[key]) and f"lease.{key}" not in leases:
            checks.append(_alone(key, table, waiting[key]))
    if checks:
        return checks
    rows = [row for table in tables.values() for row in table.rows]
    sent = sum(row.state is RowState.SENT for row in rows)
    text = f"{len(rows):,} under way, {sum(waiting.values()):,} tasks wait for the next ones"
    if sent:
        text += f"; of {sent:,} no answer to their create came, and the API's list will tell"
    return [Check(_NAME, Status.OK, text if rows or any(waiting.values()) else "none under way")]


def _alone(key: str, table: Table, waiting: int) -> Check:
    place = batches.parse_key(key)
    assert place is not None
    pool, queue = place
    text = (
        f"{len(table.rows):,} batches of queue {queue} are under way and {waiting:,} tasks wait for"
        f" the next one, and no worker with credential {pool} looks after them"
    )
    remedy = f"start one with that credential: agentflow worker --kinds claude --queues {queue}"
    return Check(_NAME, Status.WARN, text, remedy)


def _twice(key: str, table: Table) -> Check:
    named = ", ".join(f"{one.batch} ({one.count:,} requests)" for one in table.twice[:5])
    text = f"created so late that they were paid beside another: {named}"
    return Check(_NAME, Status.WARN, text, "ask Anthropic's support for the money; each is named")


async def _waiting(js: JetStream, key: str, table: Table) -> int:
    """Entries that are in no batch yet."""
    place = batches.parse_key(key)
    assert place is not None
    try:
        first = await page(
            js.connection, subjects.BATCH, table.next, filter=batches.entries(*place), batch=1
        )
    except NoStream:
        return 0
    return 1 + left_after(first.messages[0]) if first.messages else 0
