"""Numbers as people read them: durations, money, counts, bars and sparks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final

NONE: Final = "-"

_SPARKS: Final = "▁▂▃▄▅▆▇█"
_ASCII_SPARKS: Final = "_.:-=+*#"
_PARTS: Final = " ▏▎▍▌▋▊▉█"


def span(seconds: float | None) -> str:
    """A duration in at most five characters: 0.4s, 12s, 9m12, 3h04, 2d4h."""
    if seconds is None:
        return NONE
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}"
    if whole < 864_000:
        return f"{whole // 86_400}d{whole % 86_400 // 3600}h"
    return f"{whole // 86_400}d"


def money(micro: int | None) -> str:
    """Micro-USD as dollars: four figures that count, `-` where the price is unknown."""
    if micro is None:
        return NONE
    dollars = micro / 1_000_000
    if micro == 0:
        return "$0"
    if abs(dollars) < 0.01:
        return f"${dollars:.4f}"
    if abs(dollars) < 10:
        return f"${dollars:.3f}"
    if abs(dollars) < 1000:
        return f"${dollars:.2f}"
    return f"${dollars:,.0f}"


def count(number: float) -> str:
    """A whole number with separators."""
    return f"{number:,.0f}"


def short(number: float) -> str:
    """A number in at most five characters: 999, 12.3k, 4.5M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            value = number / limit
            return f"{value:.1f}{unit}" if value < 99.95 else f"{value:.0f}{unit}"
    return f"{number:.0f}"


def rate(number: float) -> str:
    """A rate: two digits that count below ten."""
    return f"{number:.1f}" if 0 < number < 99.95 else f"{number:,.0f}"


def percent(part: float, whole: float) -> str:
    """A share."""
    return NONE if whole <= 0 else f"{100 * part / whole:.0f}%"


def size(octets: int | None) -> str:
    """Bytes in the unit that people use."""
    if octets is None:
        return NONE
    value = float(octets)
    for unit in ("B", "K", "M", "G"):
        if value < 1000 or unit == "G":
            return f"{value:.0f}{unit}" if unit == "B" or value >= 10 else f"{value:.1f}{unit}"
        value /= 1024
    raise AssertionError


def clock(seconds: float | None, zone: tzinfo | None = None) -> str:
    """An instant as the time of day, in the reader's zone unless another is given."""
    if seconds is None:
        return NONE
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone).strftime("%H:%M:%S")


def stamp(seconds: float | None, zone: tzinfo | None = None) -> str:
    """An instant as date and time of day."""
    if seconds is None:
        return NONE
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def bar(part: float, width: int, *, ascii: bool = False) -> str:
    """A bar of `width` columns that is filled to `part` (0 to 1)."""
    part = min(1.0, max(0.0, part))
    if ascii:
        full = round(part * width)
        return "#" * full + "." * (width - full)
    eighths = round(part * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_PARTS[rest] if rest else "")).ljust(width)[:width]


def sparks(values: Sequence[float], *, top: float = 0.0, ascii: bool = False) -> str:
    """A character for each value, as high as it is beside the highest (or `top`)."""
    glyphs = _ASCII_SPARKS if ascii else _SPARKS
    highest = max([top, *values], default=0.0)
    if highest <= 0:
        return glyphs[0] * len(values)
    last = len(glyphs) - 1
    return "".join(glyphs[min(last, round(max(0.0, value) / highest * last))] for value in values)
