"""What is struck out of records before they are written: a policy of regular expressions. Pure.

It meets what people and models have written: titles, texts, values, content, notes and errors.
Names, numbers and digests stay, so a log reads and counts as ever. Of a prompt no more is in a
record than its title.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from agentflow.errors import UsageError
from agentflow.protocol.record import Record

STRUCK: Final = "[redacted]"
LENGTH: Final = 1000
"""Characters of one pattern."""


class Redaction:
    """Strikes out what any of the patterns finds."""

    def __init__(self, patterns: Sequence[re.Pattern[str]]) -> None:
        self._patterns = tuple(patterns)

    def text(self, text: str) -> str:
        """The text without what is found."""
        for pattern in self._patterns:
            text = pattern.sub(STRUCK, text)
        return text

    def record(self, record: Record) -> Record:
        """The record as it may be written."""
        error = record.error
        if error is not None:
            error = msgspec.structs.replace(
                error,
                message=self.text(error.message),
                traceback=None if error.traceback is None else self.text(error.traceback),
            )
        return msgspec.structs.replace(
            record,
            error=error,
            title=None if record.title is None else self.text(record.title),
            note=None if record.note is None else self.text(record.note),
            text=None if record.text is None else self.text(record.text),
            content=self._deep(record.content),
            value=self._deep(record.value),
        )

    def _deep(self, value: Any) -> Any:
        """The same for each text in what will be JSON, names of fields too."""
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self.text(value)
            case dict():
                return {self._deep(name): self._deep(each) for name, each in value.items()}
            case list() | tuple():
                return [self._deep(each) for each in value]
            case msgspec.Raw():
                return self._deep(msgspec.json.decode(value))
            case _:  # a struct or the like: as it will be written
                return self._deep(msgspec.to_builtins(value, str_keys=True))


def parse(text: str, name: str) -> Redaction:
    """The policy of a file: a regular expression a line, `#` begins a comment.

    Raises UsageError naming the line that is none.
    """
    patterns = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            pattern = re.compile(line[:LENGTH])
        except re.error as error:
            raise UsageError(f"{name}, line {number}: no regular expression: {error}") from None
        if len(line) > LENGTH or pattern.search("") is not None:
            raise UsageError(f"{name}, line {number}: it is too long, or finds what is empty")
        patterns.append(pattern)
    if not patterns:
        raise UsageError(f"{name} has no pattern, so nothing would be redacted")
    return Redaction(patterns)
