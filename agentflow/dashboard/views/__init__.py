"""A file a view. Each has what it shows, how it is drawn, and the commands that only it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agentflow.dashboard.reader.view import View
from agentflow.dashboard.views.costs import Costs
from agentflow.dashboard.views.dead import Dead
from agentflow.dashboard.views.events import Events
from agentflow.dashboard.views.help import Help
from agentflow.dashboard.views.overview import Overview
from agentflow.dashboard.views.queues import Queues
from agentflow.dashboard.views.task.view import Task
from agentflow.dashboard.views.tasks import Tasks
from agentflow.dashboard.views.workers import Workers

VIEWS: Final[tuple[Callable[[], View], ...]] = (
    Overview,
    Tasks,
    Workers,
    Queues,
    Costs,
    Dead,
    Events,
    Task,
    Help,
)
