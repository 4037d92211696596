"""What a simulator can be told to do, and which order of four wins.

    server default  <  sticky mode  <  scripted step  <  header `x-fake`

A layer is the JSON object as it was given, so it holds only what was named. Layers are laid over
each other field by field, with one exception: a layer that names a failure (or a content) replaces
the whole failure (or content) below it. Without that a scripted `{"status": 400}` would inherit
the `p` of a mode that fails one call in ten, and mostly not fail.

Chance is drawn from the seed, the prompt and how often that prompt was seen before, never from
the order of arrival: the same thousand tasks meet the same faults at any concurrency.
"""

from __future__ import annotations

import base64
import math
import random
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from agentflow.simulator.limits import Limits

Layer = dict[str, Any]
"""Knobs as given: field name to plain JSON value."""

Seconds = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]

Fault = Literal[
    "drop",  # FIN before any byte
    "reset",  # RST before any byte
    "drop_mid",  # FIN in the middle of the body
    "truncated_json",  # a whole response whose JSON stops half-way
    "malformed_sse",  # a frame of the stream is not JSON
    "sse_error",  # `event: error` after the 200, of type `error_type`
    "hang",  # no byte, ever
    "html",  # an error page as a proxy sends it, with `status` or 500
]

Content = Literal[
    "answer", "text", "echo", "tool_use", "thinking", "refusal", "max_tokens", "pause_turn"
]


class KnobError(ValueError):
    """These knobs mean nothing; the text says which and why."""


class Const(msgspec.Struct, tag="const", tag_field="kind", forbid_unknown_fields=True):
    """Always the same."""

    seconds: Seconds


class Uniform(msgspec.Struct, tag="uniform", tag_field="kind", forbid_unknown_fields=True):
    """Evenly between two."""

    low: Seconds
    high: Seconds


class LogNormal(msgspec.Struct, tag="lognormal", tag_field="kind", forbid_unknown_fields=True):
    """Half below p50, one in a hundred above p99: the shape real latencies have."""

    p50: Positive
    p99: Positive


class ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    """One call of a tool."""

    name: str
    input: dict[str, Any] = {}


class UsageOverride(msgspec.Struct, forbid_unknown_fields=True):
    """Token counts to report instead of the estimate."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count = 0
    thinking_tokens: Count | None = None


class Raw(msgspec.Struct, forbid_unknown_fields=True):
    """A body sent as it is given, whatever the API would send: what gateways make of it.

    A piece is text, an event's object (its name is its `type`), or bytes: `{"base64": ...}`.
    """

    pieces: list[str | dict[str, Any]]
    content_type: str = "text/event-stream; charset=utf-8"
    headers: dict[str, str] = {}
    gap: Seconds = 0.0
    """Before each piece but the first."""

    end: Literal["end", "close", "reset", "hang"] = "end"
    """What follows: the body's end, FIN or RST without it, or nothing."""

    hold: Seconds = 0.0
    """Before that."""


class BatchKnobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How Message Batches go. Times are seconds; shares are drawn from the seed and the batch."""

    processing: Seconds | Const | Uniform | LogNormal = 0.0
    """From the create until a batch ends."""
    canceling: Seconds = 0.0
    """From a cancel until it ends."""
    expires: Positive = 86_400.0
    """What has no answer by then has expired."""
    errored: Share = 0.0
    expired: Share = 0.0
    """Shares of the requests that end so."""
    listed_after: Seconds = 0.0
    """How long a batch that was made is neither found nor listed."""
    lost: Share = 0.0
    """Of the creates that are done and not answered."""
    lost_by: Literal["drop", "reset", "hang", "500"] = "drop"
    refused: Share = 0.0
    """Of the creates that are not done, answered with `refused_by`."""
    refused_by: Annotated[int, Meta(ge=400, le=599)] = 429
    retry_after: Seconds = 1.0
    cut: Share = 0.0
    """Of the reads of results whose connection breaks half-way."""
    short: Share = 0.0
    """Of the reads of results that end in order, their last line missing."""
    missing: Share = 0.0
    """Of the looks at a batch that are answered with 404."""
    strict: bool = False
    """A create is refused for a request whose params are none; else that request is errored."""
    queued_most: Annotated[int, Meta(ge=1)] | None = None
    """Requests in the queue; a create that would make more is 429."""
    bytes_most: Annotated[int, Meta(ge=1)] | None = None
    """Of a create's body; a larger one is 413. The API's own limit is 256 MB."""


class Knobs(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How one request is answered. Times are seconds."""

    latency: Seconds | Const | Uniform | LogNormal = 0.0
    """Of the whole answer; with `tokens_per_s`, until the first token."""

    ttft: Share = 0.1
    """Share of the latency before a stream's first byte (without `tokens_per_s`)."""

    tokens_per_s: Positive | None = None
    chunks: Annotated[int, Meta(ge=1)] | None = None
    """Deltas of a stream; without it, at most 20 or 20 a second."""

    stall: Seconds = 0.0
    """A gap of silence in the middle of the answer."""

    stall_after: Count = 1
    """Deltas before the gap."""

    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    """An error to answer; 200 asks for success in spite of a layer below."""

    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    retry_after: float | str | None = None
    """Seconds, or the header's text (an HTTP date)."""

    retry_after_ms: float | None = None
    should_retry: bool | None = None
    error_after: Seconds = 0.0
    """How long the error takes to come."""

    fault: Fault | None = None
    raw: Raw | None = None
    """With `status`, else 200."""

    p: Share = 1.0
    """Probability of `status` or `fault`."""

    seed: int = 0

    content: Content | None = None
    model: str | None = None
    """The name of the model that answers, where it is not the one asked."""
    text: str | None = None
    thinking: str | None = None
    tools: list[ToolCall | list[ToolCall]] | None = None
    """Tool calls, one turn each; a list is a turn of parallel calls. Then a text."""

    breaking: Share = 0.0
    """Share of the answers to a schema that break it."""

    usage: UsageOverride | None = None
    limits: Limits | None = None
    """Rate limits; they outlive a request, so only the server default and the mode have them."""
    batches: BatchKnobs | None = None
    """The same holds for these."""


