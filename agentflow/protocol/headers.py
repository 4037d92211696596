"""NATS header blocks as bytes: written once, read once, copied without loss.

nats-py parses headers into a dict and builds them with a regular expression a key; on the hot path
that cost more than the record's JSON. A block is `NATS/1.0\\r\\n` and `Name: value\\r\\n` lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from agentflow.protocol import subjects

DIGITS: Final = 19
"""Of a number in a header: what the server counts, and nanoseconds, have no more."""
_LINE = b"NATS/1.0"
_SOURCE = b"\r\nNats-Stream-Source:"
_END = b"\r\n"


def encode(headers: Mapping[str, str]) -> bytes:
    """The block for `headers`; a line break in a value would forge a header and becomes a space."""
    lines = [_LINE]
    for name, value in headers.items():
        if "\n" in value or "\r" in value:
            value = value.replace("\r", " ").replace("\n", " ")
        # An exception's text may hold half a surrogate pair, which has no UTF-8.
        lines.append(f"{name}: {value}".encode("utf-8", "replace"))
    return _END.join(lines) + _END + _END


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in block.split(_END)[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            yield name.strip(), value.strip()


def decode(block: bytes) -> dict[str, str]:
    """Names and values; of a repeated name the first counts, what is not UTF-8 is marked."""
    headers: dict[str, str] = {}
    for line in block.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip(), value.strip())
    return headers


def number(text: str | bytes | None) -> int | None:
    """The whole number that a header's value is; None where it is none, or there is no header."""
    # int() also takes signs, blanks, underscores and the digits of other scripts.
    if text and len(text) <= DIGITS and text.isascii() and text.isdigit():
        return int(text)
    return None


def sourced(block: bytes, stream: str) -> bool:
    """Whether the server itself took the message from `stream`; nobody else can say so.

    From clients it refuses a header of exactly this name that has a value (10227), and looks at
    the first one only: any other spelling, or a second one, is a client's.
    """
    _, found, rest = block.partition(_SOURCE)
    return bool(found) and rest.lstrip(b" ").startswith(stream.encode() + b" ")


def status(block: bytes) -> tuple[int, str]:
    """Status code and text that the server put in the first line; (0, "") where there is none."""
    first = block[: block.find(_END)]
    words = first[len(_LINE) :].strip().split(b" ", 1)
    if not words or not words[0].isdigit():
        return 0, ""
    return int(words[0]), words[1].decode("utf-8", "replace") if len(words) > 1 else ""


def carried(block: bytes, extra: Mapping[str, str]) -> bytes:
    """The block for a message that carries another's payload on: `extra`, then all old headers.

    Left out of the old ones are those of the server (`Nats-*`: an expectation or a message id of
    the original would be applied again) and those that `extra` sets.
    """
    replaced = {name.lower().encode() for name in extra}
    kept = [
        name + b": " + value
        for name, value in _pairs(block)
        if not name.lower().startswith(b"nats-") and name.lower() not in replaced
    ]
    head = encode(extra)[: -len(_END)]
    return head + b"".join(line + _END for line in kept) + _END


def fence(task_id: str, sequence: int) -> bytes:
    """The block of a record: the server stores it only where `sequence` is the log's last."""
    return (
        f"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {sequence}\r\n"
        f"Nats-Expected-Last-Subject-Sequence-Subject: {subjects.log(task_id)}\r\n\r\n"
    ).encode()
