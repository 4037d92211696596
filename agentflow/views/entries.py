"""Lines of the logs of a local stack as entries, whoever wrote them: our parts or nats-server.

A line that begins with no instant (a traceback, what a library printed) belongs to the one before.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")

_SERVER_LEVELS: Final = {"TRC": "DEBUG", "DBG": "DEBUG", "INF": "INFO", "WRN": "WARNING"}
_TEXT: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT[\d:.]+Z) (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)", re.S
)
_SERVER: Final = re.compile(r"\[\d+\] (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+) \[(\w{3})\] (.*)", re.S)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a log; `task` where the entry itself names it."""

    part: str
    time: datetime
    level: str
    text: str
    task: str | None = None


class _Line(msgspec.Struct):
    time: datetime
    level: str
    message: str
    task_id: str | None = None
    traceback: str | None = None


_json = msgspec.json.Decoder(_Line)


def parse(part: str, line: str) -> Entry | None:
    """The entry that a line of a part's log begins; None where it begins none."""
    if line.startswith("{"):
        try:
            found = _json.decode(line)
        except (msgspec.DecodeError, ValueError):
            return None
        behind = f"\n    {found.traceback}" if found.traceback else ""
        return Entry(
            part=part,
            time=found.time,
            level=_level(found.level),
            text=found.message + behind.replace("\n", "\n    "),
            task=found.task_id,
        )
    if matched := _TEXT.fullmatch(line):
        instant, level, text = matched.groups()
        return _entry(part, instant, _level(level), text)
    if matched := _SERVER.fullmatch(line):
        instant, short, text = matched.groups()
        return _entry(part, instant, _SERVER_LEVELS.get(short, "ERROR"), text)
    return None


def more(entry: Entry, line: str) -> Entry:
    """The entry with a line that belongs to it."""
    return msgspec.structs.replace(entry, text=f"{entry.text}\n{line}")


def wanted(entry: Entry, task: str | None, level: str) -> bool:
    """Whether an entry is at least as grave, and about this task or naming it."""
    if LEVELS.index(entry.level) < LEVELS.index(level):
        return False
    if task is None or entry.task == task:
        return True
    return re.search(rf"(?<![\w-]){re.escape(task)}(?![\w-])", entry.text) is not None


def _level(name: str) -> str:
    return name if name in LEVELS else "ERROR"


def _entry(part: str, instant: str, level: str, text: str) -> Entry | None:
    try:
        # Without a zone it is that of its machine, which is this one: so the server writes it.
        time = datetime.fromisoformat(instant.replace("/", "-")).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return Entry(part=part, time=time, level=level, text=text)
