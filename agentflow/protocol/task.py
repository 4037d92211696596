"""Task messages: from bytes on the bus to a Task, or the reason why not.

A payload is JSON when its first non-blank byte is `{`, else UTF-8 text, which is the prompt.
Headers fill in what the payload leaves out; an unknown field is an error, so that a typing mistake
in `max_tokens` is not a task with another limit.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from agentflow.errors import InvalidTask
from agentflow.protocol import limits, subjects
from agentflow.protocol import payload as payloads
from agentflow.protocol.headers import number
from agentflow.protocol.payload import Content, Payload
from agentflow.protocol.subjects import Priority

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=limits.TIMEOUT_MAX)]
_Attempts = Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_ATTEMPTS_LIMIT)]
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_LabelText = Annotated[str, msgspec.Meta(max_length=limits.LABEL_CHARS)]
_Labels = Annotated[dict[_LabelText, _LabelText], msgspec.Meta(max_length=limits.LABELS)]
_Kind = Annotated[str, msgspec.Meta(pattern=rf"^{limits.KIND_PATTERN}\Z")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

_Title = Annotated[str, msgspec.Meta(max_length=1000)]
_Repair = Annotated[int, msgspec.Meta(ge=0, le=limits.REPAIR_MAX)]
_Budget = Annotated[str, msgspec.Meta(pattern=rf"^{limits.BUDGET_PATTERN}\Z")]

ABILITIES: Final[frozenset[str]] = frozenset(
    {"batch", "budget", "deadline", "payload", "schema", "start_within"}
)
"""What a task may ask for in Agentflow-Needs and this version has."""
_ASKED: Final = tuple(sorted(ABILITIES))


class TaskBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The fields of a task as JSON; times in seconds, instants with a time zone."""

    prompt: str | None = None
    kind: _Kind | None = None
    id: str | None = None
    model: _Name | None = None
    system: str | None = None
    max_tokens: _Positive | None = None
    params: dict[str, Any] | None = None
    timeout: _Seconds | None = None
    max_attempts: _Attempts | None = None
    labels: _Labels | None = None
    not_before: _Instant | None = None
    deadline: _Instant | None = None
    start_within: _Seconds | None = None
    schema: dict[str, Any] | None = None
    repair: _Repair | None = None
    budget: _Budget | None = None
    batch: bool | Literal["once"] | None = None
    batch_after: _Seconds | None = None
    title: _Title | None = None
    payload: Payload | None = None


