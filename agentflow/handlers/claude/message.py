"""A message put together from the events of its stream. Pure.

Events are read by their attributes, as the SDK gives them; this file does not import it. Text is
what most streams are made of, so a text delta costs two appends and nothing else.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agentflow.handlers.contract import Outcome
from agentflow.protocol.record import Usage
from agentflow.rules.routes.prices import Detail


class Message:
    """What has come so far. `complete` once message_stop was seen."""

    __slots__ = (
        "_blocks",
        "_parts",
        "complete",
        "detail",
        "model",
        "stop_details",
        "stop_reason",
        "stop_sequence",
        "usage",
    )

    def __init__(self) -> None:
        self.model: str | None = None
        self.usage = Usage()
        self.detail = Detail()
        self.stop_reason: str | None = None
        self.stop_sequence: str | None = None
        self.stop_details: Any = None
        self.complete = False
        self._blocks: dict[int, dict[str, Any]] = {}
        self._parts: dict[int, list[str]] = {}
        """Pieces of each block's text, thinking or JSON, joined once at the end."""

    def delta(self, event: Any) -> str | None:
        """Take a content_block_delta; returns the text a person may see, if it is some."""
        delta = event.delta
        match delta.type:
            case "text_delta":
                text: str = delta.text
                self._parts[event.index].append(text)
                return text
            case "input_json_delta":
                self._parts[event.index].append(delta.partial_json)
            case "thinking_delta":
                self._parts[event.index].append(delta.thinking)
            case "signature_delta":
                self._blocks[event.index]["signature"] = delta.signature
            case "citations_delta":
                block = self._blocks[event.index]
                block["citations"] = [*(block.get("citations") or ()), _plain(delta.citation)]
            case _:
                # Of a later API: kept as it came, because it was paid for.
                self._blocks[event.index].setdefault("deltas", []).append(_plain(delta))
        return None

    def take(self, event: Any) -> bool:
        """Take any other event; returns whether usage is new."""
        match event.type:
            case "message_start":
                message = event.message
                self.model = message.model
                usage = message.usage
                self.usage = _usage(usage, Usage())
                written = usage.cache_creation
                self.detail = Detail(
                    written_1h=(written.ephemeral_1h_input_tokens or 0) if written else 0,
                    searches=_searches(usage),
                    batch=usage.service_tier == "batch",
                    listed=usage.speed != "fast"
                    and usage.inference_geo in (None, "global", "not_available"),
                )
                return True
            case "content_block_start":
                self._blocks[event.index] = _plain(event.content_block)
                self._parts[event.index] = []
            case "message_delta":
                delta = event.delta
                self.stop_reason = delta.stop_reason
                self.stop_sequence = delta.stop_sequence
                if delta.stop_details is not None:
                    self.stop_details = _plain(delta.stop_details)
                self.usage = _usage(event.usage, self.usage)
                searches = _searches(event.usage)
                if searches:
                    self.detail = msgspec.structs.replace(self.detail, searches=searches)
                return True
            case "message_stop":
                self.complete = True
        return False

    def outcome(self) -> Outcome:
        """The whole. `content` only when it is more than one block of plain text."""
        blocks = [_finished(block, self._parts[index]) for index, block in self._blocks.items()]
        texts = [block["text"] for block in blocks if block.get("type") == "text"]
        plain = len(blocks) == len(texts) <= 1 and not any(map(_has_more, blocks))
        value = {}
        if self.stop_sequence is not None:
            value["stop_sequence"] = self.stop_sequence
        if self.stop_details is not None:
            value["stop_details"] = self.stop_details
        return Outcome(
            text="".join(texts) if texts else None,
            content=None if plain else blocks,
            stop_reason=self.stop_reason,
            value=value or None,
        )


def _plain(thing: Any) -> dict[str, Any]:
    """An object of the SDK as JSON's own types, without fields that were not sent."""
    plain: dict[str, Any] = thing.to_dict(mode="json")
    return plain


def _finished(block: dict[str, Any], parts: list[str]) -> dict[str, Any]:
    text = "".join(parts)
    match block.get("type"):
        case "text":
            block["text"] = (block.get("text") or "") + text
        case "thinking":
            block["thinking"] = (block.get("thinking") or "") + text
        case _ if text:
            # The input of a tool. One that was cut off is kept as the text it is.
            try:
                block["input"] = msgspec.json.decode(text)
            except msgspec.DecodeError:
                block["input"] = text
    return block


def _has_more(block: dict[str, Any]) -> bool:
    return bool(block.get("citations") or block.get("deltas"))


def _usage(given: Any, before: Usage) -> Usage:
    """Counts are sums from the start of the stream; one left out has not changed."""

    def count(name: str) -> int:
        value = getattr(given, name, None)
        return value if isinstance(value, int) else int(getattr(before, name))

    return Usage(
        count("input_tokens"),
        count("output_tokens"),
        count("cache_creation_input_tokens"),
        count("cache_read_input_tokens"),
    )


def _searches(usage: Any) -> int:
    tools = usage.server_tool_use
    return (tools.web_search_requests or 0) if tools is not None else 0
