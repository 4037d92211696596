"""What waits becomes a row: looked at as it comes, each entry once, until a batch is ripe."""

from __future__ import annotations

from agentflow.batches.entries import pages
from agentflow.batches.place import Place
from agentflow.protocol.batches import Table
from agentflow.rules import batches as rules
from agentflow.rules.batches import Waiting


class Gathering:
    """The entries of a place behind `next`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._rule = place.pace.rule()
        self._from = 0
        self._seen = 0
        self.waiting = Waiting()

    async def look(self, table: Table) -> bool:
        """Look at what came since; whether a batch is ripe. Raises BusError."""
        if table.next != self._from:
            self._from, self._seen, self.waiting = table.next, table.next - 1, Waiting()
        if not self.waiting.over:
            async for items in pages(self._place, self._seen + 1):
                for item in items:
                    self.waiting = self.waiting.plus(
                        item.sequence, item.size, item.stored, item.priority, self._rule
                    )
                    self._seen = item.sequence
                if self.waiting.over:
                    break
        return self.waiting.ripe(self._place.now().timestamp(), self._rule)

    async def reserve(self) -> bool:
        """Make a row of what is ripe; False where another batcher was first."""
        place, first, last = self._place, self._from, self.waiting.fits
        nonce, now = place.nonce(), place.now()
        after = await place.change(lambda table: rules.reserve(table, first, last, nonce, now))
        return after is not None