FIELDS: Final = tuple(
    field.name for field in msgspec.structs.fields(TaskBody) if field.name != "payload"
)
"""Those that people give; a reference to a payload is made by whoever submits."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task that can be run."""

    id: str
    queue: str
    priority: Priority
    kind: str = "claude"
    prompt: str | None = None
    model: str | None = None
    system: str | None = None
    max_tokens: int | None = None
    params: dict[str, Any] = {}
    timeout: float = limits.TIMEOUT_DEFAULT
    max_attempts: int = limits.MAX_ATTEMPTS
    labels: dict[str, str] = {}
    not_before: datetime | None = None
    deadline: datetime | None = None
    start_within: float | None = None
    schema: dict[str, Any] | None = None
    repair: int = limits.REPAIR
    budget: str | None = None
    payload: Payload | None = None
    batch: bool | Literal["once"] = False
    batch_after: float | None = None


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for tasks of a kind that do not say it themselves."""

    timeout: float = limits.TIMEOUT_DEFAULT
    max_attempts: int = limits.MAX_ATTEMPTS


_DEFAULTS: Final = Defaults()
_body = msgspec.json.Decoder(TaskBody)
_body_encoder = msgspec.json.Encoder()
_label_decoder: msgspec.json.Decoder[dict[str, str]] = msgspec.json.Decoder(_Labels)
_BLANK: Final = b" \t\r\n"


def is_json(payload: bytes, headers: Mapping[str, str]) -> bool:
    """Whether a payload is a JSON task rather than a prompt."""
    if headers.get(subjects.CONTENT_TYPE, "").lower().startswith("text/plain"):
        return False
    return payload[:64].lstrip(_BLANK)[:1] == b"{" or payload.lstrip(_BLANK)[:1] == b"{"


def parse_body(payload: bytes, headers: Mapping[str, str]) -> TaskBody:
    """The fields a payload gives. Raises InvalidTask with what to correct."""
    check_size(len(payload), limits.TASK_BYTES)
    if is_json(payload, headers):
        return decode_body(payload)
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise InvalidTask(
            f"the payload is neither JSON nor UTF-8 text (byte {error.start})", reason="bad_text"
        ) from None
    if not text.strip():
        raise InvalidTask("the payload is empty; it should hold a prompt", reason="empty")
    return TaskBody(prompt=text)


def check_size(size: int, most: int = limits.PAYLOAD_BYTES) -> None:
    """Raise InvalidTask for more bytes than a task may have, in its message or in all."""
    if size > most:
        raise InvalidTask(
            f"the task has {size:,} bytes, at most {most:,} are allowed", reason="too_large"
        )


def decode_body(payload: bytes) -> TaskBody:
    """The fields of a JSON task. Raises InvalidTask naming the field at fault."""
    try:
        body = _body.decode(payload)
    except msgspec.ValidationError as error:
        text = str(error)
        if "unknown field" in text:
            text = f"{text}; allowed are {', '.join(FIELDS)}{_meant(text)}"
        raise InvalidTask(text, reason="bad_field") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidTask(f"the JSON cannot be read: {error}", reason="bad_json") from None
    except RecursionError:
        raise InvalidTask("the JSON is nested too deeply", reason="bad_json") from None
    return check_body(body)


def _meant(text: str) -> str:
    """What a field at the top that nobody knows may have been meant to be."""
    name = text.partition("`")[2].partition("`")[0]
    near = difflib.get_close_matches(name, FIELDS, 1) if " - at " not in text else []
    return f" (did you mean {near[0]}?)" if near else ""


def check_body(body: TaskBody) -> TaskBody:
    """Return `body`; raise InvalidTask where its fields do not go together."""
    if body.id is not None:
        subjects.check_id(body.id)
    if body.payload is not None:
        return body
    nothing = not (body.prompt and body.prompt.strip()) and not body.params
    # A handler of one's own may take no arguments; a task for it says `params: {}`.
    if nothing and (body.params is None or body.kind in (None, "claude")):
        raise InvalidTask("a task needs a prompt (or params)", reason="empty")
    if body.repair is not None and body.schema is None:
        raise InvalidTask("repair is for answers to a schema; give a schema", reason="bad_field")
    return body


def encode_body(body: TaskBody) -> bytes:
    """A task as JSON, without the fields that are not set."""
    return _body_encoder.encode(body)


def split(body: TaskBody) -> tuple[TaskBody, bytes]:
    """A body with a reference in the place of what may be long, and what that refers to.

    The model stays: by it a worker knows the route.
    """
    params = dict(body.params or {})
    kept = {"model": params.pop("model")} if "model" in params else None
    content = Content(body.prompt, body.system, params or None)
    # In order: the same request has the same digest, however its keys stood.
    data = msgspec.json.encode(content, order="deterministic")
    reference = payloads.refer(data)
    small = msgspec.structs.replace(body, prompt=None, system=None, params=kept, payload=reference)
    return small, data


def joined(task: Task, data: bytes) -> Task:
    """A task and what its reference leads to. Raises InvalidTask."""
    content = payloads.read_content(data)
    whole = payloads.together(task.prompt, task.system, task.params, content)
    return msgspec.structs.replace(
        task, prompt=whole.prompt, system=whole.system, params=whole.params or {}, payload=None
    )


_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def derived_id(queue: str, sequence: int, stored_ns: int) -> str:
    """The id of a task that was given none: the same on every delivery of its message."""
    return f"{queue}-{sequence}-{_base36(stored_ns // 1_000_000)}"


def given_id(headers: Mapping[str, str], body: TaskBody | None) -> str | None:
    """The id that the message itself gives, if any. Raises InvalidTask for a bad Agentflow-Id."""
    header = headers.get(subjects.ID)
    if header is not None:
        return subjects.check_id(header)
    if body is not None and body.id is not None:
        return body.id
    message_id = headers.get(subjects.MSG_ID, "")
    return message_id if subjects.is_id(message_id) else None


def task_id(
    headers: Mapping[str, str], body: TaskBody | None, queue: str, sequence: int, stored_ns: int
) -> str:
    """The id under which a message is run or failed; a bad one given is replaced by the derived."""
    try:
        given = given_id(headers, body)
    except InvalidTask:
        given = None
    return given or derived_id(queue, sequence, stored_ns)


def identified(
    headers: Mapping[str, str], payload: bytes, queue: str, sequence: int, stored_ns: int
) -> tuple[str, int]:
    """The id under which a stored message is run or failed, and the sequence that it follows."""
    body: TaskBody | None = None
    try:
        after = follows(headers)
    except InvalidTask:
        after = 0
    with contextlib.suppress(InvalidTask):  # it fails under the id that headers or place give
        body = parse_body(payload, headers)
    return task_id(headers, body, queue, sequence, stored_ns), after


def follows(headers: Mapping[str, str]) -> int:
    """The sequence a continuation names, 0 for an original. Raises InvalidTask for nonsense."""
    text = headers.get(subjects.FOLLOWS, "0")
    sequence = number(text)
    if sequence is None:
        raise InvalidTask(
            f"{subjects.FOLLOWS} is {text[:40]!r}, not a sequence", reason="bad_field"
        )
    return sequence


def abilities(body: TaskBody) -> list[str]:
    """What its fields need: a worker that does not know them must leave the task to another."""
    asked = [name for name in _ASKED if getattr(body, name) is not None]
    return asked if body.batch_after is None or "batch" in asked else ["batch", *asked]


def missing_abilities(headers: Mapping[str, str]) -> list[str]:
    """What the message needs and this version lacks."""
    needs = headers.get(subjects.NEEDS)
    if not needs:
        return []
    names = [name.strip() for name in needs.split(",")]
    return [name for name in names if name and name not in ABILITIES]


class _Labelled(msgspec.Struct):
    labels: _Labels | None = None


_labelled = msgspec.json.Decoder(_Labelled)


def labels_header(labels: Mapping[str, str]) -> str:
    """Labels as the value of Agentflow-Labels: compact ASCII JSON."""
    return _ascii(msgspec.json.encode(dict(labels)))


def _ascii(data: bytes) -> str:
    text = data.decode()
    if text.isascii():
        return text
    return "".join(
        char
        if char.isascii()
        else "".join(f"\\u{unit:04x}" for unit in memoryview(char.encode("utf-16-le")).cast("H"))
        for char in text
    )


def labels_from(header: str | None) -> dict[str, str]:
    """Labels in a header; none where it does not hold labels as a payload might."""
    if not header:
        return {}
    try:
        return _label_decoder.decode(header)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}


def labels_of(headers: Mapping[str, str], payload: bytes) -> dict[str, str]:
    """The labels of a task message: its payload's come before its header's."""
    try:
        if payload.lstrip()[:1] == b"{" and (labels := _labelled.decode(payload).labels):
            return labels
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    return labels_from(headers.get(subjects.LABELS))


def title_of(text: str | None) -> str:
    """The beginning of a text as one line, as a list shows it."""
    if not text:
        return ""
    line = " ".join(text[: 8 * limits.TITLE_CHARS].split())
    return "".join(char for char in line if char.isprintable())[: limits.TITLE_CHARS].rstrip()


def title(body: TaskBody | None, headers: Mapping[str, str]) -> str:
    """How lists call a task: its header, its field, else its prompt; an empty one is none."""
    given = headers.get(subjects.TITLE)
    if given is not None:
        return title_of(given)
    if body is None:
        return ""
    if body.title is not None:
        return title_of(body.title)
    return title_of(beginning(body.prompt, body.params))


def beginning(prompt: Any, params: Any) -> str:
    """The prompt of a task, or the text of the first message in its parameters."""
    if isinstance(prompt, str) and prompt:
        return prompt
    messages = params.get("messages") if isinstance(params, Mapping) else None
    first = messages[0] if isinstance(messages, list) and messages else None
    content = first.get("content") if isinstance(first, dict) else None
    if isinstance(content, list):
        texts = (block.get("text") for block in content if isinstance(block, dict))
        content = next((text for text in texts if isinstance(text, str)), None)
    return content if isinstance(content, str) else ""


def _header(headers: Mapping[str, str], name: str, kind: Any) -> str | None:
    """A header under the same limits as its field: a record would carry all of its 64 KB."""
    text = headers.get(name)
    if not text:
        return None
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError as error:
        raise InvalidTask(f"{name}: {error}", reason="bad_field") from None
    return text


def build(
    body: TaskBody,
    headers: Mapping[str, str],
    queue: str,
    priority: Priority,
    task_id: str,
    defaults: Mapping[str, Defaults] | None = None,
) -> Task:
    """The task of a parsed body; headers fill in kind, model and labels it leaves out.

    `defaults` has those of some kinds, by kind.
    """
    kind = body.kind or _header(headers, subjects.KIND, _Kind) or "claude"
    default = defaults.get(kind, _DEFAULTS) if defaults else _DEFAULTS
    if body.schema is not None and kind != "claude":
        raise InvalidTask(
            f"a schema is for kind claude; kind {kind} gives its own results", reason="bad_field"
        )
    horizon = datetime.now(UTC).timestamp() + limits.HORIZON
    if body.not_before is not None and body.not_before.timestamp() > horizon:
        raise InvalidTask(
            f"not_before lies more than {limits.HORIZON // limits.DAY} days ahead",
            reason="bad_field",
        )
    return Task(
        id=task_id,
        queue=queue,
        priority=priority,
        kind=kind,
        prompt=body.prompt,
        model=body.model or _header(headers, subjects.MODEL, _Name),
        system=body.system,
        max_tokens=body.max_tokens,
        params=body.params or {},
        timeout=body.timeout or default.timeout,
        max_attempts=body.max_attempts or default.max_attempts,
        labels=body.labels
        if body.labels is not None
        else labels_from(headers.get(subjects.LABELS)),
        not_before=body.not_before,
        deadline=body.deadline,
        start_within=body.start_within,
        schema=body.schema,
        repair=limits.REPAIR if body.repair is None else body.repair,
        budget=body.budget,
        payload=body.payload,
        batch=body.batch or False,
        batch_after=body.batch_after,
    )
