"""The dashboard as a machine: keys and clicks go in, lines and effects come out.

It holds which view is open, how one came there, and what is frozen. The store, the time and the
size of the screen are given; what needs a terminal, a clock or the bus is an effect for the app.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

from agentflow.dashboard.reader import acts, commands, heading, keys
from agentflow.dashboard.reader.effects import Copy, Effect, Prompt, Quit, Submit, Travel
from agentflow.dashboard.reader.query import QueryError
from agentflow.dashboard.reader.scene import Answers, Receipt, Scene, View
from agentflow.dashboard.reader.table import Habit
from agentflow.dashboard.render.lines import EMPTY, Line, clip, dimmed, in_ascii
from agentflow.dashboard.store.store import Store
from agentflow.dashboard.views import VIEWS

NOTICE_FOR = 6.0
"""Seconds for which a notice stands above the key bar."""
FIRST = "overview"
NARROWEST, SHORTEST = 60, 20
"""Below this a notice says that there is no room."""


@dataclass(slots=True)
class Notice:
    """A sentence for the person, since when and until when."""

    text: str
    token: str
    since: float
    until: float


@dataclass(slots=True)
class Dashboard:
    """One person's dashboard."""

    store: Store = field(default_factory=Store)
    readonly: bool = False
    ascii: bool = False
    recording: str = ""
    """The name of the recording that is replayed."""
    zone: tzinfo | None = None
    """The zone of times of day; None: that of this machine."""
    view: str = FIRST
    travelled: Store | None = None
    """The store at another time, where one is looked at."""
    travelled_to: float = 0.0
    frozen: Store | None = None
    """A copy to look at while the picture is frozen."""
    frozen_at: float = 0.0
    answers: Answers = field(default_factory=Answers)
    receipts: list[Receipt] = field(default_factory=list)
    notice: Notice | None = None
    meter: str = ""
    """The dashboard's own figures, shown where asked for."""
    metered: bool = False
    views: dict[str, View] = field(default_factory=dict)
    _back: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.views = {view.name: view for view in (make() for make in VIEWS)}

    # Facts.

    @property
    def here(self) -> View:
        """The view that is open."""
        return self.views[self.view]

    def scene(self, now: float) -> Scene:
        """What the open view is about: now, a frozen moment, or another time."""
        store, at = self.store, now
        if self.travelled is not None:
            store, at = self.travelled, self.travelled_to
        elif self.frozen is not None:
            store, at = self.frozen, self.frozen_at
        return Scene(
            store=store,
            now=at,
            answers=self.answers,
            receipts=self.receipts,
            ascii=self.ascii,
            readonly=self.acts_off(now) is not None,
            live=self.travelled is None,
            zone=self.zone,
        )

    def acts_off(self, now: float) -> str | None:
        """Why nothing can be changed now, None where it can."""
        if self.readonly:
            return "this dashboard is read-only"
        if self.travelled is not None:
            return "this is another time; L goes back to now"
        if self.store.link is None or not self.store.link.up:
            return "there is no connection"
        return None

    def followed(self) -> list[str]:
        """The tasks whose text is on the screen."""
        found: Callable[[], list[str]] | None = getattr(self.here, "followed", None)
        return found() if found is not None and self.travelled is None else []

    def wanted(self, now: float) -> list[Effect]:
        """What must be read for the open view, asked for before each frame.

        The text of the tasks that it follows is kept from now on. A view names once each thing that
        it lacks; without a connection it is not asked, and names it when there is one again.
        """
        if followed := self.followed():
            self.store.follow(followed)
        wants: Callable[[Scene], list[Effect]] | None = getattr(self.here, "wants", None)
        if wants is None or self.store.link is None or not self.store.link.up:
            return []
        return wants(self.scene(now))

    # Keys.

    def press(self, key: str, now: float) -> list[Effect]:
        """What a key does."""
        found = keys.lookup(key, self.view, readonly=self.readonly)
        return self.do(found.command, found.argument, now) if found is not None else []

    def do(self, command: str, argument: str, now: float) -> list[Effect]:
        """Carry out a command: the view's own first, then those of all views."""
        scene = self.scene(now)
        try:
            answer = self.here.do(scene, command, argument)
            if answer is None and (common := _COMMON.get(command)) is not None:
                answer = common(self, scene, argument)
        except QueryError as error:
            self.tell(f"{argument}: {error}", now, "warn")
            return []
        return answer or []

    def tell(self, text: str, now: float, token: str = "text") -> None:
        """Show a notice for a while."""
        self.notice = Notice(text, token, now, now + NOTICE_FOR)

    def open(self, view: str, argument: str = "") -> None:
        """Open a view, if there is such a one; `back` returns to this one."""
        if view not in self.views:
            return
        if view != self.view:
            self._back = [*self._back[-20:], self.view]
            self._show(view)
        show = getattr(self.here, "show", None)
        if show is not None and argument:
            show(argument)

    def back(self) -> bool:
        """Go back one view; False at the root."""
        if self._back:
            self._show(self._back.pop())
            return True
        if self.view != FIRST:
            self._show(FIRST)
            return True
        return False

    def _show(self, view: str) -> None:
        self.view = view
        if (table := self.here.table) is not None:
            table.opened()

    def habits(self) -> dict[str, Habit]:
        """How the person wants to see each view's table; `adopt` takes it back."""
        return {
            name: view.table.habit() for name, view in self.views.items() if view.table is not None
        }

    def adopt(self, habits: Mapping[str, Habit]) -> None:
        """Show the tables as they were kept."""
        for name, habit in habits.items():
            view = self.views.get(name)
            if view is not None and view.table is not None:
                view.table.adopt(habit)

    # Drawing.

    def frame(self, width: int, height: int, now: float) -> list[Line]:
        """The screen: exactly `height` lines of `width` columns."""
        found = self._frame(width, height, now)
        return [in_ascii(each) for each in found] if self.ascii else found

    def _frame(self, width: int, height: int, now: float) -> list[Line]:
        if width < NARROWEST or height < SHORTEST:
            return heading.too_small(self, width, height, now)
        scene = self.scene(now)
        top = heading.top(self, scene, width, now)
        bottom = heading.bottom(self, scene, width, now)
        room = height - len(top) - len(bottom)
        body = self.here.body(scene, width, room)
        if self.travelled is None and self.store.link is not None and not self.store.link.up:
            body = [dimmed(each) for each in body]
        blank = clip(EMPTY, width)
        return [*top, *(body + [blank] * room)[:room], *bottom]


