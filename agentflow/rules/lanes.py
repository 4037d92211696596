"""Lanes: the tenants of a queue, what is set for them, and whose turn it is. Pure.

A lane is listed by a key of the bucket, `lane.<queue>.<lane>`. Lanes of a queue that have a backlog
take turns by deficit round robin: a lane's credit is in tokens, a task takes from it what tasks of
its lane have come to lately, and what it really came to is put right when it ends. Whose credit is
used up waits until that of all others is, and then each is given a quantum times its weight. So
lanes share by tokens and not by tasks, one that has nothing waiting saves nothing up, and what one
begins while no other waits is not held against it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, Final

import msgspec

from agentflow.protocol import subjects

PREFIX: Final = "lane."
GAIN: Final = 0.1
"""How much of what a task came to goes into what the next one is expected to."""
UNKNOWN: Final = 1.0
"""Tokens of a task, where none of its queue has ended: too much would be credit for many."""
STEP: Final = 0.25
"""A quantum, in tasks of the dearest lane: the smaller, the nearer are shares to each other."""
MANY: Final = 1_000_000
"""Tasks of a turn that nobody else waits for."""


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """What is set for a lane: its share beside others, and how many of its tasks workers may have
    in their hands, of each priority (0: no cap)."""

    weight: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 1.0
    cap: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    v: int = 1


PLAIN: Final = Lane()
_decoder = msgspec.json.Decoder(Lane)


def key(queue: str, lane: str) -> str:
    """The key of a lane in the bucket."""
    return f"{PREFIX}{queue}.{lane or subjects.DEFAULT_LANE}"


def parse_key(text: str) -> tuple[str, str]:
    """Queue and lane of such a key, "" for the default lane."""
    queue, _, lane = text.removeprefix(PREFIX).partition(".")
    return queue, "" if lane == subjects.DEFAULT_LANE else lane


def read(value: bytes | None) -> Lane | None:
    """What a key says, None where it is not there; one that cannot be read lists a plain lane."""
    if value is None:
        return None
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return PLAIN


class _Account:
    __slots__ = ("credit", "mean", "weight")

    def __init__(self) -> None:
        self.weight = 1.0
        self.credit = 0.0
        self.mean = 0.0
        """Tokens of a task; 0: none has ended."""


class Shares:
    """The lanes of one queue, as one worker sees them."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._order: list[str] = []
        self._at = 0
        self._alone = False

    def weigh(self, lane: str, weight: float) -> None:
        """Set a lane's weight; from its next quantum on."""
        self._account(lane).weight = weight

    def turn(self, ready: Collection[str]) -> tuple[str, int]:
        """Whose turn it is of those that may have a backlog, and for how many tasks."""
        for lane in ready:
            self._account(lane)
        self._alone = len(ready) == 1
        if self._alone:
            return next(iter(ready)), MANY
        if max(self._accounts[lane].credit for lane in ready) <= 0.0:
            self._top_up(ready)
        count = len(self._order)
        for step in range(count):
            lane = self._order[(self._at + step) % count]
            account = self._accounts[lane]
            if lane in ready and account.credit > 0.0:
                self._at = (self._at + step) % count
                return lane, max(1, int(account.credit / self._expected(account)))
        raise AssertionError("somebody has credit now")

    def started(self, lane: str) -> float:
        """Charge a task that begins; returns what it was charged."""
        account = self._account(lane)
        if self._alone:
            return 0.0
        expected = self._expected(account)
        account.credit -= expected
        return expected

    def ended(self, lane: str, charged: float, tokens: int | None) -> None:
        """Put right what a task was charged; None where it did not run."""
        account = self._account(lane)
        if tokens is None:
            account.credit += charged
            return
        cost = max(1.0, float(tokens))
        if charged:
            account.credit -= cost - charged
        before = self._expected(account)
        # Of a new lane the short tasks end first: what is known of others is nearer.
        account.mean = before + GAIN * (cost - before) if before != UNKNOWN else cost

    def empty(self, lane: str) -> None:
        """A lane has nothing waiting: what it did not use is gone."""
        account = self._account(lane)
        account.credit = min(account.credit, 0.0)

    def forget(self, lane: str) -> None:
        """A lane is there no more."""
        if self._accounts.pop(lane, None) is not None:
            self._order.remove(lane)
            self._at = 0

    def _account(self, lane: str) -> _Account:
        account = self._accounts.get(lane)
        if account is None:
            account = self._accounts[lane] = _Account()
            self._order.append(lane)
        return account

    def _expected(self, account: _Account) -> float:
        if account.mean:
            return account.mean
        known = [other.mean for other in self._accounts.values() if other.mean]
        return sum(known) / len(known) if known else UNKNOWN

    def _top_up(self, ready: Collection[str]) -> None:
        """As many quanta as it takes until somebody who is ready has credit."""
        quantum = STEP * max(self._expected(account) for account in self._accounts.values())
        rounds = min(
            math.floor(-self._accounts[lane].credit / (quantum * self._accounts[lane].weight)) + 1
            for lane in ready
        )
        for lane, account in self._accounts.items():
            step = quantum * account.weight
            credit = account.credit + rounds * step
            account.credit = credit if lane in ready else min(credit, max(0.0, account.credit))
