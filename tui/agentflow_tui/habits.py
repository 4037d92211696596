"""How a person wants to see the tables, from one time to the next.

Kept as JSON in the person's configuration, and only worth a line of the log where that fails.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from agentflow.dashboard.reader.table import Habit

_log = logging.getLogger(__name__)

FILE: Final = "tui.json"


def place(environment: Mapping[str, str] = os.environ) -> Path:
    """The file."""
    home = environment.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "agentflow" / FILE


def read(path: Path) -> dict[str, Habit]:
    """What was kept; nothing where there is no file, or one that cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Habit])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        _log.warning("%s is left aside: %s", path, error)
        return {}


def set_aside(path: Path) -> str:
    """Rename a file that cannot be read, so that nothing writes over it; what to say of it."""
    try:
        msgspec.json.decode(path.read_bytes(), type=dict[str, Habit])
    except (msgspec.DecodeError, UnicodeDecodeError):
        aside = path.with_name(f"{path.name}.broken")
        try:
            path.replace(aside)
        except OSError as error:
            return f"{path} cannot be read, nor renamed: {error.strerror}"
        return f"{path.name} could not be read and is kept as {aside}"
    except OSError:
        pass  # there is none, or none that we may read
    return ""


def keep(habits: Mapping[str, Habit], path: Path) -> None:
    """Keep it for the next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(habits)))
        new.replace(path)
    except OSError as error:
        _log.warning("%s cannot be written: %s", path, error)
