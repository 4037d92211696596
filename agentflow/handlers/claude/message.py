"""A message put together from the events of its stream, whatever they leave out. Pure.

An answer is complete when its last event came, or when its reason to stop came and the stream
ended: everything else that is missing gets its default and is named in `assumed`, because to ask
again would be to pay again. Text is what most streams are made of, so a text delta costs little
more than two appends.

Blocks are found by their index. A gateway that counts wrongly shows itself by beginning a block
where one has ended, or by a delta that the block cannot hold: that begins a block of its own.
"""

from __future__ import annotations

import json
from typing import Any, Final

from agentflow.handlers.claude.reader import loads
from agentflow.handlers.contract import Outcome
from agentflow.protocol.record import Usage
from agentflow.rules.routes import usage

_FIELDS: Final = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "tool_use"),
}
"""Deltas whose pieces are joined: the field of the piece, and the block it belongs into."""


class Refused(Exception):
    """The stream holds an error instead of the rest of its answer: the error's object."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.error = error


class _Block:
    """A content block as it began, and the pieces of each of its fields."""

    __slots__ = ("body", "ended", "pieces")

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.ended = False
        self.pieces: dict[str, list[str]] = {}


class Message:
    """What has come so far. `complete` once nothing more can come that belongs to it."""

    __slots__ = (
        "_blocks",
        "_half",
        "_last",
        "_loose",
        "_places",
        "assumed",
        "characters",
        "complete",
        "ended_usage",
        "id",
        "model",
        "pinged",
        "started",
        "stop_details",
        "stop_reason",
        "stop_sequence",
        "told",
    )

    def __init__(self) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.told: dict[str, Any] = {}
        """Usage as it came."""
        self.pinged = False
        """Whether there was a sign of life that is no part of an answer."""
        self.started = False
        self.ended_usage = False
        """Whether usage came at the answer's end; that of its beginning counts no output."""
        self.stop_reason: str | None = None
        self.stop_sequence: str | None = None
        self.stop_details: Any = None
        self.complete = False
        self.characters = 0
        """Of text, thinking and tool inputs that came."""
        self.assumed: dict[str, None] = {}
        self._blocks: list[_Block] = []
        self._places: dict[int, _Block] = {}
        self._last = 0
        self._half: tuple[list[str], str] | None = None
        self._loose = False

    def take(self, name: str, event: dict[str, Any], loose: bool = False) -> str | None:
        """Take an event; returns the text in it that a person may see. Raises Refused."""
        if self.complete:
            return None
        self._loose = self._loose or loose
        if not name or (name == "message" and "content" not in event):
            name = _guessed(event)
        match name:
            case "content_block_delta":
                return self._delta(event)
            case "content_block_start":
                return self._begin(event)
            case "content_block_stop":
                block = self._places.get(self._index(event))
                if block is not None:
                    block.ended = True
            case "message_start":
                self._start(_object(event, "message") or event)
            case "message_delta":
                delta = _object(event, "delta")
                self._stop(delta)
                self._spent(event.get("usage") or delta.get("usage"), True)
            case "message_stop":
                self._spent(event.get("usage"), True)
                self.complete = True
            case "message":
                return self._whole(event)
            case "error":
                raise Refused(event)
            case "ping":
                self.pinged = True
            case _:
                if isinstance(event.get("error"), dict | str):
                    raise Refused(event)
        return None

    # The events.

    def _start(self, message: dict[str, Any]) -> None:
        told = _text(message, "id")
        again = self.started
        if again and self._blocks and told != self.id:
            # A gateway began anew with another server: what the first one said is not the answer.
            self._blocks, self._places, self._half = [], {}, None
            self.characters = 0
            self.assumed["restarted"] = None
            again = False
        self.started = True
        self.id = told or self.id
        self.model = _text(message, "model") or self.model
        self._spent(message.get("usage"), False)
        content = message.get("content")
        for block in content if isinstance(content, list) and not again else ():
            if isinstance(block, dict):
                self._open(len(self._blocks), dict(block))

    def _spent(self, told: object, at_end: bool) -> None:
        if isinstance(told, dict):
            usage.add(self.told, told)
            self.ended_usage = self.ended_usage or at_end

    def _stop(self, delta: dict[str, Any]) -> None:
        self.stop_reason = _text(delta, "stop_reason") or self.stop_reason
        self.stop_sequence = _text(delta, "stop_sequence") or self.stop_sequence
        if delta.get("stop_details") is not None:
            self.stop_details = delta["stop_details"]

    def _whole(self, message: dict[str, Any]) -> str | None:
        """A message in one piece, as an answer or within a stream."""
        self._blocks, self._places, self.characters, self.started = [], {}, 0, False
        self._start(message)
        self._stop(message)
        self.ended_usage = isinstance(message.get("usage"), dict)
        self.complete = True
        content = message.get("content")
        if isinstance(content, str):
            self._open(0, {"type": "text", "text": content})
        for block in self._blocks:
            text = block.body.get("text") or block.body.get("thinking")
            self.characters += len(text) if isinstance(text, str) else 0
        texts = (block.body.get("text") for block in self._blocks)
        return well_formed("".join(text for text in texts if isinstance(text, str))) or None

    def _begin(self, event: dict[str, Any]) -> str | None:
        index, body = self._index(event), _object(event, "content_block")
        there = self._places.get(index)
        if there is not None and not there.ended and there.body.get("type") == body.get("type"):
            return None  # the same event twice
        self._open(index, dict(body))
        text = body.get("text") or body.get("thinking")
        if not isinstance(text, str):
            return None
        self.characters += len(text)
        return str(well_formed(text)) if body.get("type") == "text" else None

    def _open(self, index: int, body: dict[str, Any]) -> _Block:
        block = self._places[index] = _Block(body)
        self._blocks.append(block)
        self._last = index
        return block

    def _index(self, event: dict[str, Any]) -> int:
        index = event.get("index")
        return index if type(index) is int else self._last

    def _delta(self, event: dict[str, Any]) -> str | None:
        delta = event.get("delta")
        if type(delta) is not dict:
            return None
        kind = delta.get("type")
        if type(kind) is not str or kind not in _FIELDS:
            kind = _kind(delta)
        index = event.get("index")
        block = self._places.get(index if type(index) is int else self._last)
        joined = _FIELDS.get(kind)
        if joined is None:
            self._other(kind, delta, block or self._missing(event, _OTHERS.get(kind, "unknown")))
            return None
        field, of = joined
        if block is None or not _holds(block.body, field, of):
            block = self._missing(event, of)
        piece = delta.get(field)
        if type(piece) is not str:
            if type(piece) is not dict:
                return None
            piece = json.dumps(piece)  # the whole input, and not its text
        pieces = block.pieces.get(field)
        if pieces is None:
            pieces = block.pieces[field] = []
        if self._loose:
            piece = self._with_half(pieces, piece)
        self.characters += len(piece)
        pieces.append(piece)
        return piece if field == "text" else None

    def _missing(self, event: dict[str, Any], kind: str) -> _Block:
        self.assumed["content_block_start"] = None
        body: dict[str, Any] = {"type": kind}
        if kind == "tool_use":
            body["input"] = {}
        return self._open(self._index(event), body)

    def _other(self, kind: str, delta: dict[str, Any], block: _Block) -> None:
        body = block.body
        match kind:
            case "signature_delta":
                body["signature"] = delta.get("signature")
            case "citations_delta":
                body["citations"] = [*(body.get("citations") or ()), delta.get("citation")]
            case "compaction_delta":
                body |= {name: value for name, value in delta.items() if name != "type"}
            case _:
                # Of a later API: kept as it came, because it was paid for.
                body["deltas"] = [*(body.get("deltas") or ()), delta]

    def _with_half(self, pieces: list[str], piece: str) -> str:
        """Half of a surrogate pair at a piece's end waits for the next piece of its block."""
        if self._half is not None:
            waiting, half = self._half
            if waiting is pieces:
                piece, self._half = half + piece, None
            else:
                self._give_up_half()
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            self._half = pieces, piece[-1]
            piece = piece[:-1]
        return str(well_formed(piece))

    def _give_up_half(self) -> None:
        if self._half is not None:
            self._half[0].append("\N{REPLACEMENT CHARACTER}")
            self._half = None

    # What it came to.

    @property
    def ended(self) -> bool:
        """Whether the end of the stream, now, would be the answer's."""
        return self.complete or self.stop_reason is not None

    @property
    def begun(self) -> bool:
        """Whether anything of an answer came."""
        return self.started or bool(self._blocks) or self.stop_reason is not None

    def missing(self, counts: Usage) -> list[str]:
        """What the answer left out, and was given its default or an estimate."""
        missing = list(self.assumed)
        if not self.started:
            missing.append("message_start")
        if self.model is None:
            missing.append("model")
        if self.stop_reason is None:
            missing.append("stop_reason")
        if not self.complete:
            missing.append("message_stop")
        if counts.total == counts.output_tokens:
            missing.append("input_tokens")
        if not self.ended_usage or (not counts.output_tokens and self.characters):
            missing.append("output_tokens")
        return missing

    def outcome(self) -> Outcome:
        """All that came. `content` only when it is more than one block of plain text."""
        self._give_up_half()
        blocks = [_finished(block) for block in self._blocks]
        value = {}
        if self.stop_sequence is not None:
            value["stop_sequence"] = self.stop_sequence
        if self.stop_details is not None:
            value["stop_details"] = self.stop_details
        texts = [block["text"] for block in blocks if block.get("type") == "text"]
        plain = len(blocks) == len(texts) <= 1 and not any(map(_has_more, blocks))
        text = "".join(texts)
        return Outcome(
            text=(well_formed(text) if self._loose else text) if texts else None,
            content=None if plain else well_formed(blocks),
            stop_reason=self.stop_reason,
            value=well_formed(value) or None,
        )


