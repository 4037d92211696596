"""What tasks have cost, from their records. Needs no master."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.pages import page, sequence_of, subject_of
from agentflow.protocol import record, subjects
from agentflow.views.spending import Ledger, Spending


async def costs(
    js: JetStream, by: Sequence[str] = (), *, since: datetime | None = None
) -> list[Spending]:
    """By queue, kind, model, day or names of labels, of the records that are kept (seven days).

    With `since` tasks count that have a record from then on, with all that they have cost. Raises
    BusError.
    """
    ledger = Ledger(by)
    sequence = 0
    while True:
        found = await page(
            js.connection,
            subjects.RECORDS,
            max(1, sequence + 1),
            since=since if not sequence else None,
        )
        for message in found.messages:
            sequence = sequence_of(message)
            ledger.take(record.decode(message.data, subject_of(message)))
        if not found.more or not found.messages:
            return ledger.groups()
