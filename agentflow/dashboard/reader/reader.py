"""What one viewer follows: the open view, what is chosen in each, texts, answers, another time.

Any number of readers look at one store; each has its own selection (the tables of its views), its
own texts and its own watch over what changed. Whoever gives a reader up calls `close`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Final

from agentflow.dashboard.reader.effects import Effect
from agentflow.dashboard.reader.lately import Lately
from agentflow.dashboard.reader.scene import Answers, Receipt, Scene
from agentflow.dashboard.reader.table import Habit
from agentflow.dashboard.reader.tokens import Texts
from agentflow.dashboard.reader.view import View
from agentflow.dashboard.store.store import Store

NOTICE_FOR: Final = 6.0
"""Seconds for which a notice stands above the key bar."""
FIRST: Final = "overview"


@dataclass(slots=True)
class Notice:
    """A sentence for the person, since when and until when."""

    text: str
    token: str
    since: float
    until: float


@dataclass(slots=True)
class Reader:
    """One viewer. `views` are its own, for they hold what it has chosen."""

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
    frozen_texts: Texts = field(default_factory=Texts)
    texts: Texts = field(default_factory=Texts)
    """What is generated for the tasks that are followed."""
    answers: Answers = field(default_factory=Answers)
    receipts: list[Receipt] = field(default_factory=list)
    notice: Notice | None = None
    meter: str = ""
    """The dashboard's own figures, shown where asked for."""
    metered: bool = False
    views: dict[str, View] = field(default_factory=dict)
    came_from: list[str] = field(default_factory=list)
    """The views that `back` returns to, the last one last."""
    _heard: Store | None = None
    """The store that the texts come from."""
    _shown: Store | None = None
    """The store that the recent answers are about."""
    _recent: Lately = field(default_factory=Lately)

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
        if store is not self._shown:
            self._shown, self._recent = store, Lately()
        return Scene(
            store=store,
            now=at,
            answers=self.answers,
            receipts=self.receipts,
            texts=self.texts if store is self.store else self.frozen_texts,
            recent=self._recent,
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
        return self.here.followed() if self.travelled is None else []

    def follow(self, ids: list[str]) -> None:
        """Keep the texts of these tasks from now on."""
        if self._heard is not self.store:
            self._unlisten()
            self.store.listen(self.texts)
            self._heard = self.store
        self.texts.follow(ids)

    def _unlisten(self) -> None:
        if self._heard is not None:
            self._heard.unlisten(self.texts)
            self.texts.clear()
            self._heard = None

    def wanted(self, now: float) -> list[Effect]:
        """What must be read for the open view, asked for before each frame.

        The text of the tasks that it follows is kept from now on. A view names once each thing that
        it lacks; without a connection it is not asked, and names it when there is one again.
        """
        if followed := self.followed():
            self.follow(followed)
        if self.store.link is None or not self.store.link.up:
            return []
        return self.here.wants(self.scene(now))

    # Changing it.

    def tell(self, text: str, now: float, token: str = "text") -> None:
        """Show a notice for a while."""
        self.notice = Notice(text, token, now, now + NOTICE_FOR)

    def open(self, view: str, argument: str = "") -> None:
        """Open a view, if there is such a one; `back` returns to this one."""
        if view not in self.views:
            return
        if view != self.view:
            self.came_from = [*self.came_from[-20:], self.view]
            self._show(view)
        if argument:
            self.here.show(argument)

    def back(self) -> bool:
        """Go back one view; False at the root."""
        if self.came_from:
            self._show(self.came_from.pop())
            return True
        if self.view != FIRST:
            self._show(FIRST)
            return True
        return False

    def _show(self, view: str) -> None:
        self.view = view
        if (table := self.here.table) is not None:
            table.opened()

    def freeze(self, now: float) -> None:
        """Look at the picture of this moment until `frozen` is None again."""
        self.frozen, self.frozen_at = self.store.copy(), now
        self.frozen_texts = self.texts.copy()

    def close(self) -> None:
        """Nobody looks any more: the store need tell this viewer nothing."""
        self._unlisten()
        for view in self.views.values():
            view.close()

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
