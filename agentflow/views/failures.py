"""Errors that are the same one: a fingerprint without what differs from task to task.

Numbers, ids, hex, quoted texts, addresses and times become placeholders, so that ten thousand
failures read as the three causes they have.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

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
