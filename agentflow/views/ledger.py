"""A result as a line of a job's results.jsonl.

What a line has is read back by later versions, so a field is added and never taken away.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agentflow.protocol.record import Failure, Record, State, Timings, Usage
from agentflow.views.result import Result, result_of_record

_WRITTEN: Final = (
    *("line", "id", "state", "text", "value", "content", "usage", "cost_usd", "stop_reason"),
    *("attempts", "timings", "error", "reason", "kind", "model", "labels", "request"),
    *("truncated", "simulated", "unpriced", "estimated", "partial"),
)
"""In this order: every line begins with `{"line":`."""


class Line(Result, frozen=True, kw_only=True):
    """A result, with the `line` of its task in the input file and the hash of its `request`.

    What is without a default here is in every line, so that what lacks it is no line of ours.
    """

    line: int
    attempts: int
    usage: Usage
    cost_usd: float | None
    stop_reason: str | None
    timings: Timings
    error: Failure | None
    kind: str = "claude"
    request: str | None = None


def line_of(record: Record, *, line: int, request: str | None, simulate: bool) -> Line:
    """The line of a task that ended in a simulated job or in a real one."""
    result = result_of_record(record, 0)
    # What failed before it was answered bears no mark of the simulator.
    unanswered = simulate and record.kind == "claude" and record.state != State.SUCCEEDED
    fields = msgspec.structs.asdict(result) | {"simulated": record.simulated or unanswered}
    return Line(line=line, request=request, **fields)


_FIELDS: Final = {field.name: field for field in msgspec.structs.fields(Line)}
_LEFT_OUT: Final = {
    name: ... if field.required else {} if name == "labels" else field.default
    for name in _WRITTEN
    for field in (_FIELDS[name],)
}
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Line)


def encode_line(line: Line) -> bytes:
    """A line, without its end."""
    return _encode(
        {
            name: value
            for name, left_out in _LEFT_OUT.items()
            if (value := getattr(line, name)) != left_out
        }
    )


def decode_line(raw: bytes) -> Line | None:
    """The result in a line, None where there is none."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
