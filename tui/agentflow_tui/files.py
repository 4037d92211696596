"""Files that the dashboard leaves behind: its log, what was copied, what was exported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

LOG: Final = "tui.log"
COPIED: Final = "copied.txt"
MOST_NAMES: Final = 1000


def cache(environment: Mapping[str, str] = os.environ) -> Path:
    """The person's folder for what may be deleted at any time."""
    home = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "agentflow"


def log(environment: Mapping[str, str] = os.environ) -> Path:
    """The log, where none is named."""
    return cache(environment) / LOG


def keep_copy(text: str, folder: Path) -> Path:
    """Keep what was copied in a file that only its owner reads: not every terminal has a
    clipboard, and none says so. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / COPIED
    path.unlink(missing_ok=True)
    with open(path, "x", encoding="utf-8", errors="replace", opener=_private) as file:
        file.write(text)
    return path


def export(stem: str, suffix: str, text: str, folder: Path, now: float) -> Path:
    """Write to a new file in `folder`, never over one that is there. Raises OSError."""
    at = datetime.fromtimestamp(now, UTC).astimezone().strftime("%Y%m%d-%H%M%S")
    for number in range(MOST_NAMES):
        more = f"-{number}" if number else ""
        path = folder / f"{stem}-{at}{more}.{suffix}"
        try:
            with open(path, "x", encoding="utf-8", errors="replace", newline="") as file:
                file.write(text)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{folder} has {MOST_NAMES} files {stem}-{at} already")


def shown(path: Path) -> str:
    """A path as people write it."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
