"""Webhooks as the bucket keeps them, and as they are sent: the Standard Webhooks form.

The key `webhook.<id>` holds where to and of which events; a task with the label `webhook=<id>`, or
of a job whose key is `webhook.job.<job>`, has its events sent there. `webhooks.cursor` is the
sequence up to which records have been looked at.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agentflow.errors import InvalidTask, UsageError

KIND: Final = "webhook"
QUEUE: Final = "webhooks"
LABEL: Final = "webhook"
"""The label of a task whose events are sent; its value is the hook's id."""
PREFIX: Final = "webhook."
OF_JOB: Final = "webhook.job."
CURSOR: Final = "webhooks.cursor"
ENDS: Final = ("task.succeeded", "task.failed", "task.cancelled")
"""The events of a hook that names none."""
SECRET_PREFIX: Final = "whsec_"


HOSTS: Final = "AGENTFLOW_WEBHOOK_HOSTS"
"""The variable that lists where webhooks may go."""


def hosts(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The hosts that it lists."""
    return tuple(name.strip() for name in environment.get(HOSTS, "").split(",") if name.strip())


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where events are sent, and which; none named: the ends."""

    url: str
    events: list[str] = []

    def wants(self, event: str) -> bool:
        """Whether an event is sent."""
        return event in (self.events or ENDS)


class Cursor(msgspec.Struct, frozen=True):
    """Up to where records have been looked at."""

    v: int = 1
    sequence: int = 0


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a task of kind `webhook`: what is sent where, and under which id."""

    url: str
    id: str
    type: str
    timestamp: str
    data: dict[str, Any]

    def body(self) -> bytes:
        """What is sent."""
        told = {"type": self.type, "timestamp": self.timestamp, "data": self.data}
        return msgspec.json.encode(told)


_hook = msgspec.json.Decoder(Webhook)
_cursor = msgspec.json.Decoder(Cursor)


def hook_id(hook: Webhook) -> str:
    """The id of a hook: the same for the same."""
    return hashlib.sha256(msgspec.json.encode(hook)).hexdigest()[:16]


def decode(value: bytes | None) -> Webhook | None:
    """The hook that a key holds, None where none can be read."""
    try:
        return None if value is None else _hook.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def cursor(value: bytes | None) -> int | None:
    """The sequence that the cursor holds, None where there is none."""
    try:
        return None if value is None else _cursor.decode(value).sequence
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def message_id(task_id: str, sequence: int) -> str:
    """`webhook-id` of an event: the task and the record's sequence."""
    return f"{task_id}_{sequence}"


def task_id(event: str) -> str:
    """The id of the task that delivers an event: the same whoever submits it."""
    return f"webhook-{hashlib.sha256(event.encode()).hexdigest()[:32]}"


def delivery(params: dict[str, Any]) -> Delivery:
    """The parameters of a task. Raises InvalidTask."""
    try:
        return msgspec.convert(params, Delivery)
    except msgspec.ValidationError as error:
        raise InvalidTask(f"kind {KIND}: params: {error}") from None


def secret(text: str) -> bytes:
    """The key in a secret such as `whsec_...`. Raises UsageError."""
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < 16:
        raise UsageError(
            "AGENTFLOW_WEBHOOK_SECRET is whsec_ and base64 of 24 bytes or more, such as "
            "`echo whsec_$(head -c 32 /dev/urandom | base64)` prints"
        )
    return key


def signature(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """`webhook-signature` of a message."""
    signed = b"%s.%d.%s" % (message.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
