"""How long things may take in the batch lane. Seconds."""

from __future__ import annotations

import os
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from agentflow.errors import UsageError
from agentflow.rules.batches import Gather

PACE: Final = "AGENTFLOW_BATCHES"
"""The variable that gives another pace, as JSON: `{"gather": 60, "poll": 10}`."""


_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_Count = Annotated[int, Meta(ge=1, le=100_000)]
"""Requests of a batch; the API takes no more."""


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`gather` is the patience of normal priority; high has a thirtieth of it, low six times it.

    `settle` is how long the API may take to show a create that was done: sooner nobody concludes
    that it was not, and too soon is to pay twice. `flush` is how long the server's disk may take
    (`sync_interval` of our servers); `commit` how long the word that the last byte may go counts.
    `gone` is how long a batch may be missing before its tasks are given up.
    """

    gather: _Seconds = 300.0
    enough: _Count = 10_000
    most: _Count = 100_000
    look: _Seconds = 1.0
    poll: _Seconds = 60.0
    settle: _Seconds = 3_600.0
    flush: _Seconds = 2.0
    commit: _Seconds = 10.0
    gone: _Seconds = 86_400.0

    def rule(self) -> Gather:
        """When a batch is made."""
        return Gather(
            high=self.gather / 30,
            normal=self.gather,
            low=self.gather * 6,
            enough=self.enough,
            most=self.most,
        )


def from_environment() -> Pace:
    """The pace that the environment asks for. Raises UsageError."""
    text = os.environ.get(PACE)
    if not text:
        return Pace()
    try:
        return msgspec.json.decode(text, type=Pace)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{PACE} is no pace of batches: {error}") from None
