"""What a reader gives: a row of the file as a task, or what is wrong with it."""

from __future__ import annotations

from typing import Any

import msgspec

from agentflow.errors import InvalidTask
from agentflow.protocol.faithful import flaw
from agentflow.protocol.task import TaskBody, decode_body


class Entry(msgspec.Struct, frozen=True):
    """A row. `line` counts lines in a text, elements in an array and rows in Parquet, from 1.

    `columns` is what the row holds beside its task, as data. `notes` names what of a foreign format
    was left out because it has no counterpart and does not change what is asked.
    """

    line: int
    body: TaskBody | None = None
    columns: dict[str, Any] = {}
    used: frozenset[str] = frozenset()
    """Columns that stand in the prompt; they are not carried unless asked for."""
    custom_id: str | None = None
    notes: tuple[str, ...] = ()
    foreign_model: str | None = None
    """The model that a foreign format asks for and that is none of Claude."""
    problem: str | None = None


def body_of(fields: dict[str, Any]) -> TaskBody:
    """A task of its fields. Raises InvalidTask naming the field at fault."""
    try:
        if wrong := flaw(fields, ""):
            raise InvalidTask(wrong)
        data = msgspec.json.encode(fields)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
        raise InvalidTask(f"this cannot be sent as JSON: {error}") from None
    return given(decode_body(data))


def given(body: TaskBody) -> TaskBody:
    """A task as people give it. Raises InvalidTask for one with a reference to a payload."""
    if body.payload is not None:
        raise InvalidTask("payload is made by whoever submits; give prompt, system and params")
    return body
