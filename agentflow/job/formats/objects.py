"""One JSON object as a row: a task of ours, a bare conversation, a batch line, or data.

Which of them it is its keys say. With a template every object is data, whatever its keys are: a
column called `model` may well be a car's.
"""

from __future__ import annotations

import difflib
import json
from typing import Any, Final

from agentflow.errors import InvalidTask
from agentflow.job.formats import anthropic_batch, openai_batch
from agentflow.job.formats.entry import Entry, body_of, given
from agentflow.job.formats.template import Template
from agentflow.protocol import limits
from agentflow.protocol.task import FIELDS, TaskBody, check_body, decode_body

REQUEST: Final = frozenset(
    {"messages", "stream", "temperature", "top_p", "top_k", "stop_sequences", "tools"}
    | {"tool_choice", "thinking", "metadata", "service_tier", "output_config", "container"}
    | {"cache_control", "speed", "inference_geo", "betas", "extra_headers", "extra_body"}
)
"""What may stand beside `messages` in a bare request; anything else is a mistake in typing."""

LIKE_THIS: Final = 'this is not a task object; a line looks like {"prompt": "..."}'


def row_of_json(number: int, raw: bytes, template: Template | None) -> Entry:
    """The row in a line of JSON."""
    try:
        if len(raw) > limits.PAYLOAD_BYTES:
            raise InvalidTask(
                f"the line has {len(raw):,} bytes, at most {limits.PAYLOAD_BYTES:,} are allowed"
            )
        if not raw.startswith(b"{"):
            raise InvalidTask(LIKE_THIS)
        return _row(number, _parsed(raw), raw, template)
    except InvalidTask as error:
        return Entry(number, problem=str(error))


def row_of_object(number: int, value: Any, template: Template | None) -> Entry:
    """The row in a JSON value that is parsed already."""
    try:
        if not isinstance(value, dict):
            raise InvalidTask(LIKE_THIS)
        return _row(number, value, None, template)
    except InvalidTask as error:
        return Entry(number, problem=str(error))


def _row(number: int, value: dict[str, Any], raw: bytes | None, template: Template | None) -> Entry:
    if template is not None:
        body = check_body(TaskBody(prompt=template.fill(value)))
        return Entry(number, body, value, template.columns)
    if "custom_id" in value and "params" in value:
        return anthropic_batch.row(number, value)
    if "body" in value and ("url" in value or "custom_id" in value):
        return openai_batch.row(number, value)
    if "messages" in value:
        return Entry(number, _bare(value))
    return Entry(number, body_of(value) if raw is None else given(decode_body(raw)))


def _bare(value: dict[str, Any]) -> TaskBody:
    """{"messages": [...]}, with fields of a task or of a request beside it."""
    unknown = value.keys() - REQUEST - set(FIELDS)
    if unknown:
        first = min(unknown)
        near = difflib.get_close_matches(first, [*REQUEST, *FIELDS], 1)
        raise InvalidTask(
            f"Object contains unknown field `{first}`"
            + (f" (did you mean {near[0]}?)" if near else "")
            + "; beside messages may stand "
            f"{', '.join(FIELDS)} and {', '.join(sorted(REQUEST - {'messages', 'stream'}))}"
        )
    fields = {name: value[name] for name in FIELDS if name in value}
    request = {name: value[name] for name in REQUEST if name in value}
    if isinstance(fields.get("system"), list):
        request["system"] = fields.pop("system")
    request = openai_batch.without_system_messages(request, fields)
    given = fields.get("params")
    if given is not None and not isinstance(given, dict):
        raise InvalidTask("Expected `object | null` - at `$.params`")
    if twice := sorted((given or {}).keys() & request.keys()):
        raise InvalidTask(f"both {twice[0]} and params.{twice[0]} are given")
    fields["params"] = {**(given or {}), **request}
    return body_of(fields)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidTask(f"the key {twice!r} stands twice in one object; which one counts?")
    return value


def _no_number(text: str) -> Any:
    raise InvalidTask(f"{text} is no JSON")


DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        value: dict[str, Any] = DECODER.decode(raw.decode())
    except UnicodeDecodeError as error:
        raise InvalidTask(f"this is not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise InvalidTask("the JSON is nested too deeply") from None
    except ValueError as error:
        raise InvalidTask(f"the JSON cannot be read: {error}") from None
    return value
