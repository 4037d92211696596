"""The doctor's check of JetStream itself: there, not for this account, without a leader, full."""

from __future__ import annotations

from typing import Any, Final

from agentflow.bus.streams.jetstream import LEADERLESS, NOT_OURS, JetStream
from agentflow.cli.checks.check import Check, Status
from agentflow.errors import BusError, NoAnswer, NoStream, NotFound, PermissionDenied, Refused
from agentflow.protocol import limits, streams, subjects

NAME: Final = "jetstream"
WITHIN: Final = 2.0
SPARE: Final = limits.SERVER_MAX_PAYLOAD
"""Bytes that a task of the largest size and its record may need."""

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


async def room(js: JetStream) -> Check:
    """Whether what is submitted can be stored: the account's limits, and the queue's own."""
    name = "room"
    try:
        info = await js.api("INFO", timeout=WITHIN)
        short = [text for each in _accounts(info) for text in _shortages(each)]
        try:
            tasks = await js.stream_info(subjects.TASKS)
        except (NoStream, NotFound):
            tasks = None
    except BusError as error:
        return Check(name, Status.UNKNOWN, f"the limits cannot be read: {error}")
    if tasks is not None and (full := _full(tasks)):
        short.append(full)
    if short:
        remedy = "raise these limits, or remove what is stored; then submitters go on by themselves"
        return Check(name, Status.FAIL, f"submissions are refused: {'; '.join(short)}", remedy)
    return Check(name, Status.OK, "; ".join(_used(each) for each in _accounts(info)))


def _accounts(info: dict[str, Any]) -> list[dict[str, Any]]:
    """Usage and limits: of the account, or of each of its tiers."""
    return list((info.get("tiers") or {"": info}).values())


def _shortages(account: dict[str, Any]) -> list[str]:
    allowed = account.get("limits") or {}
    stored, most = account.get("storage", 0), allowed.get("max_storage", -1)
    found = []
    if 0 <= most <= stored + SPARE:
        found.append(
            f"{stored:,} of {most:,} bytes of the account are used, a task may need {SPARE:,}"
        )
    wanted = len(streams.streams())
    for what, needed in (("streams", wanted), ("consumers", 3)):
        have, most = account.get(what, 0), allowed.get(f"max_{what}", -1)
        # Those that are there already need no more.
        if what == "streams" and 0 <= most < wanted:
            found.append(f"the account may have {most} streams and has {have}, {needed} are needed")
        if what == "consumers" and 0 <= most < have + needed:
            found.append(
                f"the account may have {most} consumers and has {have}, a new queue needs {needed}"
            )
    return found


def _full(info: dict[str, Any]) -> str:
    config, state = info["config"], info["state"]
    for what, limit in (("messages", "max_msgs"), ("bytes", "max_bytes")):
        most = config.get(limit, -1)
        if 0 < most <= state[what]:
            return f"{subjects.TASKS} is full, {state[what]:,} of {most:,} {what}"
    return ""


def _used(account: dict[str, Any]) -> str:
    most = (account.get("limits") or {}).get("max_storage", -1)
    return f"{account.get('storage', 0):,} bytes stored of " + (f"{most:,}" if most >= 0 else "any")
