"""The counters of AGENTFLOW_COUNTERS: one a route and axis, added to, never set.

The server adds and answers with the sum, so of a thousand adders each has a place of its own and
none of them has to try again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.errors import NoAnswer, NotConnected
from agentflow.protocol import headers as blocks
from agentflow.protocol import subjects
from agentflow.rules.routes.route import Route
from agentflow.rules.routes.tickets import counter

INCREMENT: Final = "Nats-Incr"
TIMEOUT: Final = 2.0
"""Seconds that an addition is waited for before it is sent again."""


class _Value(msgspec.Struct):
    val: str = "0"


_value = msgspec.json.Decoder(_Value)


class Counters:
    """Additions and sums. All methods but `tell` raise BusError."""

    def __init__(self, js: JetStream) -> None:
        self._js = js
        self._run = secrets.token_hex(6)
        self._number = 0

    async def add(self, route: Route, amounts: Mapping[str, int]) -> dict[str, float]:
        """Add to several axes at once; what each counts then."""
        values = await asyncio.gather(
            *(self._add(counter(route, axis), amount) for axis, amount in amounts.items())
        )
        return dict(zip(amounts, values, strict=True))

    async def _add(self, subject: str, amount: int) -> float:
        self._number += 1
        block = _block(amount, f"{self._run}-{self._number}")
        try:
            ack = await self._js.store(subject, b"", block, TIMEOUT)
        except NoAnswer:
            # Stored or not: by its id it is added once.
            ack = await self._js.store(subject, b"", block, TIMEOUT)
        if ack.duplicate or not ack.val:
            return await self._sum(subject)  # others came between: the place is later, never twice
        return float(ack.val)

    def tell(self, route: Route, amounts: Mapping[str, int]) -> None:
        """Add without waiting: a difference that is lost shows in the next headers."""
        for axis, amount in amounts.items():
            if amount:
                try:
                    self._js.connection.publish(counter(route, axis), block=_block(amount))
                except NotConnected:
                    return

    async def sums(self, route: Route, axes: Iterable[str]) -> dict[str, float]:
        """What the axes count now; 0 where nothing was added yet."""
        names = list(axes)
        values = await asyncio.gather(*(self._sum(counter(route, axis)) for axis in names))
        return dict(zip(names, values, strict=True))

    async def _sum(self, subject: str) -> float:
        stored = await self._js.last(subjects.COUNTERS, subject)
        if stored is None:
            return 0.0
        try:
            return float(_value.decode(stored.data).val)
        except (msgspec.DecodeError, ValueError):
            return 0.0


def _block(amount: int, name: str = "") -> bytes:
    headers = {INCREMENT: f"{amount:+d}"}
    if name:
        headers[subjects.MSG_ID] = name
    return blocks.encode(headers)