Common = Callable[[Dashboard, Scene, str], "list[Effect] | None"]


def _view(dash: Dashboard, scene: Scene, name: str) -> None:
    if name in dash.views:
        dash.open(name)


def _show_tasks(dash: Dashboard, scene: Scene, text: str) -> None:
    dash.open("tasks", text)


def _move(dash: Dashboard, scene: Scene, rows: str) -> None:
    if (table := dash.here.table) is not None:
        table.move(int(rows), scene.now)


def _half(dash: Dashboard, scene: Scene, sign: str) -> None:
    if (table := dash.here.table) is not None:
        table.move(int(sign) * max(1, table.height // 2), scene.now)


def _page(dash: Dashboard, scene: Scene, sign: str) -> None:
    if (table := dash.here.table) is not None:
        table.move(int(sign) * max(1, table.height - 1), scene.now)


def _end(dash: Dashboard, scene: Scene, sign: str) -> None:
    if (table := dash.here.table) is not None:
        table.move(int(sign) * len(table.order), scene.now)


def _row(dash: Dashboard, scene: Scene, key: str) -> list[Effect] | None:
    """A click: the first one goes there, one on the cursor opens."""
    table = dash.here.table
    if table is None:
        return None
    if table.cursor == key:
        return dash.do("open", "", scene.now)
    table.to(key, scene.now)
    return None


def _open(dash: Dashboard, scene: Scene, _: str) -> list[Effect] | None:
    """Open what is chosen: what needs attention, else the task under the cursor."""
    chosen = getattr(dash.here, "chosen", None)
    item = chosen() if chosen is not None else None
    if item is not None:
        return dash.do(item.command, item.argument, scene.now) if item.command else None
    table = dash.here.table
    if table is None or table.item() is None:
        return None
    return dash.do("open_task", table.cursor, scene.now)


def _open_task(dash: Dashboard, scene: Scene, task_id: str) -> list[Effect] | None:
    if "task" not in dash.views:
        return None
    dash.open("task", task_id)
    return []


def _sort(dash: Dashboard, scene: Scene, step: str) -> None:
    if (table := dash.here.table) is not None:
        dash.tell(f"sorted by {table.next_sort(int(step)).lower()}", scene.now)


def _sort_by(dash: Dashboard, scene: Scene, column: str) -> None:
    if (table := dash.here.table) is not None:
        table.sort_by(column)


def _reverse(dash: Dashboard, scene: Scene, _: str) -> None:
    if (table := dash.here.table) is not None:
        table.sort_by(table.sort)


def _mark(dash: Dashboard, scene: Scene, _: str) -> None:
    if (table := dash.here.table) is not None:
        table.mark()
        table.move(1, scene.now)


def _mark_all(dash: Dashboard, scene: Scene, _: str) -> None:
    if (table := dash.here.table) is not None:
        table.mark_all()
        dash.tell(f"{len(table.marks):,} marked", scene.now)


def _unmark(dash: Dashboard, scene: Scene, _: str) -> None:
    if (table := dash.here.table) is not None:
        table.marks.clear()


def _back(dash: Dashboard, scene: Scene, _: str) -> None:
    if dash.travelled is not None and not dash._back:
        dash.travelled = None
    elif dash.frozen is not None and not dash._back:
        dash.frozen = None
    else:
        dash.back()


def _quit(dash: Dashboard, scene: Scene, _: str) -> list[Effect] | None:
    return None if dash.back() else [Quit()]


def _leave(dash: Dashboard, scene: Scene, _: str) -> list[Effect]:
    return [Quit()]


def _help(dash: Dashboard, scene: Scene, _: str) -> None:
    if dash.view != "help":
        dash.open("help", dash.view)


def _attention(dash: Dashboard, scene: Scene, _: str) -> None:
    dash.open("overview", "attention")


def _receipts(dash: Dashboard, scene: Scene, _: str) -> None:
    dash.open("events", "receipts")


def _meter(dash: Dashboard, scene: Scene, _: str) -> None:
    dash.metered = not dash.metered


def _freeze(dash: Dashboard, scene: Scene, _: str) -> None:
    if dash.frozen is not None:
        dash.frozen = None
    elif dash.travelled is None:
        dash.frozen, dash.frozen_at = dash.store.copy(), scene.now


def _travel(dash: Dashboard, scene: Scene, to: str) -> list[Effect]:
    if not to:
        hint = "a time of day (20:51, 20:51:07), a date and time, or -10m"
        return [Prompt("go to", "travel", hint=hint)]
    at = commands.instant(to, scene.now)
    if at is None:
        dash.tell(f"{to} is no time: 20:51, 2026-11-27 20:51:07 or -10m", scene.now, "warn")
        return []
    return [Travel(to=at)]


def _step(dash: Dashboard, scene: Scene, step: str) -> list[Effect]:
    return [Travel(step=int(step))]


def _leap(dash: Dashboard, scene: Scene, seconds: str) -> list[Effect]:
    return [Travel(leap=int(seconds))]


def _live(dash: Dashboard, scene: Scene, _: str) -> list[Effect]:
    dash.travelled = dash.frozen = None
    return [Travel(live=True)]


def _command(dash: Dashboard, scene: Scene, text: str) -> list[Effect]:
    if not text:
        return [Prompt(":", "command", hint="tasks state:failed · task ID · t 20:51 · q")]
    return commands.typed(dash, scene, text)


def _filter(dash: Dashboard, scene: Scene, _: str) -> None:
    dash.tell("this view has nothing to filter", scene.now)


def _submit(dash: Dashboard, scene: Scene, _: str) -> list[Effect] | None:
    if (why := dash.acts_off(scene.now)) is not None:
        dash.tell(f"nothing was submitted: {why}", scene.now, "warn")
        return None
    return [Submit()]


def _act(dash: Dashboard, scene: Scene, act: str) -> list[Effect] | None:
    if (why := dash.acts_off(scene.now)) is not None:
        dash.tell(f"nothing was done: {why}", scene.now, "warn")
        return None
    effects, text = acts.pressed(scene, act, dash.here.targets(scene, act))
    if text:
        dash.tell(text, scene.now, "warn")
    return effects


def _begin(dash: Dashboard, scene: Scene, words: str) -> list[Effect]:
    """An act with its targets, as a choice has it."""
    return commands.started(dash, scene, commands.words_of(words))


def _acts(dash: Dashboard, scene: Scene, _: str) -> list[Effect] | None:
    if (why := dash.acts_off(scene.now)) is not None:
        dash.tell(f"nothing can be done: {why}", scene.now, "warn")
        return None
    found = acts.menu(scene, dash.view, lambda act: dash.here.targets(scene, act))
    if found is None:
        dash.tell("nothing can be done here", scene.now)
        return None
    return [found]


def _copy(dash: Dashboard, scene: Scene, _: str) -> list[Effect] | None:
    table = dash.here.table
    if table is None or not table.cursor:
        return None
    return [Copy(table.cursor, "the id")]


_COMMON: dict[str, Common] = {
    "view": _view,
    "show_tasks": _show_tasks,
    "move": _move,
    "half": _half,
    "page": _page,
    "end": _end,
    "row": _row,
    "open": _open,
    "open_task": _open_task,
    "sort": _sort,
    "sort_by": _sort_by,
    "reverse": _reverse,
    "mark": _mark,
    "mark_all": _mark_all,
    "unmark": _unmark,
    "back": _back,
    "quit": _quit,
    "leave": _leave,
    "help": _help,
    "attention": _attention,
    "receipts": _receipts,
    "meter": _meter,
    "freeze": _freeze,
    "travel": _travel,
    "step": _step,
    "leap": _leap,
    "live": _live,
    "command": _command,
    "filter": _filter,
    "submit": _submit,
    "act": _act,
    "acts": _acts,
    "begin": _begin,
    "copy": _copy,
}
