"""A Messages request: is it valid, what does it say, how many tokens is it.

Only what an answer depends on is decoded; system, tools and the inputs of tools stay raw bytes,
because a Claude CLI sends 50 kB of them with every request.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

VERSIONS: Final = ("2023-06-01", "2026-10-21")
_WITHOUT_SAMPLING: Final = "2026-10-21"

_IMAGE_TOKENS: Final = 1_600
_DOCUMENT_TOKENS: Final = 3_000
_TURN_TOKENS: Final = 3
_REMINDER: Final = "<system-reminder>"


class InvalidRequest(ValueError):
    """The request breaks a rule of the API; the text goes into the 400."""


class InputBlock(msgspec.Struct):
    """A content block, as far as it matters here."""

    type: str
    text: str = ""
    content: Raw = Raw()
    input: Raw = Raw()
    thinking: str = ""


class Turn(msgspec.Struct):
    """One entry of `messages`."""

    role: Literal["user", "assistant", "system"]
    content: str | list[InputBlock]


class _Prompt(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields that both endpoints take; of some it matters only that there is such a field."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Turn], Meta(min_length=1)]
    system: Raw = Raw()
    tools: Raw = Raw()
    output_config: Raw = Raw()
    output_format: Raw = Raw()
    billing_policy: Raw = Raw()
    cache_control: Raw = Raw()
    compaction: Raw = Raw()
    context_management: Raw = Raw()
    mcp_servers: Raw = Raw()
    speed: Raw = Raw()
    thinking: Raw = Raw()
    tool_choice: Raw = Raw()
    user_profile_id: Raw = Raw()
    workspace_id: Raw = Raw()


class CountRequest(_Prompt):
    """The body of POST /v1/messages/count_tokens."""


class MessagesRequest(_Prompt, kw_only=True):
    """The body of POST /v1/messages."""

    max_tokens: Annotated[int, Meta(ge=1)]
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Raw | UnsetType = UNSET
    top_p: Raw | UnsetType = UNSET
    top_k: Raw | UnsetType = UNSET
    container: Raw = Raw()
    diagnostics: Raw = Raw()
    fallback_credit_token: Raw = Raw()
    fallbacks: Raw = Raw()
    inference_geo: Raw = Raw()
    metadata: Raw = Raw()
    service_tier: Raw = Raw()
    thread: Raw = Raw()


_messages_decoder = msgspec.json.Decoder(MessagesRequest)
_count_decoder = msgspec.json.Decoder(CountRequest)


def parse_messages(body: bytes, version: str) -> MessagesRequest:
    """The request; raises InvalidRequest."""
    request = decode(_messages_decoder, body)
    if version == _WITHOUT_SAMPLING:
        for name in ("temperature", "top_p", "top_k"):
            if getattr(request, name) is not UNSET:
                raise InvalidRequest(f"{name}: not accepted by anthropic-version {version}")
    if request.messages[0].role == "assistant":
        raise InvalidRequest("messages: the first message must have the role user")
    return request


def parse_count(body: bytes) -> CountRequest:
    """The request; raises InvalidRequest."""
    return decode(_count_decoder, body)


_R = TypeVar("_R")


def decode(decoder: msgspec.json.Decoder[_R], body: bytes) -> _R:
    """What a body says; raises InvalidRequest as the API words it."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_with_path_first(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("The request body is nested too deeply") from None


_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$\.?(.*)`)?")
_WRONG = re.compile(r"(.*) - at `\$\.?(.*)`")


def _with_path_first(message: str) -> str:
    """`messages.0.role: ...`, the order in which the API names a field and its fault."""
    if unknown := _UNKNOWN.fullmatch(message):
        field, path = unknown.groups()
        return f"{_dotted(path + '.' if path else '')}{field}: Extra inputs are not permitted"
    if missing := _MISSING.fullmatch(message):
        field, path = missing.groups()
        return f"{_dotted(path + '.' if path else '')}{field}: Field required"
    if wrong := _WRONG.fullmatch(message):
        return f"{_dotted(wrong[2])}: {wrong[1]}"
    return message


def _dotted(path: str) -> str:
    return re.sub(r"\[(\d+)\]", r".\1", path)


def last_user_text(request: MessagesRequest) -> str:
    """What the newest user turn that has text says."""
    for turn in reversed(request.messages):
        if turn.role == "user" and (text := _turn_text(turn)):
            return text
    return ""


def prompt_text(request: MessagesRequest) -> str:
    """All that the conversation says, for `match`: a later turn still belongs to its task."""
    return "\n".join(
        turn.content
        if isinstance(turn.content, str)
        else "\n".join(block.text or _result_text(block) for block in turn.content)
        for turn in request.messages
    )


def tool_turns_done(request: MessagesRequest) -> int:
    """Turns of tool results since the user last asked for something."""
    done = 0
    for turn in reversed(request.messages):
        if turn.role != "user":
            continue
        if isinstance(turn.content, str) or not any(
            block.type == "tool_result" for block in turn.content
        ):
            break
        done += 1
    return done


def _turn_text(turn: Turn) -> str:
    if isinstance(turn.content, str):
        return turn.content
    # A Claude CLI wraps the prompt in reminders of its own; they are not what the user said.
    own = [b.text for b in turn.content if b.text and not b.text.startswith(_REMINDER)]
    return "\n".join(own) or "\n".join(filter(None, map(_result_text, turn.content)))


def _result_text(block: InputBlock) -> str:
    if block.type != "tool_result" or not len(block.content):
        return ""
    content = msgspec.json.decode(block.content)
    if isinstance(content, str):
        return content
    parts: list[Any] = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if "text" in part)


def text_tokens(text: str) -> int:
    """An estimate: a token is about four characters."""
    return (len(text) + 3) // 4


def input_tokens(request: MessagesRequest | CountRequest) -> int:
    """An estimate of what the request costs to read."""
    raw = len(request.system) + len(request.tools)
    tokens = (raw + 3) // 4
    for turn in request.messages:
        tokens += _TURN_TOKENS
        if isinstance(turn.content, str):
            tokens += text_tokens(turn.content)
        else:
            tokens += sum(map(block_tokens, turn.content))
    return max(1, tokens)


def block_tokens(block: InputBlock) -> int:
    """An estimate of what a block costs to read."""
    # Base64 is not read as text: a picture of a megabyte would cost a quarter of a million.
    if block.type == "image":
        return _IMAGE_TOKENS
    if block.type == "document":
        return _DOCUMENT_TOKENS
    said = text_tokens(block.text) + text_tokens(block.thinking)
    return said + (len(block.content) + len(block.input) + 3) // 4
