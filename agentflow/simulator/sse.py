"""A message as a stream of server-sent events: frames with the second each is due. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from agentflow.simulator import http
from agentflow.simulator.answers import block_tokens
from agentflow.simulator.reply import Frame
from agentflow.simulator.timing import StreamTiming
from agentflow.simulator.wire import (
    ENCODER,
    Block,
    DeltaUsage,
    ErrorObject,
    Message,
    RefusalDetails,
    StopReason,
    StreamError,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    Usage,
)


class MessageStart(msgspec.Struct, tag="message_start"):
    message: Message


class Ping(msgspec.Struct, tag="ping"):
    pass


class ContentBlockStart(msgspec.Struct, tag="content_block_start"):
    index: int
    content_block: Block


class TextDelta(msgspec.Struct, tag="text_delta"):
    text: str


class InputJsonDelta(msgspec.Struct, tag="input_json_delta"):
    partial_json: str


class ThinkingDelta(msgspec.Struct, tag="thinking_delta"):
    thinking: str


class SignatureDelta(msgspec.Struct, tag="signature_delta"):
    signature: str


Delta = TextDelta | InputJsonDelta | ThinkingDelta | SignatureDelta


class ContentBlockDelta(msgspec.Struct, tag="content_block_delta"):
    index: int
    delta: Delta


class ContentBlockStop(msgspec.Struct, tag="content_block_stop"):
    index: int


class Stop(msgspec.Struct):
    stop_reason: StopReason | None
    stop_sequence: str | None
    stop_details: RefusalDetails | None
    container: None = None


class MessageDelta(msgspec.Struct, tag="message_delta"):
    delta: Stop
    usage: DeltaUsage


class MessageStop(msgspec.Struct, tag="message_stop"):
    pass


Event = (
    MessageStart
    | Ping
    | ContentBlockStart
    | ContentBlockDelta
    | ContentBlockStop
    | MessageDelta
    | MessageStop
)

BROKEN_EVENT = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"de\n\n'
"""A frame whose data is no JSON."""


def encode(event: Event) -> bytes:
    """One event as it stands in the stream."""
    name = type(event).__struct_config__.tag
    return f"event: {name}\ndata: ".encode() + ENCODER.encode(event) + b"\n\n"


def encode_error(kind: str, message: str) -> bytes:
    """An error in the middle of a stream."""
    return (
        b"event: error\ndata: " + ENCODER.encode(StreamError(ErrorObject(kind, message))) + b"\n\n"
    )


def frames(message: Message, timing: StreamTiming, chunks: int) -> list[Frame]:
    """The chunked body of a stream, without its head and without the last, empty chunk.

    The first frame holds everything before the first delta, the last everything after the last
    one; each delta is a frame, so that a fault can cut between any two of them.
    """
    total = message.usage.output_tokens
    opening = encode(MessageStart(_opened(message))) + encode(Ping())
    plan: list[Frame] = []
    before, deltas, written = opening, 0, 0
    weight = sum(map(block_tokens, message.content)) or 1
    for index, block in enumerate(message.content):
        before += encode(ContentBlockStart(index, _emptied(block)))
        tokens = block_tokens(block)
        pieces = max(1, round(chunks * tokens / weight))
        for number, delta in enumerate(_deltas(block, pieces), start=1):
            if before:
                if not plan:
                    plan.append(Frame(timing.first, before))
                else:
                    plan[-1].data += before
                before = b""
            share = (written + tokens * min(1.0, number / pieces)) / weight
            data = encode(ContentBlockDelta(index, delta))
            plan.append(Frame(timing.due(share, deltas), data, round(total * share)))
            deltas += 1
        written += tokens
        before += encode(ContentBlockStop(index))
    if not plan:
        plan.append(Frame(timing.first, before))
        before = b""
    ending = MessageDelta(_stop(message), _delta_usage(message.usage))
    plan.append(Frame(timing.last, before + encode(ending) + encode(MessageStop()), total))
    return _chunked(plan)


def _chunked(plan: list[Frame]) -> list[Frame]:
    """Frames each chunk, and turns tokens so far into tokens since the frame before."""
    so_far = 0
    for frame in plan:
        frame.data = http.chunk(frame.data)
        frame.output_tokens, so_far = frame.output_tokens - so_far, frame.output_tokens
    return plan


def _opened(message: Message) -> Message:
    usage = msgspec.structs.replace(message.usage, output_tokens=1)
    return msgspec.structs.replace(
        message, content=[], stop_reason=None, stop_sequence=None, stop_details=None, usage=usage
    )


def _emptied(block: Block) -> Block:
    match block:
        case TextBlock():
            return TextBlock("")
        case ThinkingBlock():
            return ThinkingBlock("", "")
        case ToolUseBlock(name_id, name):
            return ToolUseBlock(name_id, name, {})


def _deltas(block: Block, pieces: int) -> Iterator[Delta]:
    match block:
        case TextBlock(text):
            yield from map(TextDelta, _pieces(text, pieces))
        case ThinkingBlock(thinking, signature):
            yield from map(ThinkingDelta, _pieces(thinking, pieces))
            yield SignatureDelta(signature)
        case ToolUseBlock(_, _, arguments):
            yield InputJsonDelta("")
            yield from map(InputJsonDelta, _pieces(ENCODER.encode(arguments).decode(), pieces))


def _pieces(text: str, count: int) -> list[str]:
    count = max(1, min(count, len(text)))
    return [text[len(text) * i // count : len(text) * (i + 1) // count] for i in range(count)]


def _stop(message: Message) -> Stop:
    return Stop(message.stop_reason, message.stop_sequence, message.stop_details)


def _delta_usage(usage: Usage) -> DeltaUsage:
    return DeltaUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_creation_input_tokens=usage.cache_creation_input_tokens,
        cache_read_input_tokens=usage.cache_read_input_tokens,
        output_tokens_details=usage.output_tokens_details,
    )
