"""One task: its text as it is generated, its history, what it was asked, its last record.

What the feed does not tell (the log, the message) is asked for when the view is opened, and again
whenever the feed has told of a newer record.
"""

from __future__ import annotations

import shlex
from typing import Final

from agentflow.dashboard.reader.effects import Choose, Copy, Effect, Export, Fetch, Page, Prompt
from agentflow.dashboard.reader.pane import Pane, Sheet, plain
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.view import View
from agentflow.dashboard.render.amounts import bar, money, span
from agentflow.dashboard.render.lines import Hit, Line, Run, clip, columns_of, line, wrap
from agentflow.dashboard.views.task import texts
from agentflow.dashboard.views.task.facts import facts
from agentflow.dashboard.views.task.history import error_text, history
from agentflow.dashboard.views.task.subject import Subject, subject
from agentflow.protocol import subjects
from agentflow.protocol.record import State
from agentflow.views import display
from agentflow.views.query import run, wait
from agentflow.views.row import Row

TABS: Final = ("output", "history", "prompt", "raw")
FACTS: Final = "facts"
"""The tab that stands for the side panel where there is no room for one."""
WIDE: Final = 100
SIDE: Final = 36
AGAIN: Final = 0.5
"""Seconds between two readings of a log that grows."""
TRIES: Final = 3
"""Readings of a log more than changes of it, where it comes from a replica that is behind."""
WHY_LINES: Final = 4


