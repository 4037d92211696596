"""What a credential is called where its limits are shared, without giving it away."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from agentflow.errors import UsageError

_POOL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def pool_of(key: str | None) -> str:
    """The pool of a key: a part of its digest; `profile` where the key is not known here."""
    return hashlib.sha256(key.encode()).hexdigest()[:10] if key else "profile"


def checked_pool(name: str | None) -> str | None:
    """A pool's name as an operator gave it. Raises UsageError."""
    if name is not None and not _POOL.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a pool; use letters, digits, - and _")
    return name
