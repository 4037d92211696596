"""`python -m tests.dashboard.support [TASKS [RATE]]` shows the dashboard over the lifelike feed."""

from __future__ import annotations

import os
import sys

from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow_tui.app import DashboardApp
from agentflow_tui.frame import FrameRate, fastest
from agentflow_tui.theme import choose
from tests.dashboard.support.source import LifelikeSource


def main() -> int:
    """Run it."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 100.0
    theme = sys.argv[3] if len(sys.argv) > 3 else ""
    app = DashboardApp(
        Dashboard(),
        LifelikeSource(tasks=tasks, rate=rate),
        theme=choose(theme, os.environ),
        rate=FrameRate(fastest(os.environ)),
    )
    return app.run() or 0


if __name__ == "__main__":
    raise SystemExit(main())
