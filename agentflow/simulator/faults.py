"""What goes wrong, as replies. Pure.

Some failures come instead of the answer (`instead`); some spoil an answer that has begun
(`spoiled_stream`, `spoiled_json`).
"""

from __future__ import annotations

from agentflow.simulator import http, sse, wire
from agentflow.simulator.knobs import Knobs, Raw, piece_bytes
from agentflow.simulator.reply import HTML_LINES, JSON_LINES, End, Frame, Reply, whole

_PAGE = b"<html><head><title>%d</title></head><body>SIMULATED gateway error</body></html>\n"


def error(
    status: int,
    message: str,
    lines: str,
    request_id: str,
    *,
    kind: str | None = None,
    code: str | None = None,
    at: float = 0.0,
) -> Reply:
    """An error as the API words it."""
    body = wire.error_body(status, message, request_id, kind=kind, code=code)
    return whole(status, JSON_LINES + lines, body, at=at)


def instead(knobs: Knobs, lines: str, request_id: str) -> Reply | None:
    """The failure that comes instead of an answer, or None when there is to be an answer."""
    match knobs.fault:
        case "drop":
            reply = Reply([Frame(knobs.error_after, b"")], End.CLOSE)
        case "reset":
            reply = Reply([Frame(knobs.error_after, b"")], End.RESET)
        case "hang":
            reply = Reply([], End.HANG)
        case "html":
            status = knobs.status or 500
            page = _PAGE % status
            reply = whole(status, HTML_LINES + lines, page, at=knobs.error_after)
        case _ if knobs.raw is not None:
            return _raw(knobs.raw, knobs, lines)
        case _:
            if knobs.status is None or knobs.status == 200:
                return None
            return _status(knobs, knobs.status, lines, request_id)
    reply.fault = knobs.fault
    return reply


def _raw(raw: Raw, knobs: Knobs, lines: str) -> Reply:
    """A body as it is given, in chunks; without its end where the connection breaks."""
    status = knobs.status or 200
    for name, value in raw.headers.items():
        lines += f"{name}: {value}\r\n"
    lines = f"content-type: {raw.content_type}\r\n" + lines
    frames = [Frame(knobs.error_after, http.response_head(status, lines, length=None))]
    for number, piece in enumerate(raw.pieces):
        data = piece_bytes(piece)
        if data:
            frames.append(Frame(knobs.error_after + number * raw.gap, http.chunk(data)))
    at = frames[-1].at + raw.hold
    frames.append(Frame(at, http.LAST_CHUNK if raw.end == "end" else b""))
    return Reply(frames, _ENDS[raw.end], status, "raw")


_ENDS = {"end": End.KEEP, "close": End.CLOSE, "reset": End.RESET, "hang": End.HANG}


def _status(knobs: Knobs, status: int, lines: str, request_id: str) -> Reply:
    return error(
        status,
        knobs.error_message or f"SIMULATED {knobs.error_type or wire.error_type(status)}",
        lines + _retry_lines(knobs),
        request_id,
        kind=knobs.error_type,
        code=knobs.error_code,
        at=knobs.error_after,
    )


def _retry_lines(knobs: Knobs) -> str:
    lines = ""
    if knobs.retry_after is not None:
        value = knobs.retry_after
        text = value if isinstance(value, str) else f"{value:g}"
        lines += f"retry-after: {text}\r\n"
    if knobs.retry_after_ms is not None:
        lines += f"retry-after-ms: {knobs.retry_after_ms:g}\r\n"
    if knobs.should_retry is not None:
        lines += f"x-should-retry: {str(knobs.should_retry).lower()}\r\n"
    return lines


def spoiled_stream(reply: Reply, knobs: Knobs) -> Reply:
    """The stream, cut or broken in its middle if a fault says so.

    Its frames are whole: one for the head and the opening, one a delta, one for the ending.
    """
    if knobs.fault not in ("drop_mid", "truncated_json", "malformed_sse", "sse_error"):
        return reply
    middle = max(1, len(reply.frames) // 2)
    at = reply.frames[middle].at if middle < len(reply.frames) else reply.frames[-1].at
    begun = list(reply.frames[:middle])
    reply.fault = knobs.fault
    reply.frames = begun
    if knobs.fault == "drop_mid":
        begun.append(Frame(at, b""))
        reply.end = End.CLOSE
        return reply
    event = sse.BROKEN_EVENT
    if knobs.fault == "sse_error":
        kind = knobs.error_type or "overloaded_error"
        event = sse.encode_error(kind, knobs.error_message or f"SIMULATED {kind}")
    begun.append(Frame(at, http.chunk(event) + http.LAST_CHUNK))
    return reply


def spoiled_json(
    body: bytes, at: float, output_tokens: int, knobs: Knobs, lines: str, request_id: str
) -> Reply:
    """The answer in one piece, cut, broken or refused if a fault says so."""
    match knobs.fault:
        case "drop_mid":
            head = http.response_head(200, JSON_LINES + lines, length=len(body))
            half = head + body[: len(body) // 2]
            reply = Reply([Frame(at, half, output_tokens)], End.CLOSE, 200)
        case "truncated_json" | "malformed_sse":
            half = body[: len(body) // 2]
            reply = whole(200, JSON_LINES + lines, half, at=at, output_tokens=output_tokens)
        case "sse_error":
            # There is no stream to break: the same trouble is an ordinary error here.
            kind = knobs.error_type or "overloaded_error"
            reply = _status(knobs, wire.error_status(kind), lines, request_id)
        case _:
            return whole(200, JSON_LINES + lines, body, at=at, output_tokens=output_tokens)
    reply.fault = knobs.fault
    return reply
