"""`python -m tests.tui.support [TASKS [RATE]]` shows the dashboard over the lifelike feed."""

from __future__ import annotations

import os
import sys

from tests.tui.support.source import LifelikeSource
from tui.app import DashboardApp
from tui.frame import Pace, fastest
from tui.model.dashboard import Dashboard
from tui.theme import choose


def main() -> int:
    """Run it."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 100.0
    theme = sys.argv[3] if len(sys.argv) > 3 else ""
    app = DashboardApp(
        Dashboard(),
        LifelikeSource(tasks=tasks, rate=rate),
        theme=choose(theme, os.environ),
        pace=Pace(fastest(os.environ)),
    )
    return app.run() or 0


if __name__ == "__main__":
    raise SystemExit(main())
