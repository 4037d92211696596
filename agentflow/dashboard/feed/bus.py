"""What the dashboard does over one client: acts, answers, journeys into the past.

Apart from outside.py, so that the terminal is drawn before any of it is imported.
"""

from __future__ import annotations

from collections.abc import Callable

from agentflow.client import Client
from agentflow.dashboard.feed.acting import Acting
from agentflow.dashboard.feed.answers import Answering
from agentflow.dashboard.feed.travel import Travelling
from agentflow.dashboard.reader.reader import Reader


class Bus:
    """All three, for as long as the client is the same."""

    def __init__(
        self, client: Client, reader: Reader, now: Callable[[], float], touch: Callable[[], None]
    ) -> None:
        self.client = client
        self.acting = Acting(client, reader, now, touch)
        self.answering = Answering(client, reader, now, touch)
        self.travelling = Travelling(client, reader, now, touch)
