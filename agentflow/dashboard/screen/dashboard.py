"""The dashboard as a machine: keys and clicks go in, lines and effects come out.

A reader with keys and a screen. The store, the time and the size of the screen are given; what
needs a terminal, a clock or the bus is an effect for the app.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentflow.dashboard.reader import keys
from agentflow.dashboard.reader.effects import Effect
from agentflow.dashboard.reader.reader import Reader
from agentflow.dashboard.reader.view import Way
from agentflow.dashboard.render.lines import EMPTY, Line, clip, dimmed, in_ascii
from agentflow.dashboard.screen import heading
from agentflow.dashboard.screen.commands import COMMON, Answer
from agentflow.dashboard.views import VIEWS
from agentflow.views.query import QueryError

NARROWEST, SHORTEST = 60, 20
"""Below this a notice says that there is no room."""


@dataclass(slots=True)
class Dashboard(Reader):
    """One person's dashboard."""

    def __post_init__(self) -> None:
        self.views = {view.name: view for view in (make() for make in VIEWS)}

    # Keys.

    def press(self, key: str, now: float) -> list[Effect]:
        """What a key does."""
        pressed = keys.lookup(key, self.view, readonly=self.readonly)
        return self.do(pressed.command, pressed.argument, now) if pressed is not None else []

    def do(self, command: str, argument: str, now: float) -> list[Effect]:
        """Carry out a command: the view's own first, then those of all views."""
        answer: Answer = Way(command, argument)
        try:
            while isinstance(answer, Way):
                command, argument = answer
                scene = self.scene(now)
                answer = self.here.do(scene, command, argument)
                if answer is None and (common := COMMON.get(command)) is not None:
                    answer = common(self, scene, argument)
        except QueryError as error:
            self.tell(f"{argument}: {error}", now, "warn")
            return []
        return answer or []

    # Drawing.

    def frame(self, width: int, height: int, now: float) -> list[Line]:
        """The screen: exactly `height` lines of `width` columns."""
        lines = self._frame(width, height, now)
        return [in_ascii(line) for line in lines] if self.ascii else lines

    def _frame(self, width: int, height: int, now: float) -> list[Line]:
        if width < NARROWEST or height < SHORTEST:
            return heading.too_small(self, width, height, now)
        scene = self.scene(now)
        top = heading.top(self, scene, width, now)
        bottom = heading.bottom(self, scene, width, now)
        room = height - len(top) - len(bottom)
        body = self.here.body(scene, width, room)
        if self.travelled is None and self.store.link is not None and not self.store.link.up:
            body = [dimmed(line) for line in body]
        blank = clip(EMPTY, width)
        return [*top, *(body + [blank] * room)[:room], *bottom]
