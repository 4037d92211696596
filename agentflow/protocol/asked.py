"""What a task asks, as its records keep it: enough to tell that another request has the same id.

Asked is what decides the answer. How, where and when a task runs (queue, priority, labels, timeout,
attempts, times) is none of it, and what a message leaves open stays out: two workers may have two
defaults. Short fields are kept as they are, so that a difference can be named; of the others there
is a digest, because a record is read by more people than a prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from agentflow.errors import InvalidTask
from agentflow.protocol import subjects, task
from agentflow.protocol.payload import Payload
from agentflow.protocol.task import Task, TaskBody

Asked = dict[str, str | int]
"""By field of a task: its value, or the digest of it."""

DIGEST_CHARS: Final = 16
_HOW: Final = frozenset(
    {
        *("id", "timeout", "max_attempts", "labels", "repair", "budget", "title"),
        *("not_before", "deadline", "start_within", "batch", "batch_after"),
    }
)
FIELDS: Final = tuple(name for name in TaskBody.__struct_fields__ if name not in _HOW)
_SHORT: Final = frozenset({"kind", "model", "max_tokens"})
NOTHING: Final[Asked] = {}
"""Of a message that is no task: it is no request that anybody has made before."""


def asked(one: Task | TaskBody) -> Asked:
    """What a task asks. Empty parameters are none."""
    told: Asked = {}
    for name in FIELDS:
        value = getattr(one, name)
        if value is None or (name == "params" and not value):
            continue
        told[name] = value if name in _SHORT else _digest(value)
    told.setdefault("kind", "claude")
    return told


def asked_by(payload: bytes, headers: Mapping[str, str]) -> Asked:
    """What a message asks; its headers fill in what its payload leaves out."""
    try:
        body = task.parse_body(payload, headers)
    except InvalidTask:
        return NOTHING
    body.kind = body.kind or headers.get(subjects.KIND)
    body.model = body.model or headers.get(subjects.MODEL)
    return asked(body)


def _digest(value: object) -> str:
    """The beginning of the SHA-256, in hex, of a text or of the JSON of anything else.

    JSON with its keys in order and without blanks. A reference has its own.
    """
    if isinstance(value, Payload):
        return value.digest.rpartition(":")[2][:DIGEST_CHARS]
    if isinstance(value, str):
        data = value.encode("utf-8", "replace")
    else:
        data = msgspec.json.encode(value, order="deterministic")
    return hashlib.sha256(data).hexdigest()[:DIGEST_CHARS]


def differences(before: Asked, now: Asked) -> str:
    """In which fields two requests differ, as the end of a sentence; empty where they do not."""
    names = [name for name in (*FIELDS, *before) if before.get(name) != now.get(name)]
    return ", ".join(_difference(name, before, now) for name in dict.fromkeys(names))


def _difference(name: str, before: Asked, now: Asked) -> str:
    then, here = before.get(name), now.get(name)
    if name in _SHORT:
        return f"{name} {_shown(then)} then and {_shown(here)} now"
    if then is None:
        return f"a {name} now and none then"
    return f"another {name}" if here is not None else f"no {name} now and one then"


def _shown(value: str | int | None) -> str:
    return "none" if value is None else str(value)