_FAILURE: Final = frozenset(
    {"status", "fault", "raw", "p", "error_after", "error_code", "error_message", "error_type"}
    | {"retry_after", "retry_after_ms", "should_retry"}
)
_CONTENT: Final = frozenset({"content", "text", "thinking", "tools"})
_GROUPS: Final = ((frozenset({"status", "fault", "raw"}), _FAILURE), (_CONTENT, _CONTENT))


def as_layer(knobs: Knobs) -> Layer:
    """The fields of `knobs` that are not the default."""
    layer: Layer = msgspec.to_builtins(knobs)
    return layer


def checked(layer: Mapping[str, Any], *, sticky: bool) -> Layer:
    """The layer, if it is one; raises KnobError.

    `sticky` layers (the default, the mode) may hold rate limits.
    """
    try:
        msgspec.convert(dict(layer), Knobs)
    except msgspec.ValidationError as error:
        raise KnobError(str(error)) from None
    for piece in (layer.get("raw") or {}).get("pieces", ()):
        piece_bytes(piece)
    for name in ("limits", "batches"):
        if name in layer and not sticky:
            raise KnobError(f"`{name}` outlives a request: set it in the mode")
    return dict(layer)


def parse_layer(text: bytes | str, *, sticky: bool = False) -> Layer:
    """A layer out of JSON; raises KnobError."""
    try:
        layer = msgspec.json.decode(text, type=Layer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KnobError(str(error)) from None
    return checked(layer, sticky=sticky)


def piece_bytes(piece: str | dict[str, Any]) -> bytes:
    """A piece of a raw body as it is sent; raises KnobError."""
    if isinstance(piece, str):
        return piece.encode("utf-8", "surrogatepass")
    if piece.keys() == {"base64"}:
        try:
            return base64.b64decode(piece["base64"], validate=True)
        except (ValueError, TypeError):
            raise KnobError("raw: a piece is not Base64") from None
    if not isinstance(piece.get("type"), str):
        raise KnobError("raw: a piece is an event without a type")
    return f"event: {piece['type']}\ndata: ".encode() + msgspec.json.encode(piece) + b"\n\n"


def overlay(*layers: Layer) -> Layer:
    """The layers as one, later ones over earlier ones."""
    merged: Layer = {}
    for layer in layers:
        for marks, group in _GROUPS:
            if not marks.isdisjoint(layer):
                for name in group:
                    merged.pop(name, None)
        merged.update(layer)
    return merged


def knobs_of(layer: Layer) -> Knobs:
    """The knobs of a checked layer."""
    return msgspec.convert(layer, Knobs)


class Chance:
    """The draws of one request, in a fixed order: failure first, then latency."""

    def __init__(self, seed: int, prompt: str, seen: int) -> None:
        self._key = (seed, seen, prompt)
        self._random: random.Random | None = None

    def _generator(self) -> random.Random:
        # Seeding costs more than everything else a plain request does, so only chance pays it.
        if self._random is None:
            self._random = random.Random("{}:{}:{}".format(*self._key))
        return self._random

    def fails(self, knobs: Knobs) -> bool:
        """Whether the failure of `knobs` happens this time."""
        if knobs.p >= 1.0:
            return True
        return self._generator().random() < knobs.p

    def share(self) -> float:
        """Evenly from 0 to 1."""
        return self._generator().random()

    def breaks(self, knobs: Knobs) -> bool:
        """Whether an answer to a schema breaks it this time; draws for itself."""
        if not 0.0 < knobs.breaking < 1.0:
            return knobs.breaking > 0.0
        drawn = random.Random("breaking:{}:{}:{}".format(*self._key)).random()
        return drawn < knobs.breaking

    def latency(self, knobs: Knobs) -> float:
        """Seconds."""
        return self.seconds(knobs.latency)

    def seconds(self, told: float | Const | Uniform | LogNormal) -> float:
        """A duration as it is told."""
        match told:
            case Const(seconds):
                return seconds
            case Uniform(low, high):
                return self._generator().uniform(low, high)
            case LogNormal(p50, p99):
                z_of_p99 = 2.3263478740408408
                sigma = max(0.0, math.log(p99 / p50)) / z_of_p99
                return self._generator().lognormvariate(math.log(p50), sigma)
            case float() | int() as seconds:
                return float(seconds)


def without_failure(knobs: Knobs) -> Knobs:
    """The same knobs for a request that chance spares."""
    return msgspec.structs.replace(knobs, status=None, fault=None, raw=None)
