"""The dead letters: tasks that failed for good, by the cause they have in common.

A letter keeps the payload, so it can be retried; dropping it leaves the task failed. Which letters
there are the stream alone knows (`answers.letters`, fetched when the view is opened and whenever
their number changes). Until they are read the failed tasks of the store stand in for them.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from agentflow.dashboard.reader.column import Column
from agentflow.dashboard.reader.effects import Copy, Effect, Export, Fetch, Prompt
from agentflow.dashboard.reader.remedies import remedy
from agentflow.dashboard.reader.scene import Letter, Scene
from agentflow.dashboard.reader.table import Table
from agentflow.dashboard.reader.view import View
from agentflow.dashboard.render.amounts import count, money, span
from agentflow.dashboard.render.lines import EMPTY, Line, cell, clip, line, rule
from agentflow.dashboard.render.separated import separated
from agentflow.dashboard.rows.dead import Cause, cause_of, causes, failed

AGAIN: Final = 2.0
"""Seconds between two readings of the letters, however fast they become more."""


GROUPED: Final = 3.0
"""Seconds between two countings: each looks at every letter."""


def _names(numbers: Counter[str]) -> str:
    return ",".join(sorted(numbers, key=lambda name: (-numbers[name], name)))


def _again(cause: Cause, scene: Scene) -> str:
    newest = cause.newest
    return "warn" if not remedy(newest.reason, newest.error).again else "dim"


GROUPS: Final[tuple[Column[Cause], ...]] = (
    Column(
        "count",
        "COUNT",
        6,
        lambda cause, scene: count(len(cause.letters)),
        lambda cause: len(cause.letters),
        lambda cause, scene: "state.failed",
        right=True,
        falling=True,
    ),
    Column(
        "error",
        "ERROR",
        24,
        lambda cause, scene: cause.newest.error or cause.newest.reason,
        lambda cause: cause.newest.error,
        grows=True,
    ),
    Column(
        "kinds",
        "KINDS",
        10,
        lambda cause, scene: _names(cause.kinds),
        lambda cause: _names(cause.kinds),
        drop=3,
    ),
    Column(
        "queues",
        "QUEUES",
        10,
        lambda cause, scene: _names(cause.queues),
        lambda cause: _names(cause.queues),
        drop=2,
    ),
    Column(
        "first",
        "FIRST",
        5,
        lambda cause, scene: span(scene.now - cause.first),
        lambda cause: -cause.first,
        right=True,
        drop=4,
        falling=True,
    ),
    Column(
        "last",
        "LAST",
        5,
        lambda cause, scene: span(scene.now - cause.newest.at),
        lambda cause: -cause.newest.at,
        right=True,
    ),
    Column(
        "wasted",
        "WASTED",
        7,
        lambda cause, scene: money(cause.wasted),
        lambda cause: cause.wasted,
        right=True,
        drop=5,
        falling=True,
    ),
    Column(
        "remedy",
        "WHAT TO DO",
        22,
        lambda cause, scene: remedy(cause.newest.reason, cause.newest.error).advice,
        token=_again,
        drop=1,
        grows=True,
    ),
)
LETTERS: Final[tuple[Column[Letter], ...]] = (
    Column(
        "id",
        "TASK",
        16,
        lambda letter, scene: letter.id,
        lambda letter: letter.id,
        grows=True,
        most=26,
    ),
    Column(
        "at",
        "FAILED",
        9,
        lambda letter, scene: f"{span(scene.now - letter.at)} ago",
        lambda letter: -letter.at,
        right=True,
        drop=1,
    ),
    Column(
        "queue",
        "QUEUE",
        9,
        lambda letter, scene: letter.queue,
        lambda letter: letter.queue,
        drop=3,
    ),
    Column(
        "kind", "KIND", 9, lambda letter, scene: letter.kind, lambda letter: letter.kind, drop=4
    ),
    Column(
        "attempts",
        "ATT",
        3,
        lambda letter, scene: count(letter.attempts),
        lambda letter: letter.attempts,
        right=True,
        drop=5,
        falling=True,
    ),
    Column(
        "reason",
        "REASON",
        14,
        lambda letter, scene: letter.reason,
        lambda letter: letter.reason,
        drop=2,
    ),
    Column(
        "error",
        "ERROR",
        16,
        lambda letter, scene: ("(not kept whole) " if letter.truncated else "") + letter.error,
        lambda letter: letter.error,
        lambda letter, scene: "state.failed",
        grows=True,
    ),
)


class Dead(View):
    """The view. `flat`: all letters in one table; `inside`: those of one cause."""

    name = "dead"
    title = "Dead letters"

    def __init__(self) -> None:
        self.flat = False
        self.inside = ""
        self.filter = ""
        self._causes: Table[Cause] = Table(
            GROUPS, sort="last", empty="no dead letters: nothing failed for good"
        )
        self._letters: Table[Letter] = Table(
            LETTERS, sort="at", empty="no dead letters: nothing failed for good"
        )
        self._asked = -1
        self._asked_at = float("-inf")

    @property
    def table(self) -> Table[Any]:
        """Causes, or letters."""
        return self._letters if self.flat or self.inside else self._causes

    def wants(self, scene: Scene) -> list[Effect]:
        """The letters, when they were never read and whenever their number changes."""
        store = scene.store
        if not scene.live or store.dead == self._asked or scene.now < self._asked_at + AGAIN:
            return []
        self._asked, self._asked_at = store.dead, scene.now
        return [Fetch("letters")]

    # Drawing.

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """Causes or letters, and what there is to know of the chosen one."""
        letters = self._known(scene)
        causes = self._grouped(scene, letters)
        if self.inside and self.inside not in causes:
            self.inside = ""
        if self.flat or self.inside:
            chosen = causes[self.inside].letters if self.inside else letters
            self._letters.refresh({letter.id: letter for letter in chosen}, scene.now)
        else:
            self._causes.refresh(causes, scene.now)
        table = self.table
        number = f"{scene.store.dead:,}" if scene.live else f"{len(letters):,}"
        title = f"dead letters {number}"
        if self.inside:
            title += f"   of cause {self.inside}"
        elif not self.flat:
            title += f"   {len(causes):,} causes"
        if self.filter:
            title += f"   /{self.filter}"
        right = "b by cause" if self.flat else "b one by one"
        if table.marks:
            right = f"{len(table.marks):,} marked   {right}"
        if scene.live and scene.answers.letters is None:
            right = f"reading them: failed tasks until then   {right}"
        cause = self._cause(causes)
        below = self._about(scene, cause, width, height) if cause is not None else []
        room = height - 1 - len(below)
        return [rule(title, width, right), *table.lines(width, max(2, room), scene), *below]

    def _known(self, scene: Scene) -> list[Letter]:
        """The letters, or the failed tasks where they are not read."""
        letters = scene.answers.letters if scene.live else None
        if letters is None:
            letters = scene.lately("failed rows", lambda: failed(scene), GROUPED)
        if self.filter:
            wanted = self.filter.lower()
            letters = [letter for letter in letters if wanted in _words(letter)]
        return letters

    def _grouped(self, scene: Scene, letters: list[Letter]) -> dict[str, Cause]:
        key = ("causes", id(letters), len(letters), self.filter)
        return scene.lately(key, lambda: causes(scene, letters), GROUPED)

    def _cause(self, causes: dict[str, Cause]) -> Cause | None:
        if self.flat or self.inside:
            letter = self._letters.item()
            return causes.get(cause_of(letter)) if letter is not None else None
        return self._causes.item()

    def _about(self, scene: Scene, cause: Cause, width: int, height: int) -> list[Line]:
        letter = self._letters.item() if self.flat or self.inside else cause.newest
        if letter is None:
            letter = cause.newest
        advised = remedy(letter.reason, letter.error)
        again = ": a retry may succeed" if advised.again else ""
        labels = "  ".join(f"{name}={value}" for name, value in letter.labels.items()) or "-"
        facts = [
            ("means", f"{advised.cause} ({letter.reason or 'no reason'}){again}", "text"),
            ("do", advised.advice, "ok" if advised.again else "warn"),
            ("error", letter.error or "-", "state.failed"),
            (
                "letter",
                f"{letter.id}   queue {letter.queue}   kind {letter.kind}   "
                f"{letter.attempts} attempts   failed at {scene.clock(letter.at)}",
                "text",
            ),
            ("labels", labels, "text"),
        ]
        if letter.truncated:
            facts.insert(2, ("", "its payload was too large to be kept: no retry", "warn"))
        size = len(cause.letters)
        title = f"cause {cause.fingerprint}   {size:,} letter{'s' if size != 1 else ''}"
        right = "enter opens the task" if self.flat or self.inside else "enter shows its letters"
        lines = [rule(title, width, right)]
        lines += [
            clip(line((f" {name:<8}", "dim"), (text, token)), width) for name, text, token in facts
        ]
        if not (self.flat or self.inside) and height >= 28:
            shown = sorted(cause.letters, key=lambda each: (-each.at, each.id))
            room = min(len(shown), height // 4)
            lines.append(clip(EMPTY, width))
            for each in shown[:room]:
                lines.append(_short(scene, each, width))
            if len(shown) > room:
                text = f"  and {len(shown) - room:,} more"
                lines.append(clip(line((text, "dim")), width))
        most = height // 2 if height < 28 else height * 3 // 5
        return lines[:most]

    # Commands.

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Group or not, open a cause, filter, copy, export."""
        match command:
            case "group":
                self.flat, self.inside = not self.flat, ""
                self._letters.invalidate()
                self._causes.invalidate()
                return []
            case "open" if not self.flat and not self.inside:
                if self._causes.item() is not None:
                    self.inside = self._causes.cursor
                    self._letters.invalidate()
                return []
            case "back" if self.inside:
                self.inside = ""
                self._letters.marks.clear()
                self._causes.invalidate()
                return []
            case "filter" if not argument:
                return [Prompt("/", "filter_set", self.filter, "id, error, reason, queue or kind")]
            case "filter" | "filter_set":
                self._set(argument)
                return []
            case "back" if self.filter:
                self._set("")
                return []
            case "copy_command":
                return self._copied()
            case "export":
                return [Export("dead-letters", "csv", _exported(self._known(scene)))]
        return None

    def _set(self, text: str) -> None:
        self.filter = text
        self._letters.invalidate()
        self._causes.invalidate()

    def _copied(self) -> list[Effect]:
        if self.flat or self.inside:
            chosen = self._letters.chosen()
            text = f"agentflow retry {shlex.join(chosen)}" if chosen else ""
        else:
            chosen = self._causes.chosen()[:1]
            text = f"agentflow dead retry --fingerprint {shlex.quote(chosen[0])}" if chosen else ""
        return [Copy(text, "the command")] if text else []

    def targets(self, scene: Scene, act: str) -> list[str]:
        """Ids of tasks: the marked letters or the one under the cursor; of a cause all of them."""
        if self.flat or self.inside:
            if not act.endswith("_group"):
                return self._letters.chosen()
            letter = self._letters.item()
            wanted = {cause_of(letter)} if letter is not None else set()
        else:
            wanted = set(self._causes.chosen())
        letters = [letter for letter in self._known(scene) if cause_of(letter) in wanted]
        if not act.endswith("_group") and not self._causes.marks:
            # One stands for its cause: the newest is tried first.
            letters = sorted(letters, key=lambda letter: (-letter.at, letter.id))[:1]
        return [letter.id for letter in letters]


def _words(letter: Letter) -> str:
    return " ".join(
        (letter.id, letter.queue, letter.kind, letter.reason, letter.error, letter.fingerprint)
    ).lower()


def _short(scene: Scene, letter: Letter, width: int) -> Line:
    made = line(
        (f"  {span(scene.now - letter.at):>5} ago  ", "dim"),
        (f"{cell(letter.id, 26)} ", "text"),
        (letter.error, "dim"),
    )
    return clip(made, width)


def _exported(letters: Iterable[Letter]) -> str:
    names = ("id", "queue", "kind", "reason", "fingerprint", "attempts", "error")
    lines = (
        (each.id, each.queue, each.kind, each.reason, each.fingerprint, each.attempts, each.error)
        for each in letters
    )
    return separated([names, *lines])
