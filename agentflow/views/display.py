"""What of a text may reach a terminal.

Prompts, answers, error messages and names come from anywhere. An escape sequence in one could move
the cursor, rename the window, fill the clipboard or type into the shell; a bidirectional override
could show something else than what is there. All of it is taken out before anything is shown.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

_SEQUENCE: Final = re.compile(
    # Strings for the terminal (titles, clipboard, graphics), with their content.
    "(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\\\|\x9c)"
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # cursor, colours, modes
    "|\x1b[ -/]*[0-~]"  # the rest: resets, character sets
)
_BREAK: Final = re.compile("\r\n?|[\x85\u2028\u2029]")
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks and overrides
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible: byte order mark, annotations, tags
    "]"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SPACE: Final = re.compile("\\s+")
_BARE: Final = re.compile(
    "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def safe(text: str) -> str:
    """`text` for a terminal: line breaks and tabs stay, all other control goes."""
    if text.isascii() and text.isprintable():
        return text
    text = _SEQUENCE.sub("", text)
    text = _BREAK.sub("\n", text)
    text = _UNSAFE.sub("", text)
    return _SURROGATE.sub("\ufffd", text)


def one_line(text: str, width: int | None = None) -> str:
    """`text` for a line of a table: safe, no breaks or tabs, cut to `width` columns."""
    # Much more than fits need not be looked at.
    if width is not None and len(text) > 20 * width + 400:
        text = text[: 20 * width + 400]
    text = _SPACE.sub(" ", safe(text)).strip()
    return text if width is None else fit(text, width)


def columns(text: str) -> int:
    """How many columns a terminal needs for a line."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


@lru_cache(maxsize=8192)
def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def fit(line: str, width: int) -> str:
    """A line of at most `width` columns; what was cut ends with an ellipsis."""
    if columns(line) <= width:
        return line
    used, end = 1, 0
    for end, char in enumerate(line):  # noqa: B007 -- the index is what is wanted
        used += _columns(char)
        if used > width:
            break
    return line[:end].rstrip() + "\u2026" if width > 0 else ""


def safe_json(text: str) -> str:
    """JSON text for a terminal: what JSON leaves bare and a terminal obeys is escaped."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _BARE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    units = memoryview(match.group().encode("utf-16-le")).cast("H")
    return "".join(f"\\u{unit:04x}" for unit in units)
