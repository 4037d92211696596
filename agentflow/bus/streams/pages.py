"""Read a stream page by page, and read where a message stands in it.

A page is a direct get for many messages: one request, then the messages as fast as the connection
takes them (some 100,000 a second of 1 KB), from any replica. So it is for display only; what
decides is read from the leader. Pages are bounded in bytes too: a record may have megabytes.
"""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.errors import NoAnswer, NoStream, Refused
from agentflow.protocol import headers as blocks
from agentflow.protocol.headers import number

PAGE_MESSAGES: Final = 500
PAGE_BYTES: Final = 2 * 1024 * 1024

_SEQUENCE: Final = b"\r\nNats-Sequence: "
_STORED: Final = b"\r\nNats-Time-Stamp: "
_SUBJECT: Final = b"\r\nNats-Subject: "
_PENDING: Final = b"\r\nNats-Num-Pending: "


class Page(NamedTuple):
    """Messages in the stream's order; `more` says that the stream had others after them."""

    messages: list[Message]
    more: bool


async def page(
    connection: Connection,
    stream: str,
    sequence: int,
    *,
    filter: str = ">",
    batch: int = PAGE_MESSAGES,
    max_bytes: int = PAGE_BYTES,
    timeout: float = 5.0,
    since: datetime | None = None,
) -> Page:
    """Messages at and after `sequence`; with `since` those stored from then on.

    Raises NoStream, NoAnswer, Refused, PermissionDenied, NotConnected.
    """
    loop = asyncio.get_running_loop()
    end: asyncio.Future[Message] = loop.create_future()
    refused: asyncio.Future[Message] | None = None
    messages: list[Message] = []

    def received(message: Message) -> None:
        if message.status:
            if not end.done():
                end.set_result(message)
        else:
            messages.append(message)

    reply = f"{connection.options.inbox_prefix}.{secrets.token_hex(8)}"
    subscription = await connection.subscribe(reply, received)
    try:
        start = {"seq": sequence} if since is None else {"start_time": since.isoformat()}
        body = {**start, "batch": batch, "max_bytes": max_bytes, "next_by_subj": filter}
        subject = f"$JS.API.DIRECT.GET.{stream}"
        connection.publish(subject, msgspec.json.encode(body), reply=reply)
        refused = connection.refusal(subject, reply)
        before = -1
        while not end.done() and len(messages) > before:
            # The deadline is for the next message, not for the page: a slow line is no failure.
            before = len(messages)
            await asyncio.wait((end, refused), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if refused.done() and not end.done():
                refused.result()
        if not end.done():
            raise NoAnswer(f"{stream} did not answer")
    finally:
        if refused is not None:
            refused.cancel()
        await subscription.close()
    code, text = blocks.status(end.result().block)
    if code == 404:
        return Page(messages, more=False)
    if code == 503:
        raise NoStream(f"nothing answers for {stream}")
    if code != 204:
        raise Refused(f"{stream}: {text}", status=code)
    return Page(messages, more=_number(end.result().block, _PENDING) > 0)


def _value(block: bytes, name: bytes) -> bytes:
    # What the server adds stands last: a sender's own header of this name must not count.
    at = block.rfind(name)
    if at < 0:
        return b""
    at += len(name)
    return block[at : block.index(b"\r", at)]


def _number(block: bytes, name: bytes) -> int:
    return number(_value(block, name)) or 0


def sequence_of(message: Message) -> int:
    """The stream sequence of a live copy or of a message of a page, 0 where there is none."""
    return _number(message.block, _SEQUENCE)


def left_after(message: Message) -> int:
    """How many messages the stream had behind this one of a page."""
    return _number(message.block, _PENDING)


def subject_of(message: Message) -> str:
    """The subject under which a live copy or a message of a page is stored."""
    return _value(message.block, _SUBJECT).decode(errors="backslashreplace")


def stored_ns(message: Message) -> int:
    """When the stream stored it, in nanoseconds, as an ack subject has it too."""
    text = _value(message.block, _STORED)
    # datetime keeps microseconds only, and an identity needs all nine digits.
    whole, _, fraction = text.removesuffix(b"Z").partition(b".")
    return _seconds(whole) * 1_000_000_000 + int(fraction.ljust(9, b"0")[:9])


@lru_cache(maxsize=16)
def _seconds(text: bytes) -> int:
    if not text:
        return 0
    return int(datetime.fromisoformat(text.decode()).replace(tzinfo=UTC).timestamp())
