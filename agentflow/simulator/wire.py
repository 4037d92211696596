"""The shapes of the Messages API, as they stand on the wire."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

ENCODER: Final = msgspec.json.Encoder()

MARKER: Final = "[SIMULATED] "
"""Stands before every text that was not asked for word by word: it must not pass for Claude's."""

StopReason = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
]


class CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class OutputTokensDetails(msgspec.Struct):
    thinking_tokens: int = 0


class Usage(msgspec.Struct):
    """Tokens. The whole input is input + cache creation + cache read."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation: CacheCreation = msgspec.field(default_factory=CacheCreation)
    output_tokens_details: OutputTokensDetails = msgspec.field(default_factory=OutputTokensDetails)
    server_tool_use: None = None
    service_tier: str = "standard"
    inference_geo: str = "global"


class DeltaUsage(msgspec.Struct):
    """The cumulative usage at the end of a stream."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens_details: OutputTokensDetails
    server_tool_use: None = None


class TextBlock(msgspec.Struct, tag="text"):
    text: str


class ThinkingBlock(msgspec.Struct, tag="thinking"):
    thinking: str
    signature: str


class ToolUseBlock(msgspec.Struct, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


Block = TextBlock | ThinkingBlock | ToolUseBlock


class RefusalDetails(msgspec.Struct, tag="refusal"):
    category: str | None
    explanation: str | None


class Message(msgspec.Struct, tag="message"):
    id: str
    model: str
    content: list[Block]
    stop_reason: StopReason | None
    usage: Usage
    role: str = "assistant"
    stop_sequence: str | None = None
    stop_details: RefusalDetails | None = None
    container: None = None


class TokenCount(msgspec.Struct):
    input_tokens: int


class ErrorDetails(msgspec.Struct):
    error_code: str


class ErrorObject(msgspec.Struct, omit_defaults=True):
    type: str
    message: str
    details: ErrorDetails | None = None


class ErrorBody(msgspec.Struct, tag="error"):
    error: ErrorObject
    request_id: str


class StreamError(msgspec.Struct, tag="error"):
    """An error after the 200 has gone out."""

    error: ErrorObject


_ERROR_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_ERROR_STATUSES: Final = {
    **{name: status for status, name in _ERROR_TYPES.items() if status != 408},
    "invalid_request_error": 400,
}


def error_type(status: int) -> str:
    """The `error.type` that goes with a status."""
    return _ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def error_status(kind: str) -> int:
    """The status an error type has when it comes before the answer; 500 when it has no own."""
    return _ERROR_STATUSES.get(kind, 500)


def error_body(
    status: int, message: str, request_id: str, *, kind: str | None = None, code: str | None = None
) -> bytes:
    """The JSON of an error response."""
    details = ErrorDetails(code) if code is not None else None
    error = ErrorObject(kind or error_type(status), message, details)
    return ENCODER.encode(ErrorBody(error, request_id))