class Task(View):
    """The view."""

    name = "task"
    title = "Task"

    def __init__(self) -> None:
        self.id = ""
        self.tab = TABS[0]
        self._panes: dict[str, Pane] = {}
        self._wrap = True
        self._wide = True
        self._settled = False
        """Whether it is decided that the output is read from its end."""
        self._asked: tuple[str, int, float] = ("", -1, 0.0)
        self._asked_at = 0.0
        self._tries = 0
        self._why = -1
        """The sequence of the record that the answer to `why` is about; -1: nobody asked."""
        self._sheet: Sheet = ()
        self._kept: tuple[tuple[object, ...], Sheet] = ((), ())

    def show(self, task_id: str) -> None:
        """Look at a task."""
        if task_id == self.id:
            return
        self.id = task_id
        self.tab = TABS[0]
        self._panes = {}
        self._settled = False
        self._asked = ("", -1, 0.0)
        self._why = -1

    def followed(self) -> list[str]:
        """The task whose text is to come in."""
        return [self.id] if self.id else []

    def wants(self, scene: Scene) -> list[Effect]:
        """Its log: at first, after each newer record, and after a reconnection."""
        if not self.id:
            return []
        row = scene.store.rows.get(self.id)
        sequence = row.sequence if row is not None else 0
        lacks = (self.id, sequence, scene.store.linked_at)
        same = self._asked[0] == self.id
        # At another time the log that is here has all that is shown.
        if same and (not scene.live or scene.now < self._asked_at + AGAIN):
            return []
        if self._asked == lacks and not self._behind(scene, sequence):
            return []
        self._tries = self._tries + 1 if self._asked == lacks else 0
        self._asked, self._asked_at = lacks, scene.now
        return [Fetch("log", self.id)]

    def _behind(self, scene: Scene, sequence: int) -> bool:
        """Whether a log came without the record that the feed has told of: from a slow replica."""
        log = scene.answers.logs.get(self.id)
        return bool(log and log[-1][0] < sequence) and self._tries < TRIES

    # Drawing.

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """A line about the task, the answer to `why`, the tabs, the text, the facts beside it."""
        self._wide = width >= WIDE
        if self._wide and self.tab == FACTS:
            self.tab = TABS[0]
        task = subject(scene, self.id)
        room = width - SIDE - 3 if self._wide else width
        self._settle(task)
        pane = self._pane()
        pane.wrap = self._wrap
        self._sheet = self._text(scene, task, room)
        top = [self._about(scene, task, width), *self._because(scene, task, width)]
        rest = max(1, height - len(top) - 1)
        shown = pane.lines(self._sheet, room, rest)
        # After the text: only now it is known how much of it there is.
        top.append(self._tabs(pane, width))
        if not self._wide:
            return top + shown
        beside = facts(scene, task, SIDE)[:rest]
        beside += [clip(line(), SIDE)] * (rest - len(beside))
        bars = line(("│", "rule"))
        return top + [
            columns_of([left, bars, right], width, 1)
            for left, right in zip(shown, beside, strict=True)
        ]

    def _pane(self) -> Pane:
        return self._panes.setdefault(self.tab, Pane(follow=self.tab == "history"))

    def _settle(self, task: Subject) -> None:
        """A text that grows is read from its end, a finished one from its beginning."""
        if not self._settled and task.row is not None:
            self._settled = True
            self._panes.setdefault("output", Pane()).follow = not task.row.finished

    def _text(self, scene: Scene, task: Subject, width: int) -> Sheet:
        growing = task.text.version if task.text is not None else 0
        row = task.row
        key = (
            *(self.tab, self.id, width, self._wrap, growing, len(task.log), task.read),
            *(task.log[-1][0] if task.log else 0, row.sequence if row is not None else -1),
            *(task.body is None, task.problem, scene.live, scene.ascii, len(scene.store.actors)),
        )
        if self.tab != FACTS and self._kept[0] == key:
            return self._kept[1]
        sheet: Sheet
        match self.tab:
            case "history":
                sheet = history(scene, task.log, width)
            case "prompt":
                sheet = texts.prompt(scene, task, width, wrapped=self._wrap)
            case "raw":
                sheet = texts.raw(task, width, wrapped=self._wrap)
            case "facts":
                sheet = facts(scene, task, width)
            case _:
                sheet = texts.output(scene, task, width, wrapped=self._wrap)
        self._kept = (key, sheet)
        return sheet

    def _about(self, scene: Scene, task: Subject, width: int) -> Line:
        row = task.row
        if row is None:
            return clip(line((f" {self.id} ", "bold"), ("unknown", "dim")), width)
        runs: list[Run] = [
            (f" {row.id}  ", "bold"),
            (f"{scene.glyph(row.state)} {row.state}  ", f"state.{row.state}"),
        ]
        if row.progress is not None and row.state == State.RUNNING:
            share = f"{bar(row.progress, 10, ascii=scene.ascii)} {100 * row.progress:.0f}%  "
            runs.append((share, "text"))
        runs.append((_times(scene, row), "text"))
        if row.cost or row.cost is None:
            runs.append((f"{money(row.cost)}  ", "bold"))
        if row.actor and not self._wide:
            runs.append((f"{scene.store.name_of(row.actor)}  attempt {row.attempt}  ", "text"))
        if row.note:
            runs.append((display.one_line(row.note), "dim"))
        return clip(line(*runs), width)

    def _because(self, scene: Scene, task: Subject, width: int) -> list[Line]:
        sequence = task.row.sequence if task.row is not None else 0
        if self._why != sequence:
            return []
        problem = scene.answers.problems.get(("why", self.id))
        text = scene.answers.whys.get(self.id) or problem or "asking why ..."
        parts = wrap(text, width - 6)[:WHY_LINES]
        return [
            clip(line((" why  " if at == 0 else "      ", "dim"), (part, "warn")), width)
            for at, part in enumerate(parts)
        ]

    def _tabs(self, pane: Pane, width: int) -> Line:
        right = f"{len(self._sheet):,} lines"
        if pane.pattern is not None:
            right = f"/{display.one_line(pane.pattern.text, 20)} {pane.said}  {right}"
        if self.tab in ("output", "history"):
            right = f"f follow {'on' if pane.follow else 'off'}  {right}"
        if self.tab != "history":
            right = f"| wrap {'on' if self._wrap else 'off'}  {right}"
        runs: list[Run] = [("─ ", "rule")]
        hits: list[Hit] = []
        at = 2
        for name in self._names():
            text = f" {name} "
            runs.append((text, "tab.here" if name == self.tab else "tab"))
            hits.append(Hit(at, at + len(text), "tab", name))
            at += len(text)
        room = width - at - display.columns(right) - 4
        if room > 0:
            runs += [(" " + "─" * room, "rule"), (f" {right} ", "dim"), ("─", "rule")]
        else:
            runs.append((" " + "─" * max(0, width - at - 1), "rule"))
        return clip(Line(tuple(runs), "", tuple(hits)), width)

    def _names(self) -> tuple[str, ...]:
        return TABS if self._wide else (*TABS, FACTS)

    # Commands.

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Scroll, follow, search, change the tab; ask why; copy, export, show in a pager."""
        if (scrolled := self._scroll(command, argument)) is not None:
            return scrolled
        match command:
            case "filter" if not argument:
                pattern = self._pane().pattern
                value = pattern.text if pattern is not None else ""
                return [Prompt("/", "search", value, "text or a regular expression")]
            case "search" | "filter":
                self._pane().search(argument)
                return self.do(scene, "search_next", "1") if argument else []
            case "search_next":
                self._pane().next(int(argument), self._sheet)
                return []
            case "back" if self._pane().pattern is not None:
                self._pane().search("")
                return []
            case "why":
                row = scene.store.rows.get(self.id)
                self._why = row.sequence if row is not None else 0
                return [Fetch("why", self.id)]
            case "pager":
                return [Page(self._whole(scene))]
            case "export":
                return [self._export(scene)]
            case "copy":
                return self._copy(scene)
            case "copy_value":
                values = self._values(scene)
                return [Copy(values[argument], f"the {argument}")] if argument in values else []
            case "copy_command":
                return [self._commands()]
            case "copy_text":
                return [Copy(argument, "the command")]
        return None

    def _scroll(self, command: str, argument: str) -> list[Effect] | None:
        """What only moves the text that is seen."""
        pane = self._pane()
        match command:
            case "move":
                pane.move(int(argument))
            case "half":
                pane.move(int(argument) * max(1, pane.height // 2))
            case "page":
                pane.move(int(argument) * max(1, pane.height - 1))
            case "end":
                pane.end(int(argument))
            case "follow":
                if pane.follow:
                    pane.follow = False
                else:
                    pane.end(1)
            case "side" if not self._wrap:
                pane.side(int(argument))
            case "wrap":
                self._wrap = not self._wrap
                pane.left = 0
            case "pane" | "side":
                names = self._names()
                self.tab = names[(names.index(self.tab) + int(argument)) % len(names)]
            case "tab" if argument in self._names():
                self.tab = argument
            case _:
                return None
        return []

    def _whole(self, scene: Scene) -> str:
        """The tab's text, uncut and unwrapped."""
        task = subject(scene, self.id)
        if self.tab == "output" and task.ended is not None and (gave := _gave(task)):
            return display.safe(gave)
        if self.tab == "raw" and task.last is not None:
            return texts.record_json(task.last)
        if self.tab == "output" and task.text is not None and task.text.text:
            return display.safe(task.text.text)
        sheet = self._sheet
        if self.tab == "output":
            sheet = texts.output(scene, task, WIDE, wrapped=False)
        elif self.tab == "prompt":
            sheet = texts.prompt(scene, task, WIDE, wrapped=False)
        return "\n".join(plain(each).rstrip() for each in sheet)

    def _export(self, scene: Scene) -> Effect:
        task = subject(scene, self.id)
        if self.tab == "raw" and task.last is not None:
            return Export(self.id, "json", texts.record_json(task.last) + "\n")
        if self.tab == "prompt" and task.body is not None and task.body.prompt:
            return Export(f"{self.id}-prompt", "txt", task.body.prompt)
        stem = self.id if self.tab == "output" else f"{self.id}-{self.tab}"
        return Export(stem, "txt", self._whole(scene) + "\n")

    def _values(self, scene: Scene) -> dict[str, str]:
        """What can be copied, by name."""
        task = subject(scene, self.id)
        last, values = task.last, {"id": self.id}
        text = _gave(task) or (task.text.text if task.text is not None else "")
        if text:
            values["text"] = text
        if task.body is not None and task.body.prompt:
            values["prompt"] = task.body.prompt
        if last is not None and last.error is not None:
            values["error"] = error_text(last.error)
        elif task.row is not None and task.row.error:
            values["error"] = task.row.error
        if last is not None:
            request = last.request_id or (last.error.request_id if last.error else None)
            if request:
                values["request id"] = request
            values["record"] = texts.record_json(last)
        if task.row is not None and task.row.fingerprint:
            values["error group"] = task.row.fingerprint
        return values

    def _copy(self, scene: Scene) -> list[Effect]:
        options = tuple(
            ("copy_value", name, f"{name}: {display.one_line(value, 50)}")
            for name, value in self._values(scene).items()
        )
        return [Choose("copy", options)]

    def _commands(self) -> Effect:
        name = shlex.quote(self.id)
        commands = (
            f"agentflow get {name}",
            f"agentflow watch {name}",
            f"agentflow why {name}",
            "nats req '$JS.API.STREAM.MSG.GET.AGENTFLOW_RECORDS' "
            + shlex.quote(f'{{"last_by_subj": "{subjects.log(self.id)}"}}')
            + " --raw",
            f"nats sub {shlex.quote(f'agentflow.live.*.{self.id}')}",
            f"nats sub agentflow.tokens.{name}",
        )
        return Choose("copy a command", tuple(("copy_text", each, each) for each in commands))

    def targets(self, scene: Scene, act: str) -> list[str]:
        """The task; of what it has to do with, its queue or its worker."""
        row = scene.store.rows.get(self.id)
        if act in ("pause", "resume"):
            return [row.queue] if row is not None and row.queue else []
        if act == "drain":
            return [row.actor] if row is not None and row.state == State.RUNNING else []
        return [self.id] if self.id else []


def _gave(task: Subject) -> str:
    return texts.result_text(task.ended) if task.ended is not None else ""


def _times(scene: Scene, row: Row) -> str:
    """How long it waited and ran, or when it goes on."""
    if row.state in (State.SCHEDULED, State.RETRYING) and row.resume_at is not None:
        return f"until {scene.clock(row.resume_at / 1000)}  "
    ran = run(row, scene.now)
    if ran is not None:
        return f"{span(ran)}  "
    waited = wait(row, scene.now)
    return f"waits for {span(waited)}  " if waited is not None else ""


__all__ = ["Task"]
