"""The help: the keys of the view one came from, made from the key table; it can be searched."""

from __future__ import annotations

from typing import Final

from agentflow.dashboard.reader import keys
from agentflow.dashboard.reader.effects import Effect, Prompt
from agentflow.dashboard.reader.keys import Key
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.view import View
from agentflow.dashboard.render.lines import EMPTY, Line, Run, cell, clip, columns_of, line, rule

WIDE: Final = 100
"""Columns from which on two sheets stand beside each other."""

FILTER: Final[tuple[tuple[str, str], ...]] = (
    ("state:running,retrying", "one of these; * and ? stand for anything"),
    ("queue: kind: model:", "the same, and priority: reason: error: stop: id:"),
    ("worker:w-031", "an actor's id, or how it begins"),
    ("label:team=core", "a label; label:team where it is there at all"),
    ("group:3f9c", "the fingerprint of an error"),
    ("cost>0.1  tokens>1k", "also out, attempt, failures; >= < <= ="),
    ("age>10m  wait>5s  run<2s", "durations: ms s m h d"),
    ("timeout", "an expression in id, labels, error, note or model"),
    ('"two words"', "one expression with blanks"),
    ("!worker:w-031", "none of these"),
)
SIGNS: Final[tuple[tuple[str, str], ...]] = (
    ("queued", "waits for a worker"),
    ("scheduled", "waits for its time"),
    ("retrying", "failed, will be tried again"),
    ("waiting", "waits for a batch, or is in one"),
    ("running", "a worker is at it"),
    ("succeeded", "ended well"),
    ("failed", "ended badly: it has a dead letter"),
    ("cancelled", "somebody stopped it"),
    ("busy", "a worker with tasks"),
    ("idle", "a worker without"),
    ("draining", "a worker that takes no more"),
    ("lost", "a worker that fell silent"),
    ("paused", "a queue that starts nothing"),
    ("unserved", "a queue that no worker takes from"),
)
_MOVING: Final = frozenset({"move", "half", "page", "end", "side", "pane", "search_next", "open"})
_VIEWS: Final = frozenset({"view", "back", "quit", "attention", "receipts", "command", "help"})
_TIME: Final = frozenset({"freeze", "travel", "step", "leap", "live"})

Entry = tuple[str, str, str]
"""What is pressed or typed, its token, and what it means."""


class Help(View):
    """The view."""

    name = "help"
    title = "Help"

    def __init__(self) -> None:
        self.about = "overview"
        """The view that one came from."""
        self.filter = ""
        self._top = 0
        self._height = 1
        self._count = 0

    def show(self, view: str) -> None:
        """Say what can be done in a view."""
        self.about = view
        self.filter, self._top = "", 0

    # Drawing.

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """Keys on the left, words and signs on the right; below each other where it is narrow."""
        left, right = self._keys(scene), self._words(scene)
        if width >= WIDE:
            half = (width - 4) // 2
            first = _sheet(left, half)
            second = _sheet(right, width - 4 - half)
            size = max(len(first), len(second))
            first += [clip(EMPTY, half)] * (size - len(first))
            second += [clip(EMPTY, width - 4 - half)] * (size - len(second))
            lines = [columns_of(pair, width, 4) for pair in zip(first, second, strict=True)]
        else:
            lines = _sheet([*left, *right], width)
        if not lines:
            lines = [clip(line((f"  nothing about {self.filter}", "dim")), width)]
        self._count, self._height = len(lines), height - 1
        self._top = min(self._top, max(0, self._count - self._height))
        below = self._count - self._top - self._height
        title = f"help: {self.about}" + (f"  /{self.filter}" if self.filter else "")
        remark = f"{below} more lines below" if below > 0 else "/ searches   esc goes back"
        return [
            rule(title, width, remark),
            *lines[self._top : self._top + self._height],
        ]

    def _keys(self, scene: Scene) -> list[tuple[str, list[Entry]]]:
        valid = keys.keys_of(self.about, readonly=scene.readonly)
        of: dict[str, list[Key]] = {}
        for key in valid:
            of.setdefault(_section(key), []).append(key)
        sections = [
            (title, _entries(of.get(title, [])))
            for title in ("here", "changes the system", "moving", "views", "time", "elsewhere")
        ]
        return self._matching(sections)

    def _words(self, scene: Scene) -> list[tuple[str, list[Entry]]]:
        signs = [(f"{scene.glyph(state)} {state}", "text", text) for state, text in SIGNS]
        sections = [
            ("filter of tasks", [(typed, "key", text) for typed, text in FILTER]),
            ("signs", signs),
        ]
        return self._matching(sections)

    def _matching(self, sections: list[tuple[str, list[Entry]]]) -> list[tuple[str, list[Entry]]]:
        wanted = self.filter.lower()
        matching = []
        for title, entries in sections:
            shown = [each for each in entries if wanted in f"{each[0]} {each[2]}".lower()]
            if shown:
                matching.append((title, shown))
        return matching

    # Commands.

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Scroll and search."""
        match command:
            case "move":
                self._scroll(int(argument))
                return []
            case "half" | "page":
                self._scroll(
                    int(argument) * max(1, self._height // (2 if command == "half" else 1))
                )
                return []
            case "end":
                self._scroll(int(argument) * self._count)
                return []
            case "filter" if not argument:
                return [
                    Prompt("/", "filter_set", self.filter, "a part of a key or of what it does")
                ]
            case "filter" | "filter_set":
                self.filter, self._top = argument, 0
                return []
            case "back" if self.filter:
                self.filter, self._top = "", 0
                return []
        return None

    def _scroll(self, lines: int) -> None:
        self._top = min(max(0, self._count - self._height), max(0, self._top + lines))


def _section(key: Key) -> str:
    if key.act:
        return "changes the system"
    if key.command in _MOVING:
        return "moving"
    if key.command in _VIEWS:
        return "views"
    if key.command in _TIME:
        return "time"
    return "here" if key.views else "elsewhere"


def _entries(valid: list[Key]) -> list[Entry]:
    """Keys that mean the same in one entry."""
    pressed: dict[tuple[str, str], list[str]] = {}
    for key in valid:
        pressed.setdefault((key.title, "key.act" if key.act else "key"), []).append(
            keys.named(key.key)
        )
    return [(" ".join(names), token, title) for (title, token), names in pressed.items()]


def _sheet(sections: list[tuple[str, list[Entry]]], width: int) -> list[Line]:
    lines: list[Line] = []
    names = 24 if width >= 56 else width // 3
    for title, entries in sections:
        if lines:
            lines.append(clip(EMPTY, width))
        lines.append(clip(line((f" {title}", "title")), width))
        for pressed, token, text in entries:
            runs: list[Run] = [("  ", "text"), (cell(pressed, names), token), (f"  {text}", "text")]
            lines.append(clip(Line(tuple(runs)), width))
    return lines
