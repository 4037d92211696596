"""Something that needs a person."""

from __future__ import annotations

import msgspec


class Item(msgspec.Struct, frozen=True):
    """Something that needs a person: what, the evidence, and the command that leads there.

    `level` is crit or warn; `hint` is the key or the command line that mends it or looks into it.
    """

    level: str
    text: str
    evidence: str
    hint: str
    command: str = ""
    argument: str = ""
