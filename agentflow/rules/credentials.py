"""Whether a key can be sent at all. Pure."""

from __future__ import annotations

from typing import Final

from agentflow.errors import UsageError

_PRINTABLE: Final = frozenset(map(chr, range(0x21, 0x7F)))


def usable(key: str | None, name: str) -> str | None:
    """The key without the blanks and line ends it was copied with; what it cannot be is refused.

    The sentence names the place and the character, never the key.
    """
    key = (key or "").strip()
    if len(key) > 1 and key[0] == key[-1] and key[0] in "'\"`":
        raise UsageError(
            f"{name} stands in quotes, as some files of settings have it; leave them out"
        )
    for place, character in enumerate(key, start=1):
        if character not in _PRINTABLE:
            raise UsageError(
                f"{name} cannot be sent: its character {place} is U+{ord(character):04X}, and a"
                " key has only letters, digits and signs of ASCII; copy the key again"
            )
    return key or None
