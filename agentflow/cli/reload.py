"""The process behind `agentflow worker --reload`: SIGHUP to its parent when code changes."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
from pathlib import Path

_log = logging.getLogger(__name__)


def watch(target: str | None) -> None:
    """Watch this directory, and the package of MODULE:APP where that lies elsewhere."""
    import watchfiles

    parent = os.getppid()
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    for changes in watchfiles.watch(*folders(target), watch_filter=watchfiles.PythonFilter()):
        names = sorted({Path(path).name for _, path in changes})
        _log.info("changed: %s", ", ".join(names[:5]) + (", ..." if len(names) > 5 else ""))
        if os.getppid() != parent:
            return
        os.kill(parent, signal.SIGHUP)


def folders(target: str | None) -> list[Path]:
    """What to watch."""
    here = Path.cwd()
    watched = [here]
    if target is not None:
        sys.path.insert(0, str(here))
        # The outermost package: looking for an inner one would run the code of those around it.
        spec = importlib.util.find_spec(target.partition(":")[0].partition(".")[0])
        locations = (spec.submodule_search_locations or []) if spec is not None else []
        for folder in (Path(location).resolve() for location in locations):
            if not folder.is_relative_to(here.resolve()):
                watched.append(folder)
    return watched
