"""A reply is a plan: bytes with the second each is due, and how the connection goes on.

Everything that decides what a client gets is a pure function that returns a `Reply`; the
connection only plays it. Faults are plans too: cut in the middle, ended by a close.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from agentflow.simulator import http


class End(enum.Enum):
    """What happens to the connection after the last frame."""

    KEEP = "keep"
    CLOSE = "close"  # FIN, as a server that ends
    RESET = "reset"  # RST, as a server that crashed or a middlebox that forgot
    HANG = "hang"  # nothing more, ever; only the client can end it


class Frame(msgspec.Struct):
    """Bytes due `at` seconds after the request; `output_tokens` are produced with them.

    `data` may be empty: tokens of a JSON answer are produced long before its bytes are sent.
    """

    at: float
    data: bytes
    output_tokens: int = 0


class Reply(msgspec.Struct):
    """What to send, and when. `status` is None when not even a head is sent."""

    frames: Sequence[Frame]
    end: End = End.KEEP
    status: int | None = None
    fault: str | None = None


JSONL_LINES = "content-type: application/x-jsonl\r\n"
JSON_LINES = "content-type: application/json\r\n"
HTML_LINES = "content-type: text/html; charset=utf-8\r\n"
SSE_LINES = "content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"


def whole(
    status: int, lines: str, body: bytes, *, at: float = 0.0, output_tokens: int = 0
) -> Reply:
    """A reply sent in one piece."""
    head = http.response_head(status, lines, length=len(body))
    return Reply([Frame(at, head + body, output_tokens)], status=status)


def without_body(reply: Reply) -> Reply:
    """The reply to HEAD: the same head, content-length included, and no body."""
    frame = reply.frames[0]
    frame.data = frame.data[: frame.data.index(b"\r\n\r\n") + 4]
    return reply
