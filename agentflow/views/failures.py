"""Errors that are the same one: a fingerprint without what differs from task to task.

Numbers, ids, hex, quoted texts, addresses and times become placeholders, so that ten thousand
failures read as the three causes they have.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import msgspec

from agentflow.protocol.record import Failure

LENGTH: Final = 200
"""Characters of a message that count; dead letters keep no more."""

_QUOTED: Final = re.compile(
    r'"[^"\n]*"|`[^`\n]*`|“[^”\n]*”'
    # An apostrophe within a word opens nothing.
    r"|(?<!\w)'[^'\n]*'(?!\w)"
)
_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s<>]+", re.I)
_WORD: Final = re.compile(r"[A-Za-z0-9_]+(?:[-.:][A-Za-z0-9_]+)*")
_HEX: Final = re.compile(r"(?:0x)?[0-9a-f]{8,}", re.I)
_NUMBER: Final = re.compile(r"\d+(?:[.,:]\d+)*")
_SPACE: Final = re.compile(r"\s+")


class Fingerprint(NamedTuple):
    """What failures have in common; `key` is short, for people to type."""

    key: str
    type: str
    status: int | None
    code: str | None
    message: str


def normalise(message: str) -> str:
    """The message with what differs from task to task replaced."""
    text = _SPACE.sub(" ", message).strip()[:LENGTH]
    text = _URL.sub("<url>", text)
    text = _QUOTED.sub("<text>", text)
    # A quote that the cut left open.
    text = re.sub(r'["`“].*$', "<text>", text)
    text = _WORD.sub(_word, text)
    return _SPACE.sub(" ", text).strip()


def _word(found: re.Match[str]) -> str:
    word = found[0]
    if not any(char.isdigit() for char in word):
        return word
    if _NUMBER.fullmatch(word):
        return "<n>"
    # With fewer digits it is a name: sha256, utf-8, claude-opus-5-5.
    digits = sum(char.isdigit() for char in word)
    if _HEX.fullmatch(word) or digits >= 4 or len(word) >= 20:
        return "<id>"
    return _NUMBER.sub("<n>", word)


def fingerprint(reason: str, failure: Failure | None) -> Fingerprint:
    """Of a failed task: why it failed, and the error as far as it is known."""
    kind = (failure.type if failure else "") or reason
    status = failure.status if failure else None
    code = failure.code if failure else None
    message = normalise(failure.message) if failure else ""
    whole = "\x00".join((reason, kind, str(status), str(code), message))
    key = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return Fingerprint(key, kind, status, code, message)


class Failed(Protocol):
    """A failed task, as far as it is counted."""

    @property
    def id(self) -> str:
        """The task's id."""

    @property
    def fingerprint(self) -> str:
        """The key of its group."""

    @property
    def reason(self) -> str:
        """Why it failed."""

    @property
    def queue(self) -> str:
        """Where it was queued."""

    @property
    def kind(self) -> str:
        """What should have run it."""

    @property
    def time(self) -> datetime:
        """When it failed."""


class FailureGroup(msgspec.Struct, kw_only=True):
    """Failures with one fingerprint; `example` is the id of the newest."""

    fingerprint: str
    count: int
    reason: str
    type: str
    status: int | None
    code: str | None
    message: str
    queues: list[str]
    kinds: list[str]
    oldest: datetime
    newest: datetime
    example: str

    def include(self, failed: Failed) -> None:
        """One more."""
        self.count += 1
        self.oldest = min(self.oldest, failed.time)
        if failed.time >= self.newest:
            self.newest, self.example = failed.time, failed.id
        if failed.queue not in self.queues:
            self.queues = sorted([*self.queues, failed.queue])
        if failed.kind not in self.kinds:
            self.kinds = sorted([*self.kinds, failed.kind])


class FailureGroups:
    """Failures by what they have in common, as they are read: none of them is kept."""

    def __init__(self) -> None:
        self._groups: dict[str, FailureGroup] = {}

    def add(self, failed: Failed, error: Failure | None) -> None:
        """One more."""
        group = self._groups.get(failed.fingerprint)
        if group is not None:
            group.include(failed)
            return
        common = fingerprint(failed.reason, error)
        self._groups[failed.fingerprint] = FailureGroup(
            fingerprint=failed.fingerprint,
            count=1,
            reason=failed.reason,
            type=common.type,
            status=common.status,
            code=common.code,
            message=common.message,
            queues=[failed.queue],
            kinds=[failed.kind],
            oldest=failed.time,
            newest=failed.time,
            example=failed.id,
        )

    def ranked(self) -> list[FailureGroup]:
        """The most frequent first."""
        return sorted(self._groups.values(), key=lambda group: (-group.count, group.fingerprint))
