"""How rows write what they hold: instants are ISO 8601 in UTC, money is US dollars."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

Instant = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


def instant(seconds: float) -> Instant:
    """Seconds since 1970 as an instant."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def dollars(micro: int) -> float:
    """Micro-USD as dollars."""
    return micro / 1_000_000
