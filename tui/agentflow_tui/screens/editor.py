"""The person's own programs, while the dashboard waits: the editor and the pager."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path


def edited(text: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The text after $VISUAL or $EDITOR had it; None where the editor failed or is not there."""
    command = environment.get("VISUAL") or environment.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="agentflow-") as folder:
        path = Path(folder) / "prompt.txt"
        path.write_text(text, encoding="utf-8", errors="replace")
        if not _ran([*shlex.split(command), str(path)]):
            return None
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None


def paged(text: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Show text in $PAGER, else in less; False where there is none that works.

    A pager that would pass on control sequences gets none: the text has them no more.
    """
    command = environment.get("PAGER") or "less"
    with tempfile.TemporaryDirectory(prefix="agentflow-") as folder:
        path = Path(folder) / "text.txt"
        path.write_text(text, encoding="utf-8", errors="replace")
        return _ran([*shlex.split(command), str(path)])


def _ran(command: list[str]) -> bool:
    try:
        return subprocess.run(command, check=False).returncode == 0
    except OSError:
        return False
