"""A result as a line of a job's file of results.

What a line has is read back by later versions, so a field is added and never taken away.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from agentflow.protocol import jobs
from agentflow.protocol.record import Failure, Record, State, Timings, Usage
from agentflow.views.result import Result, result_of_record

_WRITTEN: Final = (
    *("line", "id", "custom_id", "state", "text", "value", "content", "input", "usage"),
    *("cost_usd", "stop_reason", "attempts", "timings", "latency_s", "error", "reason", "kind"),
    *("model", "request_id", "labels", "request", "truncated", "simulated", "unpriced"),
    *("estimated", "partial", "repair", "cached", "take", "saved_usd"),
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
    custom_id: str | None = None
    """The id that a line of a batch file has for whoever made it."""
    input: dict[str, Any] = msgspec.field(default_factory=dict)
    """What goes from the input beside the result: other columns, and what was asked for."""
    latency_s: float | None = None
    """Seconds from the submission to the end."""
    cached: datetime | None = None
    """When an answer was stored that was taken from the cache, and cost nothing."""
    take: int = 1
    """The how manieth answer it is, where the one before was none."""


def line_of(
    record: Record,
    *,
    line: int,
    request: str | None,
    simulate: bool,
    custom_id: str | None = None,
    carried: dict[str, Any] | None = None,
    id: str | None = None,
    take: int = 1,
) -> Line:
    """The line of a task that ended in a simulated job or in a real one; `id` is the line's."""
    result = result_of_record(record, 0)
    # What failed before it was answered bears no mark of the simulator.
    unanswered = simulate and record.kind == "claude" and record.state != State.SUCCEEDED
    fields = msgspec.structs.asdict(result) | {
        "id": id or record.id,
        "labels": _own(record.labels, line),
        "simulated": record.simulated or unanswered,
    }
    submitted, ended = record.timings.submitted, record.timings.ended
    latency = None
    if submitted is not None and ended is not None:
        latency = max(0.0, round((ended - submitted).total_seconds(), 3))
    return Line(
        line=line,
        request=request,
        custom_id=custom_id,
        input=carried or {},
        latency_s=latency,
        take=take,
        **fields,
    )


def _own(labels: dict[str, str], line: int) -> dict[str, str]:
    """The labels without those that the job gave."""
    if jobs.LABEL not in labels:
        return labels
    return {
        name: text
        for name, text in labels.items()
        if name != jobs.LABEL and (name, text) != (jobs.LINE, str(line))
    }


_FIELDS: Final = {field.name: field for field in msgspec.structs.fields(Line)}
_LEFT_OUT: Final = {
    name: ... if field.required else {} if name in ("labels", "input") else field.default
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
