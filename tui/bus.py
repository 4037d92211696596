"""What the dashboard does over one client: acts, answers, journeys into the past.

Apart from outside.py, so that the terminal is drawn before any of it is imported.
"""

from __future__ import annotations

from collections.abc import Callable

from agentflow.client import Flow
from tui.feed.acting import Acting
from tui.feed.answers import Answering
from tui.feed.travel import Travelling
from tui.model.dashboard import Dashboard


class Bus:
    """All three, for as long as the client is the same."""

    def __init__(
        self, flow: Flow, dash: Dashboard, now: Callable[[], float], touch: Callable[[], None]
    ) -> None:
        self.flow = flow
        self.acting = Acting(flow, dash, now, touch)
        self.answering = Answering(flow, dash, now, touch)
        self.travelling = Travelling(flow, dash, now, touch)
