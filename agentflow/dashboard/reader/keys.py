"""Every key in one table: what it does, where, and whether it changes anything.

Lower case and ctrl look; they never change the system. A key that changes it (`act`) always leads
to a confirmation, is absent in read-only mode, and is drawn in another colour. The help, the key
bar, the palette and the tests are made from this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Key:
    """A key. `views` () means all. `bar` orders the key bar, 0: not in it.

    `label` is a word for the key bar, where `title` is longer.
    """

    key: str
    command: str
    title: str
    argument: str = ""
    views: tuple[str, ...] = ()
    act: bool = False
    bar: int = 0
    label: str = ""

    @property
    def short(self) -> str:
        """Its name in the key bar."""
        return self.label or self.title


_LISTS: Final = ("overview", "tasks", "workers", "queues", "costs", "dead", "events")
_SORTED: Final = ("overview", "tasks", "workers", "queues", "costs", "dead")
_FILTERED: Final = ("overview", "tasks", "workers", "queues", "dead", "events", "task", "help")
_TASKS: Final = ("tasks", "overview", "task")
_MARKED: Final = ("tasks", "dead", "workers", "queues")
_TEXT: Final = ("task",)

KEYS: Final[tuple[Key, ...]] = (
    Key("1", "view", "overview", "overview"),
    Key("2", "view", "tasks", "tasks"),
    Key("3", "view", "workers", "workers"),
    Key("4", "view", "queues", "queues"),
    Key("5", "view", "costs", "costs"),
    Key("6", "view", "dead letters", "dead"),
    Key("7", "view", "events", "events"),
    Key("tab", "pane", "next pane", "1"),
    Key("shift+tab", "pane", "pane before", "-1"),
    Key("j", "move", "down", "1"),
    Key("k", "move", "up", "-1"),
    Key("down", "move", "down", "1"),
    Key("up", "move", "up", "-1"),
    Key("ctrl+d", "half", "half a page down", "1"),
    Key("ctrl+u", "half", "half a page up", "-1"),
    Key("pagedown", "page", "a page down", "1"),
    Key("pageup", "page", "a page up", "-1"),
    Key("g", "end", "to the top", "-1"),
    Key("home", "end", "to the top", "-1"),
    Key("G", "end", "to the end", "1"),
    Key("end", "end", "to the end", "1"),
    Key("h", "side", "left", "-1"),
    Key("l", "side", "right", "1"),
    Key("left", "side", "left", "-1"),
    Key("right", "side", "right", "1"),
    Key("enter", "open", "open", views=_LISTS, bar=10),
    Key("escape", "back", "back", bar=90),
    Key("q", "quit", "back, at the root quit"),
    Key("/", "filter", "filter, or search in a text", views=_FILTERED, bar=20, label="filter"),
    Key("s", "sort", "sort by the next column", "1", views=_SORTED, bar=30, label="sort"),
    Key("S", "reverse", "sort the other way round", views=_SORTED),
    Key("<", "sort", "sort by the column before", "-1", views=_SORTED),
    Key(">", "sort", "sort by the next column", "1", views=_SORTED),
    Key(
        "b",
        "group",
        "group by another thing",
        views=("tasks", "costs", "dead"),
        bar=40,
        label="group",
    ),
    Key("v", "columns", "choose columns", views=("tasks",), bar=46, label="columns"),
    Key("space", "mark", "mark, and on to the next", views=_MARKED, bar=35, label="mark"),
    Key("*", "mark_all", "mark all that are shown", views=_MARKED),
    Key("u", "unmark", "unmark all", views=_MARKED),
    Key("+", "preview", "larger preview", "1", views=("tasks",), bar=48, label="preview"),
    Key("_", "preview", "smaller preview", "-1", views=("tasks",)),
    Key("w", "why", "why does it wait?", views=_TASKS, bar=50, label="why"),
    Key("!", "attention", "to what needs you", label="needs you"),
    Key("f", "follow", "follow the end", views=("task", "events"), bar=15, label="follow"),
    Key("|", "wrap", "wrap lines or not", views=("task",), label="wrap"),
    Key("n", "search_next", "next match", "1", views=_TEXT),
    Key("N", "search_next", "match before", "-1", views=_TEXT),
    Key("P", "period", "another period", views=("costs",), bar=45, label="period"),
    Key("p", "freeze", "freeze the picture", bar=70, label="freeze"),
    Key("t", "travel", "go to another time", bar=75, label="time"),
    Key("[", "step", "a record back", "-1"),
    Key("]", "step", "a record on", "1"),
    Key("{", "leap", "a minute back", "-60"),
    Key("}", "leap", "a minute on", "60"),
    Key("L", "live", "back to now", label="live"),
    Key("y", "copy", "copy a value", bar=80, label="copy"),
    Key("Y", "copy_command", "copy as a command", label="as command"),
    Key("e", "export", "export what is shown", label="export"),
    Key("O", "pager", "open in $PAGER", views=("task",), label="pager"),
    Key("@", "receipts", "what was done from here", label="receipts"),
    Key(":", "command", "type a command", bar=85, label="command"),
    Key("?", "help", "help", bar=100),
    Key("f12", "meter", "the dashboard's own meter"),
    Key("a", "acts", "what can be done here", act=True, bar=66, label="acts"),
    Key("n", "submit", "submit a task", views=_LISTS, act=True, bar=60, label="submit"),
    Key("c", "act", "cancel", "cancel", views=("tasks", "overview", "task"), act=True, bar=61),
    Key("r", "act", "retry", "retry", views=("tasks", "task", "dead"), act=True, bar=62),
    Key(
        "R",
        "act",
        "retry the group",
        "retry_group",
        views=("dead",),
        act=True,
        bar=63,
        label="retry group",
    ),
    Key("x", "act", "drop", "drop", views=("dead",), act=True, bar=64),
    Key("X", "act", "drop the group", "drop_group", views=("dead",), act=True, label="drop group"),
    Key(
        "P",
        "act",
        "pause or resume",
        "pause",
        views=("queues", "overview", "task"),
        act=True,
        bar=63,
        label="pause",
    ),
    Key("Z", "act", "pause or resume all queues", "pause_all", act=True, label="pause all"),
    Key("D", "act", "drain", "drain", views=("workers", "task"), act=True, bar=63),
)


def keys_of(view: str, *, readonly: bool) -> list[Key]:
    """The keys that are valid in a view."""
    return [
        key for key in KEYS if (not key.views or view in key.views) and not (readonly and key.act)
    ]


def lookup(pressed: str, view: str, *, readonly: bool) -> Key | None:
    """What a key means in a view."""
    for key in keys_of(view, readonly=readonly):
        if key.key == pressed:
            return key
    return None


NAMES: Final = {
    "space": "space",
    "escape": "esc",
    "pagedown": "pgdn",
    "pageup": "pgup",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
}


def named(key: str) -> str:
    """A key as a key bar shows it."""
    return NAMES.get(key, key)


def bar(keys: Iterable[Key]) -> list[Key]:
    """The keys of a key bar, the most wanted first."""
    return sorted((key for key in keys if key.bar), key=lambda key: key.bar)
