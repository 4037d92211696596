"""A file a view. Each has what it shows, how it is drawn, and the commands that only it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tui.model.scene import View
from tui.model.views.costs import Costs
from tui.model.views.dead import Dead
from tui.model.views.events import Events
from tui.model.views.help import Help
from tui.model.views.overview import Overview
from tui.model.views.queues import Queues
from tui.model.views.task import Task
from tui.model.views.tasks import Tasks
from tui.model.views.workers import Workers

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
