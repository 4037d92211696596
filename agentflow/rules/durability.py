"""Is what the server acknowledges on disk as soon as was asked?"""

from __future__ import annotations

from typing import Final

import msgspec

SLOW: Final = 10.0
"""Seconds between two syncs above which a person is told; the server's own default is 120."""


class Sync(msgspec.Struct, frozen=True):
    """How a server writes to disk: before each answer, or every so many seconds."""

    always: bool
    every: float


def weaker(sync: Sync | None, *, durable: bool) -> str:
    """What is weaker than asked for, as a sentence; empty where nothing is.

    `durable` asks for `always`. A setting that cannot be read is no reason to warn, unless that
    was asked for.
    """
    if sync is None:
        return (
            "durable was asked for, but the server's monitoring port does not say whether it is"
            if durable
            else ""
        )
    if sync.always:
        return ""
    if durable:
        return (
            f"durable was asked for, but the server writes to disk every {sync.every:g} s; "
            "set jetstream.sync_interval to always"
        )
    if sync.every > SLOW:
        return (
            f"the server writes to disk every {sync.every:g} s only: a power cut may lose what it "
            "acknowledged in that time; set jetstream.sync_interval to 1s"
        )
    return ""
