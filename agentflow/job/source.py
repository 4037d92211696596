"""The input file: `.jsonl` (task objects), `.txt` (a prompt a line) or `-`.

The whole file is checked before anything is submitted. A line without an id gets one made of the
hash of its effective request and the number of its occurrence among those lines, so that the same
file submitted again is the same tasks, wherever a line has moved to.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from agentflow.errors import InvalidInput, InvalidTask, UsageError
from agentflow.protocol import limits
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import (
    TaskBody,
    build,
    check_body,
    decode_body,
    encode_body,
    parse_body,
)

HASH_CHARS: Final = 24


class Item(msgspec.Struct, frozen=True):
    """One line that is a task. `request` is the hash of what Claude will be asked."""

    line: int
    id: str
    request: str
    body: TaskBody


def load(name: str, stdin: Iterable[bytes], *, model: str | None, simulate: bool) -> list[Item]:
    """All tasks of a file. Raises UsageError for no file, InvalidInput for bad lines."""
    if name == "-":
        return read(stdin, "standard input", as_json=None, model=model, simulate=simulate)
    path = Path(name)
    as_json = {".jsonl": True, ".ndjson": True, ".txt": False}.get(path.suffix.lower())
    if as_json is None:
        raise UsageError(
            f"{name}: the name must end in .jsonl (task objects) or .txt (a prompt a line)"
        )
    try:
        with path.open("rb") as lines:
            return read(lines, name, as_json=as_json, model=model, simulate=simulate)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror or error}") from None


def read(
    lines: Iterable[bytes], name: str, *, as_json: bool | None, model: str | None, simulate: bool
) -> list[Item]:
    """The tasks in `lines`; `as_json` None decides line by line. Raises InvalidInput."""
    items: list[Item] = []
    problems: list[tuple[int, str]] = []
    seen: dict[str, int] = {}
    occurrences: Counter[str] = Counter()
    for number, raw in _lines(lines):
        try:
            body = _body(raw, as_json)
            if model and body.model is None and "model" not in (body.params or {}):
                body.model = model
            _check_message(body)
            request = request_hash(body, simulate=simulate)
            task_id = body.id
            if task_id is None:
                occurrences[request] += 1
                task_id = f"{request}-{occurrences[request]}"
            if task_id in seen:
                raise InvalidTask(f"the id {task_id!r} stands in line {seen[task_id]} already")
        except InvalidTask as error:
            problems.append((number, str(error)))
            continue
        seen[task_id] = number
        items.append(Item(number, task_id, request, body))
    if problems:
        raise InvalidInput(name, problems)
    if not items:
        raise UsageError(f"{name} holds no tasks")
    return items


def _lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, raw in enumerate(lines, 1):
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")  # what Windows editors put before UTF-8
        raw = raw.strip()
        if raw:
            yield number, raw


def _body(raw: bytes, as_json: bool | None) -> TaskBody:
    if len(raw) > limits.TASK_BYTES:
        raise InvalidTask(
            f"the line has {len(raw):,} bytes, at most {limits.TASK_BYTES:,} are allowed"
        )
    if as_json or (as_json is None and raw.startswith(b"{")):
        if not raw.startswith(b"{"):
            raise InvalidTask('this is not a task object; a line looks like {"prompt": "..."}')
        return decode_body(raw)
    try:
        return check_body(TaskBody(prompt=raw.decode()))
    except UnicodeDecodeError as error:
        raise InvalidTask(f"this is not UTF-8 text (byte {error.start})") from None


def _check_message(body: TaskBody) -> None:
    """Raise InvalidTask for what only the message would be refused for, after money was spent."""
    parse_body(encode_body(body), {})  # a text may be longer as JSON, a model's name too long
    if body.not_before is not None:
        build(body, {}, "", Priority.NORMAL, "")  # checks how far ahead it lies


def request_hash(body: TaskBody, *, simulate: bool) -> str:
    """Hash of what decides the answer; a simulated answer is never taken for a real one."""
    parts = {
        "kind": body.kind or "claude",
        "prompt": body.prompt,
        "model": body.model,
        "system": body.system,
        "max_tokens": body.max_tokens,
        "params": body.params,
        "simulate": simulate or None,
    }
    data = msgspec.json.encode(parts, order="deterministic")
    return hashlib.sha256(data).hexdigest()[:HASH_CHARS]