_OTHERS: Final = {
    "signature_delta": "thinking",
    "citations_delta": "text",
    "compaction_delta": "compaction",
}


def well_formed(value: Any) -> Any:
    """JSON's own types with pairs of surrogate halves joined and single halves replaced."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {well_formed(name): well_formed(part) for name, part in value.items()}
    if isinstance(value, list):
        return [well_formed(part) for part in value]
    return value


def _guessed(event: dict[str, Any]) -> str:
    """The name of an event that has none."""
    if "delta" in event:
        return "content_block_delta" if "index" in event else "message_delta"
    if "content_block" in event:
        return "content_block_start"
    if isinstance(event.get("message"), dict):
        return "message_start"
    if isinstance(event.get("content"), list) and "role" in event:
        return "message"
    return ""


def _object(event: dict[str, Any], name: str) -> dict[str, Any]:
    value = event.get(name)
    return value if isinstance(value, dict) else {}


def _text(thing: dict[str, Any], name: str) -> str | None:
    value = thing.get(name)
    return well_formed(value) if isinstance(value, str) and value else None


def _kind(delta: dict[str, Any]) -> str:
    """What a delta is whose type is not one of those that are joined."""
    told = delta.get("type")
    if isinstance(told, str):
        return f"{told}_delta" if f"{told}_delta" in _FIELDS else told
    return next((kind for kind, (field, _) in _FIELDS.items() if field in delta), "")


def _holds(body: dict[str, Any], field: str, of: str) -> bool:
    """Whether a block may have this field: one of a type that is not known may have any."""
    kind = body.get("type")
    if not isinstance(kind, str):
        body["type"] = of
        return True
    if field == "partial_json":
        return kind not in ("text", "thinking")
    return kind == of or kind not in ("text", "thinking", "redacted_thinking", "tool_use")


def _finished(block: _Block) -> dict[str, Any]:
    body = block.body
    if not isinstance(body.get("type"), str):
        body["type"] = "text" if isinstance(body.get("text"), str) else "unknown"
    for field, pieces in block.pieces.items():
        joined = "".join(pieces)
        if field != "partial_json":
            begun = body.get(field)
            body[field] = (begun if isinstance(begun, str) else "") + joined
        elif joined:
            # The input of a tool. One that was cut off is kept as the text it is.
            try:
                body["input"] = loads(joined)[0]
            except ValueError:
                body["input"] = joined
    if body["type"] == "text" and not isinstance(body.get("text"), str):
        body["text"] = ""
    return body


def _has_more(block: dict[str, Any]) -> bool:
    return bool(block.get("citations") or block.get("deltas"))
