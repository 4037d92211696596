"""HTTP/1.1 in bytes: what came in, and the head of what goes out. No sockets here.

A connection feeds `RequestParser` and asks it for the next event, one at a time: the next request
of a pipeline is parsed only after the answer before it is written, so a `100 Continue` can never
land inside another response.

    feed(bytes) -> next_event() -> Request | EXPECTS_CONTINUE | None (more bytes are needed)
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

MAX_HEAD: Final = 64 * 1024
"""Bytes of request line and headers; more is 431."""

MAX_BODY: Final = 32 * 1024 * 1024
"""Bytes of body the Messages API takes; more is 413."""
MAX_BATCH: Final = 256 * 1024 * 1024
"""The same for a create of a batch."""
BATCHES: Final = "/v1/messages/batches"

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

_MAX_CHUNK_LINE: Final = 1024

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    412: "Precondition Failed",
    413: "Content Too Large",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    529: "Overloaded",
}


class ProtocolError(Exception):
    """The bytes are not HTTP/1.1; `status` is what to answer before the connection ends."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Expectation(enum.Enum):
    """The client waits for `100 Continue` before it sends the body."""

    CONTINUE = enum.auto()


class Request(msgspec.Struct):
    """One request. Header names are lower case; `too_large` means the body was thrown away."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""
    keep_alive: bool = True
    too_large: bool = False


class _Phase(enum.Enum):
    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNK_LINE = enum.auto()
    CHUNK_DATA = enum.auto()
    TRAILERS = enum.auto()


class RequestParser:
    """Turns bytes, in pieces of any size, into requests."""

    def __init__(self, max_body: int = MAX_BODY) -> None:
        self._buffer = bytearray()
        self._max_body = max_body
        self._phase = _Phase.HEAD
        self._request: Request | None = None
        self._body = bytearray()
        self._missing = 0  # bytes of this body or chunk that have not come yet

    @property
    def buffered(self) -> int:
        """Bytes that wait to be parsed."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Takes what the socket gave."""
        self._buffer += data

    def next_event(self) -> Request | Expectation | None:
        """The next thing that is complete, or None.

        Raises ProtocolError when the bytes cannot be a request; nothing after it can be trusted.
        """
        if self._phase is _Phase.HEAD:
            if not self._read_head():
                return None
            request = self._request
            assert request is not None
            if self._phase is _Phase.HEAD:
                return self._finish()
            # A client that already sent the body must not get a stray 100 before its answer.
            expects = request.headers.get("expect", "").lower() == "100-continue"
            if expects and not self._buffer:
                return Expectation.CONTINUE
        if self._phase is _Phase.LENGTH:
            self._take_body()
            return self._finish() if self._missing == 0 else None
        return self._finish() if self._read_chunks() else None

    def _finish(self) -> Request:
        request = self._request
        assert request is not None
        request.body = bytes(self._body)
        self._request, self._phase = None, _Phase.HEAD
        self._body = bytearray()
        return request

    def _read_head(self) -> bool:
        # Some clients end a body with a stray CRLF; it belongs to no request.
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise ProtocolError(431, "the request's headers are larger than 64 KiB")
            return False
        request = _parse_head(self._buffer[:end].decode("latin-1"))
        del self._buffer[: end + 4]
        self._request = request
        self._missing = 0
        length = request.headers.get("content-length")
        if "transfer-encoding" in request.headers:
            # Two statements about where the body ends are how requests are smuggled.
            if length is not None:
                raise ProtocolError(400, "content-length and transfer-encoding exclude each other")
            if request.headers["transfer-encoding"].lower() != "chunked":
                raise ProtocolError(501, "the only transfer-encoding understood is chunked")
            self._phase = _Phase.CHUNK_LINE
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise ProtocolError(400, "content-length is not a number")
            self._missing = int(length)
            self._phase = _Phase.LENGTH if self._missing else _Phase.HEAD
        return True

    def _take_body(self) -> None:
        data = self._buffer[: self._missing]
        del self._buffer[: self._missing]
        self._missing -= len(data)
        request = self._request
        assert request is not None
        # Too much is read to its end and thrown away: closing on a client that still sends makes
        # it see a broken pipe and never the 413.
        most = max(self._max_body, MAX_BATCH) if request.path == BATCHES else self._max_body
        if request.too_large or len(self._body) + len(data) + self._missing > most:
            request.too_large = True
            self._body.clear()
        else:
            self._body += data

    def _read_chunks(self) -> bool:
        while True:
            if self._phase is _Phase.CHUNK_DATA:
                self._take_body()
                if self._missing or len(self._buffer) < 2:
                    return False
                if not self._buffer.startswith(b"\r\n"):
                    raise ProtocolError(400, "a chunk is longer than it said")
                del self._buffer[:2]
                self._phase = _Phase.CHUNK_LINE
            line = self._read_line()
            if line is None:
                return False
            if self._phase is _Phase.TRAILERS:
                if not line:
                    return True
                continue
            try:
                self._missing = int(line.split(b";", 1)[0].strip(), 16)
            except ValueError:
                raise ProtocolError(400, "a chunk's size is not a hexadecimal number") from None
            if self._missing < 0:
                raise ProtocolError(400, "a chunk's size is negative")
            self._phase = _Phase.CHUNK_DATA if self._missing else _Phase.TRAILERS

    def _read_line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_CHUNK_LINE:
                raise ProtocolError(400, "a chunk's head has no end")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line


def _parse_head(head: str) -> Request:
    lines = head.split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError:
        raise ProtocolError(400, "the request line is not `METHOD target HTTP/1.1`") from None
    if version != "HTTP/1.1":
        raise ProtocolError(505, "only HTTP/1.1 is spoken here")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name[-1] in " \t":
            raise ProtocolError(400, "a header is not `name: value`")
        headers[name.lower()] = value.strip()
    path, _, query = target.partition("?")
    keep_alive = headers.get("connection", "").lower() != "close"
    return Request(method, path, query, headers, keep_alive=keep_alive)


def response_head(status: int, lines: str, *, length: int | None) -> bytes:
    """Status line and headers, with the blank line.

    `lines` are ready header lines, each ending in CRLF; `length` None announces a chunked body.
    """
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    reason = _REASONS.get(status, "Status")
    return f"HTTP/1.1 {status} {reason}\r\n{lines}{framing}\r\n\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body. `data` is not empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
