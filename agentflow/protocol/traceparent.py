"""The headers of W3C Trace Context: which trace a message belongs to.

    traceparent: 00-<trace id: 32 hex>-<id of the parent span: 16 hex>-<flags: 2 hex>

Anybody may set them, `nats pub -H` too; who does not trace passes them on as they are. A value that
is none is as good as none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
STATE_CHARS: Final = 512
"""Of `tracestate` that is carried: what the standard asks for at least."""

# Versions after 00 may append fields; ff is no version.
_FORM: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


class Parent(NamedTuple):
    """A span in a trace, as numbers."""

    trace: int
    span: int
    flags: int = 1

    @property
    def text(self) -> str:
        """As a header's value."""
        return f"00-{self.trace:032x}-{self.span:016x}-{self.flags:02x}"


def parse(text: str | None) -> Parent | None:
    """What a header's value names; None where it names nothing."""
    found = _FORM.fullmatch(text.strip()) if text and len(text) <= 256 else None
    if found is None or (text is not None and text.startswith("00-") and len(text.strip()) != 55):
        return None
    trace, span, flags = (int(part, 16) for part in found.groups())
    return Parent(trace, span, flags) if trace and span else None


def of(headers: Mapping[str, str]) -> dict[str, str]:
    """The two headers, under their own names, however the sender spelled them; else nothing.

    The standard leaves the case of a header's name to the sender, NATS does not.
    """
    found = {
        name.lower(): value
        for name, value in headers.items()
        if name.lower() in (TRACEPARENT, TRACESTATE)
    }
    if parse(found.get(TRACEPARENT)) is None:
        return {}
    return {name: value for name, value in found.items() if len(value) <= STATE_CHARS}
