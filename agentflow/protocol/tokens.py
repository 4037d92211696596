"""Tokens of the gateway, as the bucket keeps them: hashes, never the tokens themselves.

A token is `af_<id>_<secret>`. The key `token.<id>` holds the SHA-256 of the whole and what it
allows. The secret has 256 bits, so a plain hash is as good as a slow one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime
from typing import Final, Literal

import msgspec

PREFIX: Final = "token."
"""Of the keys; the token's id follows."""
Role = Literal["viewer", "submitter", "operator", "admin"]
ROLES: Final[tuple[Role, ...]] = ("viewer", "submitter", "operator", "admin")
"""Each may what those before it may."""

_TOKEN: Final = re.compile(r"af_([a-z0-9]{8})_[A-Za-z0-9_-]{20,100}")


class Token(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a key holds. `queues`: it reaches only these; `once`: it opens one session and is gone.

    `by` made it, `expires` None: when it is revoked.
    """

    v: int = 1
    id: str
    hash: str
    role: Role
    created: datetime
    by: str = ""
    name: str = ""
    queues: list[str] = []
    expires: datetime | None = None
    once: bool = False

    def holds(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return self.expires is None or now < self.expires


_decoder = msgspec.json.Decoder(Token)


def token_id(text: str) -> str | None:
    """The id in a token, None for what is none."""
    found = _TOKEN.fullmatch(text)
    return found[1] if found else None


def compose(token_id: str, secret: str) -> str:
    """The token."""
    return f"af_{token_id}_{secret}"


def digest(text: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(text.encode()).hexdigest()


def matches(token: Token, text: str) -> bool:
    """Whether `text` is this token; takes as long whatever is wrong with it."""
    return hmac.compare_digest(token.hash, digest(text))


def key(token_id: str) -> str:
    """The key of a token."""
    return PREFIX + token_id


def encode(token: Token) -> bytes:
    """As it is stored."""
    return msgspec.json.encode(token)


def decode(value: bytes | None) -> Token | None:
    """The token that a key holds, None where none can be read."""
    try:
        return None if value is None else _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
