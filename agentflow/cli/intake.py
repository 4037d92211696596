"""What `agentflow submit` is given: one task as text, or a file of many."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from agentflow.cli import output, reading
from agentflow.errors import UsageError
from agentflow.protocol import limits

if TYPE_CHECKING:
    from agentflow.client import Client
    from agentflow.job.formats.opening import InputFile
    from agentflow.job.source import Item, Source

_FOREIGN: Final = frozenset({"messages", "custom_id", "body"})
"""Keys of objects that only the readers of files know."""
_LONGEST: Final = 2 * limits.PAYLOAD_BYTES
AT_ONCE: Final = 200
"""Tasks on their way to the server at once."""


def read(name: str, *, plain: bool, how: dict[str, Any]) -> str | Source:
    """The text of one task, or a checked file of many. Raises UsageError.

    A text is one prompt, however many lines it has; `how` has the options that say otherwise.
    """
    from agentflow.job.formats.opening import InputFile

    file = InputFile(name, sys.stdin.buffer)
    asked = how["format_name"] or how["prompt"] or how["template"]
    if plain or not (asked or file.parquet or _holds_many(name, file)):
        return _text(file)
    return reading.source(name, opened=file, **how)


def _holds_many(name: str, file: InputFile) -> bool:
    from agentflow.job.formats.kinds import suffix_of, table_of

    suffix = suffix_of(name)
    if suffix in (".csv", ".tsv", ".tab", ".parquet", ".pq"):
        return True
    start = file.head.lstrip()
    if suffix == ".txt":
        return False
    if not start.startswith((b"{", b"[")):
        return not suffix and table_of(start, template=False) is not None
    if start.startswith(b"["):
        return suffix in (".json", ".jsonl", ".ndjson") or start[1:].lstrip()[:1] == b"{"
    return not _is_one_object(file)


def _is_one_object(file: InputFile) -> bool:
    """Whether the whole file is one task of ours, over as many lines as it likes, or no JSON."""
    with file.open() as stream:
        first = b""
        while not first.strip() and (line := stream.readline(_LONGEST)):
            first = line
        rest = any(line.strip() for line in iter(lambda: stream.readline(_LONGEST), b""))
    try:
        value = msgspec.json.decode(first)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True  # it goes on in the next line, or is no JSON: its own error says it best
    foreign = isinstance(value, dict) and not _FOREIGN.isdisjoint(value)
    return not rest and not foreign


def _text(file: InputFile) -> str:
    with file.open() as stream:
        data = stream.read()
    if b"\0" in data:
        raise UsageError(f"{file.name} holds NUL bytes; this is no text")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file.name} is not UTF-8 text (byte {error.start})") from None


def _some(items: Iterator[Item]) -> Iterator[list[Item]]:
    """So many as go at once: not many of those that are large."""
    some: list[Item] = []
    for item in items:
        some.append(item)
        if item.large or len(some) == AT_ONCE:
            yield some
            some = []
    if some:
        yield some


class Place(NamedTuple):
    """Where tasks go; without a lane their labels may say one."""

    queue: str
    priority: str
    lane: str | None


async def submit_all(
    client: Client,
    items: Iterator[Item],
    *,
    place: Place,
    as_json: bool,
) -> None:
    """Put every task into the queue, and print its id. Raises BusError."""
    for some in _some(items):
        handles = await asyncio.gather(
            *(client.submit_body(item.body, **place._asdict()) for item in some)
        )
        for item, handle in zip(some, handles, strict=True):
            if as_json:
                output.show_json(
                    {
                        "line": item.line,
                        "id": handle.id,
                        "queue": place.queue,
                        "priority": place.priority,
                        "sequence": handle.message_sequence,
                    }
                )
            else:
                output.show(handle.id)
