"""A JSON array, an element at a time: an array of a million tasks is never in memory whole."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO, Final

from agentflow.errors import InvalidTask, UsageError
from agentflow.job.formats.entry import Entry
from agentflow.job.formats.objects import DECODER, row_of_object
from agentflow.job.formats.template import Template
from agentflow.protocol import limits

_CHUNK: Final = 1 << 18
_MOST: Final = 2 * limits.PAYLOAD_BYTES
_BLANK: Final = " \t\r\n"


def elements(stream: BinaryIO, name: str, template: Template | None) -> Iterator[Entry]:
    """The elements, numbered from 1. Raises UsageError where the array itself is broken."""
    text = _Text(stream, name)
    if text.next_char() != "[":
        raise UsageError(f"{name} is no JSON array")
    text.skip()
    number = 0
    while (char := text.next_char()) != "]" or number == 0:
        if char == "]":
            break
        if number:
            if char != ",":
                raise UsageError(f"{name}: after element {number} there is no comma")
            text.skip()
            text.next_char()
        number += 1
        try:
            value = text.value(number)
        except InvalidTask as error:
            yield Entry(number, problem=str(error))
            return  # where the next one begins is not known
        yield row_of_object(number, value, template)
    text.skip()
    if text.next_char():
        raise UsageError(f"{name}: there is more after the end of the array")


class _Text:
    """The array's text, as much of it as an element needs."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._ended = False

    def next_char(self) -> str:
        """The next character that is no blank, "" at the end; it is not taken."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_CHUNK):
                return ""

    def skip(self) -> None:
        """Take a character."""
        self._at += 1

    def value(self, number: int) -> object:
        """Take a value. Raises InvalidTask."""
        wanted = _CHUNK
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # It may only be cut off; twice as much each time keeps a long one affordable.
                if len(self._text) - self._at < _MOST and self._more(wanted):
                    wanted *= 2
                    continue
                raise InvalidTask(f"the JSON cannot be read: {error.msg}") from None
            except RecursionError:
                raise InvalidTask("the JSON is nested too deeply") from None
            except ValueError as error:
                raise InvalidTask(f"the JSON cannot be read: {error}") from None
            if end - self._at > limits.PAYLOAD_BYTES:
                raise InvalidTask(f"it is longer than {limits.PAYLOAD_BYTES:,} bytes")
            self._at = end
            return value

    def _more(self, count: int) -> bool:
        if self._ended:
            return False
        data = self._stream.read(count)
        if b"\0" in data:
            raise UsageError(f"{self._name} holds NUL bytes; this is no text")
        try:
            text = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError:
            raise UsageError(f"{self._name} is not UTF-8 text") from None
        self._ended = not data
        self._text, self._at = self._text[self._at :] + text, 0
        return not self._ended
