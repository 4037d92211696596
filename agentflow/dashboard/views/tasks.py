"""The tasks: every one that is known, filtered, sorted, marked, grouped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, Final

from agentflow.dashboard.reader.changes import Changes
from agentflow.dashboard.reader.effects import Choose, Copy, Effect, Export, Fetch, Prompt
from agentflow.dashboard.reader.remedies import remedy
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.table import Table
from agentflow.dashboard.reader.view import View
from agentflow.dashboard.render.amounts import money
from agentflow.dashboard.render.lines import Line, clip, line, rule
from agentflow.dashboard.render.separated import separated
from agentflow.dashboard.rows.taskgroups import (
    GROUPINGS,
    Group,
    grouping,
    label_names,
)
from agentflow.dashboard.views.groupcolumns import GROUP_COLUMNS
from agentflow.dashboard.views.taskcolumns import COLUMNS
from agentflow.protocol.record import State
from agentflow.views import query
from agentflow.views.row import Row, decode_labels

NO_GROUP: Final = "none"
PREVIEWS: Final = (0, 5, 10)
EXPORTED: Final = 100_000
GROUPED: Final = 3.0
"""Seconds between two countings of groups: each looks at every task."""

EMPTY: Final = "no tasks yet: n submits one"


class Tasks(View):
    """The view."""

    name = "tasks"
    title = "Tasks"

    def __init__(self) -> None:
        self.filter = query.ALL
        self.group = NO_GROUP
        self.preview = 0
        self._given = False
        """Whether another view set the filter: then `back` leads there."""
        self._rows: Table[Row] = Table(COLUMNS, sort="state", empty=EMPTY)
        self._groups: Table[Group] = Table(GROUP_COLUMNS, sort="tasks", reverse=True)
        self._by_name: dict[str, Group] = {}
        self._changes = Changes()

    @property
    def table(self) -> Table[Any]:
        """Tasks, or groups of them."""
        return self._rows if self.group == NO_GROUP else self._groups

    def show(self, text: str) -> None:
        """Show the tasks of another view's choice."""
        self._set(text)
        self._given = True

    def close(self) -> None:
        """Watch no store any more."""
        self._changes.close()

    def _set(self, text: str) -> None:
        self.filter = query.parse(text)
        self.group = NO_GROUP
        self._given = False
        self._rows.empty = EMPTY if not text else "no task passes the filter: esc clears it"
        self._rows.invalidate()
        self._groups.invalidate()

    # Drawing.

    def refresh(self, scene: Scene) -> None:
        """Bring the table up to date with the store."""
        store = scene.store
        if self._changes.watch(store):
            self._rows.invalidate()
            self._groups.invalidate()
        wants, now = self.filter.wants, scene.now
        if self.group == NO_GROUP:
            changed = None if self.filter.timed else self._changes.ids
            wanted = (lambda row: wants(row, now)) if self.filter.tests else None
            self._rows.refresh(store.rows, now, changed=changed, wanted=wanted)
        elif self._groups.due(now):
            # Whatever has an error neither runs nor is done.
            self._groups.hidden = {"running", "succeeded"} if self.group == "error" else set()
            key = ("groups", self.group, self.filter.text)
            self._by_name = scene.lately(key, lambda: self._grouped(scene), GROUPED)
            self._groups.refresh(self._by_name, now)

    def _grouped(self, scene: Scene) -> dict[str, Group]:
        groups: dict[str, Group] = {}
        read = grouping(self.group)
        by_error = self.group == "error"
        wants = self.filter.wants if self.filter.tests else None
        for row in scene.store.rows.values():
            if wants is not None and not wants(row, scene.now):
                continue
            name = read(row)
            group = groups.get(name)
            if group is None:
                group = groups[name] = Group(name)
            group.add(row)
            if by_error and row.error:
                group.example = row.error
        return groups

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """Title with the filter, table and preview."""
        self.refresh(scene)
        table = self.table
        marked = f"   {len(table.marks):,} marked" if table.marks else ""
        shown, whole = len(table.order), len(scene.store.rows)
        if self.group == NO_GROUP:
            title = "tasks"
            right = f"{shown:,} of {whole:,}" if self.filter.text else f"{whole:,}"
        else:
            title = f"tasks by {self.group}"
            right = f"{shown:,} groups"
        if self.filter.text:
            title += f"  /{self.filter.text}"
        known = scene.store.known
        if known.evicted or known.older or not known.complete:
            right = f"newest {right}"
        below = self._preview(scene, width, height) if self.group == NO_GROUP else []
        room = max(2, height - 1 - len(below))
        lines = [rule(title, width, right + marked), *table.lines(width, room, scene)]
        return lines + below

    def _preview(self, scene: Scene, width: int, height: int) -> list[Line]:
        room = min(PREVIEWS[self.preview], height // 2)
        row = self._rows.item()
        if not room or row is None:
            return []
        lines = [rule(f"preview {row.id}", width, "enter opens  + _ size")]
        lines += about(scene, row, width)
        return (lines + [clip(line(), width)] * room)[:room]

    # Commands.

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Filter, group, choose columns, preview, open, copy, export."""
        match command:
            case "open" if self.group != NO_GROUP:
                return self._open_group()
            case "filter" if not argument:
                hint = "state:failed  label:team=x  cost>0.1  age>10m  !word  any text"
                return [Prompt("/", "filter_set", self.filter.text, hint)]
            case "filter" | "filter_set":
                self._set(argument)
                return []
            case "group":
                return self._group(scene, argument)
            case "columns":
                return self._columns(argument)
            case "preview":
                self.preview = min(len(PREVIEWS) - 1, max(0, self.preview + int(argument)))
                return []
            case "back":
                return self._back()
            case "why" if self._rows.item() is not None and self.group == NO_GROUP:
                self.preview = max(self.preview, 1)
                return [Fetch("why", self._rows.cursor)]
            case "copy_command":
                chosen = " ".join(shlex.quote(key) for key in self._rows.chosen()[:1])
                return (
                    [Copy(f"agentflow get {shlex.quote(chosen)}", "the command")] if chosen else []
                )
            case "export":
                return self._export(scene)
        return None

    def _back(self) -> list[Effect] | None:
        """First what was set here is undone, then `back` leads on."""
        given = self._given
        if self.group != NO_GROUP:
            self.group = NO_GROUP
            return []
        if self._rows.marks:
            self._rows.marks.clear()
            return []
        if self.filter.text:
            self._set("")
            return None if given else []
        return None

    def _open_group(self) -> list[Effect]:
        name = self._groups.cursor
        prefix = f"{self.filter.text} " if self.filter.text else ""
        if self.group.startswith("label "):
            label = self.group.removeprefix("label ")
            term = query.term("label", f"{label}={name}") if name else f"!label:{label}"
        else:
            field = "group" if self.group == "error" else self.group
            term = query.term(field, name) if name else f"{field}:"
        self._set(prefix + term)
        return []

    def _group(self, scene: Scene, argument: str) -> list[Effect]:
        if argument:
            self.group = argument
            self._groups.invalidate()
            return []
        names = [NO_GROUP, *GROUPINGS, *(f"label {name}" for name in label_names(scene))]
        return [Choose("group by", tuple(("group", name, name) for name in names))]

    def _columns(self, argument: str) -> list[Effect]:
        """Choose which columns are shown; asked again until the person has had enough."""
        if argument:
            self._rows.toggle(argument)
        options = tuple(
            ("columns", each.key, f"[{' ' if each.key in self._rows.hidden else 'x'}] {each.title}")
            for each in self._rows.columns
        )
        return [Choose("columns", options)]

    def _export(self, scene: Scene) -> list[Effect]:
        if self.group != NO_GROUP:
            return []
        wanted = [column for column in COLUMNS if column.key not in ("state", "progress")]
        lines: list[Sequence[str]] = [["state", *(column.key for column in wanted), "error"]]
        for key in self._rows.order[:EXPORTED]:
            row = scene.store.rows.get(key)
            if row is not None:
                texts = [column.text(row, scene) for column in wanted]
                lines.append([row.state, *texts, row.error or ""])
        return [Export("tasks", "csv", separated(lines))]

    def targets(self, scene: Scene, act: str) -> list[str]:
        """The marked tasks, else the one under the cursor."""
        return self._rows.chosen() if self.group == NO_GROUP else []


def about(scene: Scene, row: Row, width: int) -> list[Line]:
    """A task in a few lines."""
    labels = decode_labels(row.labels) if row.labels else {}
    worker = scene.store.name_of(row.actor) if row.actor else "-"
    submitted = scene.clock(row.submitted / 1000) if row.submitted else "-"
    facts = [
        (
            "task",
            f"submitted {submitted}   queue {row.queue}, {row.priority}   kind {row.kind}   "
            f"model {row.model or '-'}",
        ),
        (
            "attempt",
            f"{row.attempt} on {worker}   failures {row.failures}   {money(row.cost)}   "
            f"{row.usage.total:,} tokens   wasted {money(scene.store.wasted(row.id))}",
        ),
        ("labels", " ".join(f"{name}={value}" for name, value in labels.items()) or "-"),
    ]
    if row.note:
        facts.append(("note", row.note))
    if row.error:
        facts.insert(0, ("error", row.error))
        if row.state == State.FAILED:
            facts.insert(1, ("remedy", remedy(row.reason, row.error).advice))
    why = scene.answers.whys.get(row.id)
    if why:
        facts.insert(0, ("why", why))
    return [clip(line((f" {name:<10}", "dim"), text), width) for name, text in facts]
