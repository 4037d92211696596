"""The message that answers a request: content by the knobs, stop reason, usage. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from agentflow.simulator import caching, messages, prose, schema
from agentflow.simulator.caching import Cached
from agentflow.simulator.knobs import Knobs, ToolCall, UsageOverride
from agentflow.simulator.messages import MessagesRequest
from agentflow.simulator.wire import (
    ENCODER,
    MARKER,
    Block,
    CacheCreation,
    Message,
    OutputTokensDetails,
    RefusalDetails,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    Usage,
)


class _Answer(msgspec.Struct):
    content: list[Block]
    stop_reason: StopReason = "end_turn"
    stop_sequence: str | None = None


BREAKING: Final = f"{MARKER}This breaks the schema."


def compose(
    request: MessagesRequest,
    knobs: Knobs,
    prompt: str,
    name: str,
    *,
    breaks: bool = False,
    cached: Cached = caching.NOTHING,
) -> Message:
    """The whole message. `name` makes its ids unique; `prompt` is what the user last said.

    `breaks`: an answer to a schema does not fit it. `cached`: what the prompt cache does with it.
    """
    content = _content(request, knobs, prompt, name)
    if breaks and _output_schema(request) is not None and content.stop_reason == "end_turn":
        content.content = [TextBlock(BREAKING)]
    answer = _cut(content, request, knobs)
    refused = answer.stop_reason == "refusal"
    return Message(
        id=f"msg_{name}",
        model=knobs.model or request.model,
        content=answer.content,
        stop_reason=answer.stop_reason,
        stop_sequence=answer.stop_sequence,
        stop_details=RefusalDetails("general_harms", f"{MARKER}A refusal.") if refused else None,
        usage=_usage(messages.input_tokens(request), cached, answer.content, knobs.usage),
    )


def _content(request: MessagesRequest, knobs: Knobs, prompt: str, name: str) -> _Answer:
    kind = knobs.content or ("tool_use" if knobs.tools is not None else "answer")
    text = knobs.text if knobs.text is not None else prose.answer(prompt)
    match kind:
        case "answer":
            if knobs.text is None and (wanted := _output_schema(request)) is not None:
                text = ENCODER.encode(schema.example(wanted)).decode()
            return _Answer([TextBlock(text)])
        case "echo":
            return _Answer([TextBlock(prompt)])
        case "tool_use":
            calls = _tool_calls(request, knobs)
            if not calls:
                return _Answer([TextBlock(text)])
            blocks: list[Block] = [
                ToolUseBlock(f"toolu_{name}{index:02d}", call.name, call.input)
                for index, call in enumerate(calls)
            ]
            return _Answer(blocks, "tool_use")
        case "thinking":
            thought = f"{MARKER}Thinking about it." if knobs.thinking is None else knobs.thinking
            return _Answer([ThinkingBlock(thought, f"simulated-{name}"), TextBlock(text)])
        case "refusal":
            return _Answer([] if knobs.text is None else [TextBlock(text)], "refusal")
        case "pause_turn":
            return _Answer([TextBlock(text)], "pause_turn")
        case "text" | "max_tokens":
            return _Answer([TextBlock(text)])


def _tool_calls(request: MessagesRequest, knobs: Knobs) -> list[ToolCall]:
    done = messages.tool_turns_done(request)
    if knobs.tools is not None:
        turns = [turn if isinstance(turn, list) else [turn] for turn in knobs.tools]
        return turns[done] if done < len(turns) else []
    offered: list[dict[str, Any]] = msgspec.json.decode(request.tools or b"[]")
    # Only a tool with a schema is the client's own to run; the others live on the server.
    own = next((tool for tool in offered if "input_schema" in tool), None)
    if own is None or done:
        return []
    arguments = schema.example(own["input_schema"])
    return [ToolCall(str(own.get("name", "")), arguments if isinstance(arguments, dict) else {})]


def _output_schema(request: MessagesRequest) -> dict[str, Any] | None:
    form: Any = None
    if len(request.output_config):
        config = msgspec.json.decode(request.output_config)
        form = config.get("format") if isinstance(config, dict) else None
    elif len(request.output_format):
        form = msgspec.json.decode(request.output_format)
    if isinstance(form, dict) and isinstance(form.get("schema"), dict):
        wanted: dict[str, Any] = form["schema"]
        return wanted
    return None


def _cut(answer: _Answer, request: MessagesRequest, knobs: Knobs) -> _Answer:
    """Ends the last text where a stop sequence or the limit of tokens ends it."""
    if not answer.content or not isinstance(answer.content[-1], TextBlock):
        return answer
    text = answer.content[-1].text
    stops = [(at, stop) for stop in request.stop_sequences or () if (at := text.find(stop)) >= 0]
    if stops:
        at, stop = min(stops)
        text = text[:at]
        answer.stop_reason, answer.stop_sequence = "stop_sequence", stop
    limit = request.max_tokens
    if knobs.content == "max_tokens":
        limit = max(1, min(limit, messages.text_tokens(text) - 1))
    if messages.text_tokens(text) > limit or knobs.content == "max_tokens":
        text = text[: limit * 4]
        answer.stop_reason, answer.stop_sequence = "max_tokens", None
    answer.content[-1] = TextBlock(text)
    return answer


def block_tokens(block: Block) -> int:
    """An estimate of what a block costs to write; at least 1."""
    match block:
        case TextBlock(text):
            return max(1, messages.text_tokens(text))
        case ThinkingBlock(thinking):
            return max(1, messages.text_tokens(thinking))
        case ToolUseBlock(_, name, arguments):
            return max(1, messages.text_tokens(name) + len(ENCODER.encode(arguments)) // 4)


def _usage(
    input_tokens: int, cached: Cached, content: list[Block], override: UsageOverride | None
) -> Usage:
    thinking = sum(block_tokens(b) for b in content if isinstance(b, ThinkingBlock))
    usage = Usage(
        input_tokens=input_tokens - cached.read - cached.written,
        output_tokens=max(1, sum(map(block_tokens, content))),
        cache_creation_input_tokens=cached.written,
        cache_read_input_tokens=cached.read,
        cache_creation=CacheCreation(cached.written - cached.written_1h, cached.written_1h),
        output_tokens_details=OutputTokensDetails(thinking),
    )
    if override is None:
        return usage
    if override.input_tokens is not None:
        usage.input_tokens = override.input_tokens
    if override.output_tokens is not None:
        usage.output_tokens = override.output_tokens
    if override.thinking_tokens is not None:
        usage.output_tokens_details = OutputTokensDetails(override.thinking_tokens)
    usage.cache_read_input_tokens = override.cache_read_input_tokens or 0
    usage.cache_creation_input_tokens = override.cache_creation_input_tokens or 0
    one_hour = override.ephemeral_1h_input_tokens
    five_minutes = max(0, usage.cache_creation_input_tokens - one_hour)
    usage.cache_creation = CacheCreation(five_minutes, one_hour)
    return usage
