"""Files with answers in them are made for their owner alone, as recordings are.

What is there keeps the permissions that its owner has given it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

_MODE = 0o600


def opener(path: str, flags: int) -> int:
    """For `open`: a file that is made is readable by nobody else, whatever the umask."""
    return os.open(path, flags, _MODE)


def prepare(part: Path, target: Path) -> None:
    """Make an empty `part` that will take the place of `target`. Raises OSError."""
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE))
    with suppress(FileNotFoundError):
        part.chmod(stat.S_IMODE(target.stat().st_mode))
