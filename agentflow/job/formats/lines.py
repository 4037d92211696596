"""A line at a time: JSON objects, prompts, or either. Only a line feed ends a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from agentflow.errors import InvalidTask, UsageError
from agentflow.job.formats.entry import Entry
from agentflow.job.formats.objects import row_of_json
from agentflow.job.formats.template import Template
from agentflow.protocol import limits
from agentflow.protocol.task import TaskBody, check_body

_MOST: Final = 2 * limits.PAYLOAD_BYTES
"""Bytes of a line that are read at all, so that a file without an end of line fills no memory."""


def numbered(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, stripped, from 1. Raises UsageError for what is no text."""
    number = 0
    while raw := stream.readline(_MOST):
        number += 1
        if len(raw) == _MOST and not raw.endswith(b"\n"):
            while (rest := stream.readline(_MOST)) and not rest.endswith(b"\n"):
                pass
        if b"\0" in raw:
            raise UsageError(f"{name}: line {number} holds NUL bytes; this is no text")
        raw = raw.strip()
        if raw:
            yield number, raw


def objects(stream: BinaryIO, name: str, template: Template | None) -> Iterator[Entry]:
    """A JSON object a line."""
    for number, raw in numbered(stream, name):
        yield row_of_json(number, raw, template)


def texts(stream: BinaryIO, name: str, template: Template | None) -> Iterator[Entry]:
    """A prompt a line; in a template it is `{text}`."""
    if template is not None:
        template.check(["text"])
    for number, raw in numbered(stream, name):
        yield row_of_text(number, raw, template)


def either(stream: BinaryIO, name: str, template: Template | None) -> Iterator[Entry]:
    """Objects where a line begins with a brace, prompts elsewhere."""
    for number, raw in numbered(stream, name):
        read = row_of_json if raw.startswith(b"{") else row_of_text
        yield read(number, raw, template)


def row_of_text(number: int, raw: bytes, template: Template | None) -> Entry:
    """A line that is a prompt, or the `{text}` of one."""
    try:
        check_size(raw)
        if b"\r" in raw:
            raise InvalidTask("there is a carriage return within the line; is it one line or two?")
        text = raw.decode()
        if template is not None:
            used = frozenset({"text"})
            body = check_body(TaskBody(prompt=template.fill({"text": text})))
            return Entry(number, body, {"text": text}, used)
        return Entry(number, check_body(TaskBody(prompt=text)))
    except UnicodeDecodeError as error:
        return Entry(number, problem=not_utf8(error))
    except InvalidTask as error:
        return Entry(number, problem=str(error))


def check_size(raw: bytes) -> None:
    """Raise InvalidTask for a line that no message can carry."""
    if len(raw) > limits.PAYLOAD_BYTES:
        size = f"{len(raw):,}" if len(raw) < _MOST else f"more than {_MOST:,}"
        raise InvalidTask(
            f"the line has {size} bytes, at most {limits.PAYLOAD_BYTES:,} are allowed"
        )


def not_utf8(error: UnicodeError) -> str:
    """A sentence about bytes that are no text."""
    at = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
    return f"this is not UTF-8 text{at}"
