"""From the bytes of a body to the objects in it, whatever a gateway made of the stream. Pure.

A body is a stream of server-sent events, one JSON document, one JSON object a line, or a page for
people; the first byte that is no blank tells. Events are taken as the standard has them (CR, LF or
both; comments; several data lines; a byte order mark), and also as they come: without a name,
without blank lines between them, without one at the end, with bytes that are not UTF-8. What
cannot be read and held a part of the answer raises `Unreadable`, at once, so that the caller hangs
up: text with a hole is not an answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

MOST: Final = 64 * 1024 * 1024
"""Bytes of one event, or of a body that is no stream."""
BEGINNING: Final = 2_048
"""Bytes of a body that are kept to tell what it is, where it turns out to be no answer."""

_BOM: Final = b"\xef\xbb\xbf"
_CONTENT: Final = frozenset(
    (b"message_start", b"content_block_start", b"content_block_delta", b"message_delta")
)
_decode = msgspec.json.Decoder().decode

Event = tuple[str, dict[str, Any], bool]
"""Name, object, and whether its strings may hold halves of surrogate pairs."""


class Unreadable(ValueError):
    """A part of the answer cannot be read."""


class Reader:
    """Feed it a body; it gives the events.

    `beginning` is that of the body, for a person; `page`: it is a page, and there are no events.
    """

    __slots__ = ("_cr", "_newline", "_pieces", "_size", "_whole", "beginning", "page")

    def __init__(self) -> None:
        self.beginning = b""
        self.page = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole: bool | None = None  # one document, not a stream; None: nothing has come yet
        self._cr = False
        self._newline = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are whole with these bytes. Raises Unreadable."""
        if self._whole is None:
            data = self._opened(data)
            if self._whole is None:
                return
        if self.page:
            return
        self._size += len(data)
        if self._size > MOST:
            raise Unreadable(f"more than {MOST:,} bytes in one piece")
        if self._whole:
            self._pieces.append(data)
            return
        if self._cr or b"\r" in data:
            data = self._with_newlines(data)
        if not data:
            return
        if b"\n\n" not in data and not (self._newline and data[0] == 0x0A):
            self._pieces.append(data)
            self._newline = data[-1] == 0x0A
            return
        *frames, rest = b"".join((*self._pieces, data)).split(b"\n\n")
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        self._newline = rest[-1:] == b"\n"
        for frame in frames:
            # As the API writes nearly all of them: a name, and one line of data.
            name, _, data = frame.partition(b"\ndata: ")
            if name[:7] == b"event: " and b"\n" not in data and b"\n" not in name:
                event = _event(name[7:], data)
                if event is not None:
                    yield event
                    continue
            yield from _events(frame)

    def end(self) -> Iterator[Event]:
        """What the body's end makes whole. Raises Unreadable."""
        rest, self._pieces = b"".join(self._pieces), []
        if self._whole:
            yield from _documents(rest)
        elif rest.strip():
            try:
                yield from _events(rest)
            except Unreadable:
                return  # it was cut: what is missing decides, and not where the cut lies

    def _opened(self, data: bytes) -> bytes:
        data = b"".join((*self._pieces, data))
        begin = data.removeprefix(_BOM).lstrip()
        self._pieces = [data] if _BOM.startswith(data) else []
        if not begin or self._pieces:
            return b""
        self._whole = begin[:1] in (b"{", b"[")
        self.page = begin[:1] == b"<"
        self.beginning = begin[:BEGINNING]
        return begin

    def _with_newlines(self, data: bytes) -> bytes:
        # A pair may lie in two pieces. Its first half ends the line: nothing may come after it.
        if self._cr:
            data = data.removeprefix(b"\n")
        self._cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def loads(data: bytes | str) -> tuple[Any, bool]:
    """JSON, and whether it needed patience. Raises ValueError.

    Patience is for what our decoder refuses and a reader can make sense of: bytes that are not
    UTF-8, halves of surrogate pairs, raw line ends in strings, numbers beyond any float.
    """
    try:
        return _decode(data), False
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    try:
        return json.loads(text, strict=False), True
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _events(frame: bytes) -> Iterator[Event]:
    name = b""
    lines: list[bytes] = []
    for line in frame.split(b"\n"):
        if line.startswith(b"data:"):
            lines.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:"):
            name = line[6:].strip()
        elif line[:1] in (b" ", b"\t") and line.strip().startswith(b"data:"):
            lines.append(line.strip()[5:])
    if not lines:
        return
    data = lines[0] if len(lines) == 1 else b"\n".join(lines)
    event = _event(name, data)
    if event is None and len(lines) > 1:
        # Events without a blank line between them.
        for number, line in enumerate(lines):
            event = _event(b"" if number < len(lines) - 1 else name, line)
            if event is not None:
                yield event
            else:
                _passed_over(b"", line)
    elif event is not None:
        yield event
    else:
        _passed_over(name, data)


def _event(name: bytes, data: bytes) -> Event | None:
    try:
        value, loose = loads(data)
    except ValueError:
        return _error(data) if name == b"error" else None
    if type(value) is dict:
        told = value.get("type")
        if type(told) is not str or name == b"error":
            told = name.decode("ascii", "replace")
        return told, value, loose
    return _error(data) if name == b"error" else None


def _error(data: bytes) -> Event:
    return "error", {"error": {"message": data.decode("utf-8", "replace")}}, True


def _passed_over(name: bytes, data: bytes) -> None:
    """Raises Unreadable where the data held a part of the answer: `[DONE]` and blanks do not."""
    data = data.strip()
    if data.startswith(b"{") or (data and name in _CONTENT):
        raise Unreadable(f"an event is no JSON object: {_beginning(data)}")


def _documents(body: bytes) -> Iterator[Event]:
    """The object that a body is, else those of its lines."""
    text = body.decode("utf-8", "replace")
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    except ValueError:
        raise Unreadable(f"the answer is no whole JSON: {_beginning(body)}") from None
    if isinstance(value, list):
        values = value
    elif value.get("type") == "message_start":
        values = [value]
        for line in filter(str.strip, text[end:].splitlines()):
            try:
                values.append(json.loads(line, strict=False))
            except ValueError:
                break
    else:
        values = [value]
    for one in values:
        if isinstance(one, dict):
            told = one.get("type")
            yield told if isinstance(told, str) else "", one, True


def _beginning(data: bytes) -> str:
    text = data[:200].decode("utf-8", "replace")
    return text if len(data) <= 200 else text + "..."
