"""`Translate {text} into {language}`: a prompt with columns. `{{` and `}}` are braces."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from agentflow.errors import InvalidTask, UsageError

_PART: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Template:
    """A prompt with places for columns. Raises UsageError where a brace has no partner."""

    def __init__(self, text: str) -> None:
        self.text = text
        names: list[str] = []
        for part in _PART.finditer(text):
            if part[0] in ("{", "}"):
                raise UsageError(
                    f"the template has a single {part[0]!r} at character {part.start() + 1}; "
                    "a brace itself is written {{ or }}"
                )
            if part[1] is not None:
                names.append(part[1].strip())
        if not text.strip():
            raise UsageError("the template is empty")
        self.columns: Final = frozenset(names)

    def check(self, columns: Collection[str]) -> None:
        """Raise UsageError for a place that no column fills."""
        for name in sorted(self.columns):
            if name not in columns:
                raise UsageError(
                    f"the template names {{{name}}}, and the columns are {', '.join(columns)}; "
                    "a brace itself is written {{ or }}"
                )

    def fill(self, row: Mapping[str, Any]) -> str:
        """The prompt of a row. Raises InvalidTask where it lacks a column."""

        def text(part: re.Match[str]) -> str:
            if part[1] is None:
                return part[0][0]
            name = part[1].strip()
            if name not in row:
                raise InvalidTask(f"there is no {name!r} for the template; it has {_names(row)}")
            return shown(row[name], name)

        return _PART.sub(text, self.text)


def shown(value: Any, name: str) -> str:
    """A value as it stands in a prompt: a text as it is, nothing as nothing, the rest as JSON."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and math.isinf(value):
        raise InvalidTask(f"column {name!r} holds a number without an end")
    if isinstance(value, bytes):
        raise InvalidTask(f"column {name!r} holds bytes, no text")
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTask(f"column {name!r} cannot be shown as text: {error}") from None
    return text[1:-1] if text.startswith('"') else text  # a date, a decimal


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(list(row)[:20]) or "no columns"
