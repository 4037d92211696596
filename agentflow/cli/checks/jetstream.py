"""The doctor's check of JetStream itself: there, not for this account, or without a leader."""

from __future__ import annotations

from typing import Final

from agentflow.bus.streams.jetstream import LEADERLESS, NOT_OURS, JetStream
from agentflow.cli.checks.check import Check, Status
from agentflow.errors import NoAnswer, NoStream, PermissionDenied, Refused

NAME: Final = "jetstream"
WITHIN: Final = 2.0

_ABSENT: Final = (
    "JetStream is not enabled on this server",
    "add a jetstream block to the server's configuration",
)
_NOT_OURS: Final = (
    "JetStream is not enabled for this account",
    "add `jetstream: enabled` to the account, or connect as a user of another one",
)
_LEADERLESS: Final = (
    "the cluster has no leader: fewer than half of its servers reach each other. What was "
    "acknowledged is kept; nothing new is stored until then",
    "bring its other servers back, and look at their logs",
)
_SILENT: Final = (
    f"JetStream does not answer within {WITHIN:g} s",
    "look at the server's log, its load and its disk",
)


async def jetstream(js: JetStream) -> Check:
    """Whether JetStream answers, and if not, which of the reasons it is."""
    try:
        info = await js.api("INFO", timeout=WITHIN)
    except NoStream:
        return Check(NAME, Status.FAIL, *_ABSENT)
    except NoAnswer:
        # In a cluster the leader answers for all, and nobody says that there is none.
        clustered = "cluster" in js.connection.server
        return Check(NAME, Status.FAIL, *(_LEADERLESS if clustered else _SILENT))
    except Refused as error:
        if error.code in NOT_OURS:
            return Check(NAME, Status.FAIL, *_NOT_OURS)
        if error.code in LEADERLESS:
            return Check(NAME, Status.FAIL, *_LEADERLESS)
        return Check(NAME, Status.FAIL, f"JetStream refuses: {error}", "look at the server's log")
    except PermissionDenied as error:
        return Check(NAME, Status.UNKNOWN, str(error))
    text = f"enabled; {info.get('streams', 0)} streams, {info.get('storage', 0):,} bytes stored"
    return Check(NAME, Status.OK, text)
