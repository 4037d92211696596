"""A file a view. Each has what it shows, how it is drawn, and the commands that only it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tui.model.scene import View
from tui.model.views.events import Events
from tui.model.views.overview import Overview
from tui.model.views.task import Task
from tui.model.views.tasks import Tasks

VIEWS: Final[tuple[Callable[[], View], ...]] = (Overview, Tasks, Task, Events)
