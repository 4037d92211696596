"""A line of the Message Batches API: {"custom_id": ..., "params": {...}}. Pure."""

from __future__ import annotations

from typing import Any

from agentflow.errors import InvalidTask
from agentflow.job.formats.entry import Entry, body_of


def row(number: int, value: dict[str, Any]) -> Entry:
    """The task: what it asks is in params, the id it is known by elsewhere is carried along."""
    params = value["params"]
    unknown = value.keys() - {"custom_id", "params"}
    if unknown:
        raise InvalidTask(f"a line of a batch has custom_id and params, and no {min(unknown)!r}")
    if not isinstance(params, dict):
        raise InvalidTask("Expected `object` - at `$.params`")
    request = dict(params)
    if request.get("stream") is False:
        del request["stream"]
    fields: dict[str, Any] = {}
    for name in ("model", "max_tokens", "system"):
        if name in request and not (name == "system" and isinstance(request[name], list)):
            fields[name] = request.pop(name)
    fields["params"] = request
    return Entry(number, body_of(fields), custom_id=custom_id(value))


def custom_id(value: dict[str, Any]) -> str:
    """The id of a batch line. Raises InvalidTask."""
    name = value.get("custom_id")
    if not isinstance(name, str) or not 0 < len(name) <= 512:
        raise InvalidTask("custom_id is a text of 1 to 512 characters")
    return name
