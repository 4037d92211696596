"""How a process writes its log: one event, one line, as text for people or JSON for machines.

Every line says when, how grave, who (the actor: one start of a worker or master) and what. A line
about a task carries `task_id`, `attempt` and `action`; whoever logs adds them, and whatever else is
a fact, with `extra=`. What is a line's text may be a stranger's: it is kept on its line, and
nothing in it reaches a terminal. A traceback is a field in JSON; as text it is indented, so that no
line of it can pass for an entry.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from agentflow.errors import UsageError
from agentflow.views.display import one_line, safe, safe_json

FORMATS: Final = ("text", "json")
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
FORMAT_ENV: Final = "AGENTFLOW_LOG_FORMAT"
LEVEL_ENV: Final = "AGENTFLOW_LOG_LEVEL"
FILE_ENV: Final = "AGENTFLOW_LOG_FILE"

_ENVIRONMENT: Final = (FORMAT_ENV, LEVEL_ENV, FILE_ENV)
STDOUT: Final = "-"
"""As a file: where whoever runs containers looks for it."""
HOLD_EVERY: Final = 2.0

FIELD_CHARS: Final = 2_000
MESSAGE_CHARS: Final = 10_000
TRACEBACK_CHARS: Final = 30_000
CHATTY: Final = (
    *("anthropic", "asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "nats"),
    *("opentelemetry", "urllib3"),
)
"""Libraries that tell of each request or read; a worker makes thousands."""

_ORDINARY: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OWN: Final = frozenset({"time", "level", "logger", "pid", "error", "traceback"})
_SHOWN: Final = ("state", "reason", "seconds", "tokens", "cost_usd", "trace_id")
"""Fields that a line of text shows too, when it is about a task."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of the log."""

    format: str = "text"
    level: str = "INFO"
    file: str | None = None
    asked: bool = False
    """Whether somebody said any of it: then it holds, whatever an app makes of logging."""

    def environment(self) -> dict[str, str]:
        """The same for a child process."""
        variables = {FORMAT_ENV: self.format, LEVEL_ENV: self.level}
        return variables | ({FILE_ENV: _absolute(self.file)} if self.file else {})


def _absolute(file: str) -> str:
    return file if file == STDOUT else os.path.abspath(file)


class Lines(logging.Formatter):
    """An entry as a line of text, or as a JSON object on a line."""

    def __init__(self, format: str = "text") -> None:
        super().__init__()
        self._json = format == "json"
        self.actor = ""

    def format(self, record: logging.LogRecord) -> str:
        return self.as_json(record) if self._json else self.as_text(record)

    def as_json(self, record: logging.LogRecord) -> str:
        """One object; fields that are empty are left out."""
        fields: dict[str, Any] = {
            "time": _instant(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "actor": self.actor or None,
            "pid": record.process,
            **{key: _plain(value) for key, value in facts(record).items() if key not in _OWN},
        }
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
        fields["traceback"] = _traceback(self, record) or None
        kept = {key: value for key, value in fields.items() if value is not None}
        return safe_json(msgspec.json.encode(kept).decode())

    def as_text(self, record: logging.LogRecord) -> str:
        """Time, level and what happened; a task's figures behind it."""
        extra = facts(record)
        line = f"{_instant(record)} {record.levelname} {_message(record)}"
        shown = [f"{name}={_short(extra[name])}" for name in _SHOWN if extra.get(name) is not None]
        if shown and "task_id" in extra:
            line += f" ({', '.join(shown)})"
        behind = _traceback(self, record)
        return "\n    ".join([line, *behind.split("\n")]) if behind else line


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _ORDINARY}


def settings(
    format: str | None = None,
    level: str | None = None,
    file: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> LogSettings:
    """What was given, else what the environment says. Raises UsageError."""
    chosen = LogSettings(
        format=(format or environment.get(FORMAT_ENV) or "text").lower(),
        level=(level or environment.get(LEVEL_ENV) or "INFO").upper(),
        file=file or environment.get(FILE_ENV) or None,
        asked=bool(format or level or file or any(environment.get(name) for name in _ENVIRONMENT)),
    )
    for value, known, name in (
        (chosen.format, FORMATS, FORMAT_ENV),
        (chosen.level, LEVELS, LEVEL_ENV),
    ):
        if value not in known:
            wanted = ", ".join(known).lower()
            raise UsageError(f"{one_line(value, 40)!r} is not for {name}; there are {wanted}")
    return chosen


def set_up(wanted: LogSettings) -> None:
    """Log as wanted, to stderr, stdout or the file, which raises UsageError where it cannot."""
    global _held
    handler = _handler(wanted)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(wanted.level)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    _held = (wanted, handler) if wanted.asked else None


_held: tuple[LogSettings, logging.Handler] | None = None


def hold() -> None:
    """Take our log up again after an app's module was imported, which may have configured logging.

    What an app adds stays, but for what would write between our lines to a terminal. Where nobody
    said how to log, the app decides.
    """
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] == "agentflow" and isinstance(logger, logging.Logger):
            logger.disabled = False  # dictConfig disables all that it does not name
    if _held is None:
        return
    wanted, handler = _held
    root = logging.getLogger()
    if handler not in root.handlers:
        root.addHandler(handler)
    root.setLevel(wanted.level)
    if wanted.file in (None, STDOUT):
        for other in root.handlers[:]:
            if other is not handler and getattr(other, "stream", None) in (sys.stderr, sys.stdout):
                root.removeHandler(other)


async def keep_holding() -> None:
    """The same for what configures logging while it runs; runs until cancelled."""
    while _held is not None:
        if _held[1] not in logging.getLogger().handlers:
            hold()
        await asyncio.sleep(HOLD_EVERY)


def _handler(wanted: LogSettings) -> logging.Handler:
    handler: logging.Handler
    if wanted.file in (None, STDOUT):
        handler = logging.StreamHandler(sys.stdout if wanted.file else sys.stderr)
    else:
        try:
            Path(wanted.file).parent.mkdir(parents=True, exist_ok=True)
            # Appending, so that several processes may write to one file.
            handler = logging.FileHandler(wanted.file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UsageError(
                f"the log {wanted.file} cannot be written: {error.strerror or error}"
            ) from error
    handler.setFormatter(Lines(wanted.format))
    handler.addFilter(_with_trace)
    return handler


def _with_trace(record: logging.LogRecord) -> bool:
    """Add the trace and the span that are current, where anything traces."""
    # Nobody can trace with what is not loaded.
    if "opentelemetry.sdk.trace" in sys.modules:
        from agentflow.telemetry import spans

        if (current := spans.here()) is not None:
            record.trace_id, record.span_id = current
    return True


def set_actor(name: str) -> None:
    """From here on every line of this process names its actor."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, Lines):
            handler.formatter.actor = name


def _instant(record: logging.LogRecord) -> str:
    instant = datetime.fromtimestamp(record.created, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    return one_line(record.getMessage()[:MESSAGE_CHARS])


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.exc_text or ""
    if not text and record.exc_info:
        text = formatter.formatException(record.exc_info)
    if record.stack_info:
        text = f"{text}\n{record.stack_info}".strip("\n")
    # Its end says what went wrong.
    return safe(text[-TRACEBACK_CHARS:])


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else one_line(str(value)[:FIELD_CHARS], 80)


def _plain(value: Any) -> Any:
    """A value that JSON has."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return round(value, 6)
    return one_line(str(value)[:FIELD_CHARS])
