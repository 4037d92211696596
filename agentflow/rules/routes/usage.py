"""What the usage of an answer says: four counts, how it was served, and who else was asked.

Usage arrives in pieces (the stream's first and last events), each a sum from the beginning; a
count that is left out, null or zero has not changed. `iterations` tells the requests that the API
made within one request, each with counts of its own:

    message, fallback_message   in the counts beside it, but an advised model's later prompts are
                                not: where the list comes to more, the list is what is billed
    compaction, advisor_message not in the counts beside it
    anything else               nobody knows, so there is no price

Services tell strange numbers: `record.counted` says what is taken for one. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agentflow.protocol.record import TOKENS_MOST, Usage, counted
from agentflow.rules.routes.prices import Detail, Part

TOLD_BYTES: Final = 8_192
"""JSON of a usage that is kept; the API's own is a few hundred bytes."""

_WITHIN: Final = ("message", "fallback_message")
_BESIDE: Final = ("compaction", "advisor_message")
_LISTED_REGIONS: Final = (None, "", "global", "not_available")
_KINDS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


class Billed(msgspec.Struct, frozen=True):
    """What an answer's usage comes to: all tokens, and the parts that each have a price."""

    usage: Usage
    parts: tuple[Part, ...]


def add(told: dict[str, Any], piece: object) -> None:
    """Lay a later piece of usage over what was told before."""
    if not isinstance(piece, dict):
        return
    for name, value in piece.items():
        before = told.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            add(before, value)
        elif before is None or not (value is None or counted(value) == 0):
            told[name] = dict(value) if isinstance(value, dict) else value


def kept(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Usage as it came, fit for a record; None where it told nothing or is no usage at all."""
    try:
        encoded = msgspec.json.encode(told)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return {"unreadable": True}
    if len(encoded) > TOLD_BYTES:
        return {"unreadable": True}
    return dict(told) or None


def billed(model: str, told: Mapping[str, Any]) -> Billed:
    """What was bought of `model`, and of those that it was helped by."""
    detail = detail_of(told)
    main = Part(model, counts(told), detail)
    if "iterations" not in told:
        return Billed(main.usage, (main,))
    within: list[Part] = []
    beside: list[Part] = []
    iterations = told.get("iterations")
    for entry in iterations if isinstance(iterations, list) else ():
        if not isinstance(entry, dict):
            continue
        kind, asked = entry.get("type"), entry.get("model")
        own = msgspec.structs.replace(
            detail,
            written_1h=_written_1h(entry),
            searches=0,
            unlisted=detail.unlisted
            if kind in _WITHIN + _BESIDE
            else f"an iteration of type {shown(kind)}",
        )
        part = Part(asked if isinstance(asked, str) and asked else model, counts(entry), own)
        (within if kind in _WITHIN else beside).append(part)
    if _sum(within).total > main.usage.total:
        first = within[0]
        searched = msgspec.structs.replace(first.detail, searches=detail.searches)
        parts = [msgspec.structs.replace(first, detail=searched), *within[1:]]
    else:
        parts = [main]
    parts += beside
    return Billed(_sum(parts), tuple(parts))


def counts(told: Mapping[str, Any]) -> Usage:
    """The four counts."""
    usage = Usage(*[counted(told.get(name)) or 0 for name in _KINDS])
    written = told.get("cache_creation")
    if isinstance(written, dict):
        # Some tell the two lifetimes and not their sum.
        both = sum(counted(value) or 0 for value in written.values())
        if both > usage.cache_creation_input_tokens:
            usage = msgspec.structs.replace(
                usage, cache_creation_input_tokens=min(both, TOKENS_MOST)
            )
    return usage


def detail_of(told: Mapping[str, Any]) -> Detail:
    """How it was served."""
    tools = told.get("server_tool_use")
    tools = tools if isinstance(tools, dict) else {}
    return Detail(
        written_1h=_written_1h(told),
        searches=counted(tools.get("web_search_requests")) or 0,
        batch=told.get("service_tier") == "batch",
        unlisted=unlisted(told),
    )


def shown(value: object) -> str:
    """A word that a service sent, fit for a sentence."""
    text = value if isinstance(value, str) else str(type(value).__name__)
    return "".join(filter(str.isprintable, text))[:40] or "unknown"


def unlisted(told: Mapping[str, Any]) -> str:
    """What of the way it was served, or is asked for, has no list price; "" where nothing."""
    tier, speed, region = (
        told.get("service_tier"),
        told.get("speed"),
        told.get("inference_geo"),
    )
    if tier not in (None, "", "standard", "batch"):
        return f"service tier {shown(tier)}"
    if speed not in (None, "", "standard"):
        return "fast mode" if speed == "fast" else f"speed {shown(speed)}"
    if region not in _LISTED_REGIONS:
        return f"region {shown(region)}"
    if any(counted(told.get(name)) == TOKENS_MOST for name in _KINDS):
        return "a number of tokens that cannot be true"
    return ""


def _written_1h(told: Mapping[str, Any]) -> int:
    written = told.get("cache_creation")
    return (
        (counted(written.get("ephemeral_1h_input_tokens")) or 0) if isinstance(written, dict) else 0
    )


def _sum(parts: list[Part]) -> Usage:
    total = sum((part.usage for part in parts), Usage())
    return Usage(*(min(count, TOKENS_MOST) for count in msgspec.structs.astuple(total)))
