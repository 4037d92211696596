"""What a task says where it is too long for a message: kept in the object bucket, referred to.

The message has a digest and a size, and no name: the object is called by the task's id and that
digest. So a reference leads to nothing but what was stored for this very task, and what lies there
is believed by its digest alone. The bucket is as every client of NATS makes one (ADR-20): parts on
`$O.agentflow.C.<nuid>`, what is said of the whole on `$O.agentflow.M.<name in base64>`. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Any, Final

import msgspec

from agentflow.errors import InvalidTask
from agentflow.protocol import limits, subjects

_PREFIX: Final = "sha256:"


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reference in a task: the digest and the size, in bytes, of what it says besides."""

    digest: Annotated[str, msgspec.Meta(pattern=rf"^{_PREFIX}[0-9a-f]{{64}}\Z")]
    size: Annotated[int, msgspec.Meta(ge=1, le=limits.PAYLOAD_BYTES)]


class Content(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What lies in the object, as JSON: fields that the message leaves out, and more of params."""

    prompt: str | None = None
    system: str | None = None
    params: dict[str, Any] | None = None


class ObjectInfo(msgspec.Struct, omit_defaults=True):
    """What the bucket says of an object; fields as every client has them."""

    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    digest: str
    mtime: str = ""
    deleted: bool = False


_content: Final = msgspec.json.Decoder(Content)
_info: Final = msgspec.json.Decoder(ObjectInfo)
_TOKEN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_NUID: Final = 64


def refer(data: bytes) -> Payload:
    """The reference to what is stored."""
    return Payload(_PREFIX + hashlib.sha256(data).hexdigest(), len(data))


def is_of(data: bytes, payload: Payload) -> bool:
    """Whether this is what a reference means."""
    return len(data) == payload.size and refer(data).digest == payload.digest


def object_name(task_id: str, payload: Payload) -> str:
    """What a task's object is called."""
    return f"{task_id}.{payload.digest.removeprefix(_PREFIX)}"


def task_of(name: str) -> str:
    """The task whose object this is; "" where it is none of ours."""
    task_id, dot, digest = name.rpartition(".")
    return task_id if dot and len(digest) == 64 and subjects.is_id(task_id) else ""


def info_subject(name: str) -> str:
    """Subject of what is said of an object."""
    return f"{subjects.OBJECT_INFOS}.{base64.urlsafe_b64encode(name.encode()).decode()}"


def name_in(subject: str) -> str:
    """The object's name in such a subject, "" where it cannot be read."""
    try:
        return base64.urlsafe_b64decode(subject.rpartition(".")[2]).decode()
    except (binascii.Error, ValueError):
        return ""


def chunk_subject(nuid: str) -> str:
    """Subject of an object's parts."""
    return f"{subjects.OBJECT_CHUNKS}.{nuid}"


def read_info(data: bytes) -> ObjectInfo | None:
    """What is said of an object; None where it is deleted or leads nowhere.

    Whoever may write into the bucket may write anything: a part's subject has no wildcard here.
    """
    try:
        info = _info.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    fit = 0 < len(info.nuid) <= _NUID and _TOKEN.issuperset(info.nuid)
    return info if fit and not info.deleted else None


def info_of(name: str, nuid: str, data: bytes, chunks: int, now: str) -> ObjectInfo:
    """What is said of an object that was stored in so many parts."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
    return ObjectInfo(name, subjects.BUCKET, nuid, len(data), chunks, f"SHA-256={digest}", now)


def read_content(data: bytes) -> Content:
    """What an object says. Raises InvalidTask."""
    try:
        return _content.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidTask(f"its payload cannot be read: {error}", reason="bad_json") from None


def together(
    prompt: str | None, system: str | None, params: dict[str, Any] | None, content: Content
) -> Content:
    """What message and object say together. Raises InvalidTask where both say the same."""
    twice = [
        name
        for name, value in (("prompt", prompt), ("system", system))
        if value is not None and getattr(content, name) is not None
    ]
    twice += [f"params.{name}" for name in (content.params or {}) if name in (params or {})]
    if twice:
        raise InvalidTask(f"both the message and its payload give {twice[0]}", reason="bad_field")
    return Content(
        content.prompt if prompt is None else prompt,
        content.system if system is None else system,
        {**(params or {}), **(content.params or {})} or None,
    )
