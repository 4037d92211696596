"""The tasks: every one that is known, filtered, sorted, marked, grouped."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agentflow.protocol.record import State
from agentflow.rules.projection import Row, decode_labels
from tui.model import query
from tui.model.amounts import bar, clock, money, short, span
from tui.model.effects import Choose, Copy, Effect, Export, Fetch, Prompt
from tui.model.lines import Line, clip, line, rule
from tui.model.scene import GLYPHS, Scene
from tui.model.store import Store
from tui.model.table import Column, Table

NO_GROUP: Final = "none"
PREVIEWS: Final = (0, 4, 9)
EXPORTED: Final = 100_000


def _state_token(row: Row, now: float) -> str:
    return f"state.{row.state}" if row.state in GLYPHS else "text"


def _progress(row: Row, now: float) -> str:
    if row.progress is None:
        return ""
    return f"{bar(row.progress, 6)} {100 * row.progress:3.0f}%"


def _last(row: Row, now: float) -> str:
    """What there is to say of a task in one line."""
    if row.state in (State.FAILED, State.RETRYING) and row.error:
        return row.error
    if row.resume_at is not None and row.state in (State.SCHEDULED, State.RETRYING):
        return f"at {clock(row.resume_at / 1000)}"
    if row.note:
        return row.note
    labels = decode_labels(row.labels) if row.labels else {}
    return " ".join(f"{name}={value}" for name, value in labels.items())


def columns(scene_glyph: Callable[[str], str], worker: Callable[[str], str]) -> list[Column[Row]]:
    """The columns of a table of tasks."""
    return [
        Column("id", "ID", 14, lambda row, now: row.id, lambda row: row.id, grows=True),
        Column(
            "state",
            "STATE",
            11,
            lambda row, now: f"{scene_glyph(row.state)} {row.state}",
            lambda row: row.state,
            _state_token,
        ),
        Column("queue", "QUEUE", 9, lambda row, now: row.queue, lambda row: row.queue, drop=3),
        Column("kind", "KIND", 8, lambda row, now: row.kind, lambda row: row.kind, drop=4),
        Column(
            "priority",
            "PRI",
            6,
            lambda row, now: row.priority,
            lambda row: (
                ("high", "normal", "low").index(row.priority)
                if row.priority in ("high", "normal", "low")
                else 3
            ),
            drop=9,
        ),
        Column(
            "worker",
            "WORKER",
            10,
            lambda row, now: worker(row.actor) if row.actor else "",
            lambda row: row.actor,
            drop=5,
        ),
        Column(
            "attempt",
            "ATT",
            3,
            lambda row, now: str(row.attempt) if row.attempt else "",
            lambda row: row.attempt,
            right=True,
            drop=6,
        ),
        Column(
            "wait",
            "WAIT",
            5,
            lambda row, now: span(query.wait(row, now)),
            lambda row: query.wait(row, 0.0) or 0.0,
            right=True,
            drop=8,
        ),
        Column(
            "run",
            "RUN",
            5,
            lambda row, now: span(query.run(row, now)),
            lambda row: row.started or 0,
            right=True,
        ),
        Column(
            "age",
            "AGE",
            5,
            lambda row, now: span(query.age(row, now)),
            lambda row: -(row.submitted or row.updated),
            right=True,
            drop=2,
        ),
        Column(
            "progress",
            "PROGRESS",
            11,
            _progress,
            lambda row: row.progress or 0.0,
            drop=10,
        ),
        Column(
            "in",
            "IN",
            6,
            lambda row, now: short(row.usage.total - row.usage.output_tokens),
            lambda row: row.usage.total - row.usage.output_tokens,
            right=True,
            drop=7,
        ),
        Column(
            "out",
            "OUT",
            6,
            lambda row, now: short(row.usage.output_tokens),
            lambda row: row.usage.output_tokens,
            right=True,
            drop=7,
        ),
        Column(
            "cost",
            "COST",
            8,
            lambda row, now: money(row.cost),
            lambda row: row.cost or 0,
            right=True,
            drop=1,
        ),
        Column(
            "model",
            "MODEL",
            18,
            lambda row, now: row.model or "",
            lambda row: row.model or "",
            drop=11,
        ),
        Column("last", "LAST", 12, _last, token=lambda row, now: "dim", drop=1, grows=True),
    ]


@dataclass(slots=True)
class Group:
    """Tasks that have something in common."""

    name: str
    tasks: int = 0
    running: int = 0
    failed: int = 0
    succeeded: int = 0
    cost: int = 0
    newest: int = 0

    def add(self, row: Row) -> None:
        """Count a task."""
        self.tasks += 1
        self.running += row.state == State.RUNNING
        self.failed += row.state == State.FAILED
        self.succeeded += row.state == State.SUCCEEDED
        self.cost += row.cost or 0
        self.newest = max(self.newest, row.updated)


GROUP_COLUMNS: Final[list[Column[Group]]] = [
    Column("name", "GROUP", 20, lambda g, now: g.name or "(none)", lambda g: g.name, grows=True),
    Column("tasks", "TASKS", 9, lambda g, now: f"{g.tasks:,}", lambda g: g.tasks, right=True),
    Column(
        "running", "RUNNING", 8, lambda g, now: f"{g.running:,}", lambda g: g.running, right=True
    ),
    Column(
        "succeeded", "DONE", 9, lambda g, now: f"{g.succeeded:,}", lambda g: g.succeeded, right=True
    ),
    Column(
        "failed",
        "FAILED",
        8,
        lambda g, now: f"{g.failed:,}",
        lambda g: g.failed,
        lambda g, now: "state.failed" if g.failed else "dim",
        right=True,
    ),
    Column("cost", "COST", 9, lambda g, now: money(g.cost), lambda g: g.cost, right=True, drop=1),
    Column(
        "newest",
        "LAST",
        6,
        lambda g, now: span(now - g.newest / 1000),
        lambda g: g.newest,
        right=True,
        drop=2,
    ),
]


class Tasks:
    """The view."""

    name: str = "tasks"
    title: str = "Tasks"

    def __init__(self) -> None:
        self.filter = query.ALL
        self.group = NO_GROUP
        self.preview = 0
        self._glyph: Callable[[str], str] = GLYPHS.__getitem__
        self._worker: Callable[[str], str] = str
        self._rows: Table[Row] = Table(
            columns(lambda state: self._glyph(state), lambda actor: self._worker(actor)),
            sort="age",
            empty="no tasks: n submits one",
        )
        self._groups: Table[Group] = Table(GROUP_COLUMNS, sort="tasks", reverse=True)
        self._store: Store | None = None
        self._changed: set[str] | None = None

    @property
    def table(self) -> Table[Any]:
        """Tasks, or groups of them."""
        return self._rows if self.group == NO_GROUP else self._groups

    def show(self, text: str) -> None:
        """Set the filter."""
        self.filter = query.parse(text)
        self.group = NO_GROUP
        self._rows.invalidate()
        self._groups.invalidate()

    # Drawing.

    def refresh(self, scene: Scene) -> None:
        """Bring the table up to date with the store."""
        store = scene.store
        self._worker = store.name_of
        self._glyph = scene.glyph
        if self._store is not store:
            if self._store is not None and self._changed is not None:
                self._store.unwatch(self._changed)
            self._store, self._changed = store, store.watch()
            self._rows.invalidate()
        wants, now = self.filter.wants, scene.now
        if self.group == NO_GROUP:
            changed = None if self.filter.timed else self._changed
            self._rows.refresh(store.rows, now, changed=changed, wanted=lambda row: wants(row, now))
        else:
            # Grouping reads every row, so it is done no oftener than the order is made.
            if self._groups.due(now):
                self._groups.refresh(self._grouped(scene), now)

    def _grouped(self, scene: Scene) -> dict[str, Group]:
        found: dict[str, Group] = {}
        read = _GROUPINGS.get(self.group)
        for row in scene.store.rows.values():
            if not self.filter.wants(row, scene.now):
                continue
            if read is not None:
                name = read(row)
            else:
                labels = decode_labels(row.labels) if row.labels else {}
                name = labels.get(self.group.removeprefix("label "), "")
            group = found.get(name)
            if group is None:
                group = found[name] = Group(name)
            group.add(row)
        return found

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """Filter line, table and preview."""
        self.refresh(scene)
        table = self.table
        marked = f"   {len(table.marks):,} marked" if table.marks else ""
        whole = len(scene.store.rows)
        shown = len(table.order)
        right = f"{shown:,} of {whole:,}{marked}" if self.filter.text else f"{whole:,}{marked}"
        known = scene.store.known
        if known.evicted or known.older:
            right += "   the newest only"
        title = "tasks" if self.group == NO_GROUP else f"tasks by {self.group}"
        if self.filter.text:
            title += f"  /{self.filter.text}"
        found = [rule(title, width, right)]
        below = self._preview(scene, width) if self.group == NO_GROUP else []
        room = height - 1 - len(below)
        found += table.lines(width, max(2, room), scene.now)
        return found + below

    def _preview(self, scene: Scene, width: int) -> list[Line]:
        room = PREVIEWS[self.preview]
        row = self._rows.item()
        if not room or row is None:
            return []
        return [rule(f"preview {row.id}", width, "enter opens"), *about(scene, row, width)][
            : room + 1
        ]

    # Commands.

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Filter, group, preview, open, copy, export."""
        match command:
            case "open":
                return self._open(scene)
            case "filter":
                return self._filter(argument)
            case "filter_set":
                self._set(argument)
                return []
            case "group":
                return self._group(scene, argument)
            case "preview":
                self.preview = min(len(PREVIEWS) - 1, max(0, self.preview + int(argument)))
                return []
            case "back" if self.filter.text or self.group != NO_GROUP:
                self.group = NO_GROUP
                self.show("")
                return []
            case "why" if self._rows.item() is not None and self.group == NO_GROUP:
                self.preview = max(self.preview, 1)
                return [Fetch("why", self._rows.cursor)]
            case "copy_command":
                chosen = " ".join(shlex.quote(key) for key in self.table.chosen()[:1])
                return [Copy(f"agentflow get {chosen}", "the command")] if chosen else []
            case "export":
                return self._export(scene)
        return None

    def _open(self, scene: Scene) -> list[Effect] | None:
        if self.group == NO_GROUP:
            return None  # the dashboard opens the task
        name = self._groups.cursor
        prefix = f"{self.filter.text} " if self.filter.text else ""
        if self.group.startswith("label "):
            self.show(f"{prefix}label:{self.group.removeprefix('label ')}={name}")
        else:
            field = "group" if self.group == "error" else self.group
            self.show(f"{prefix}{field}:{name}" if name else prefix)
        return []

    def _filter(self, argument: str) -> list[Effect]:
        if argument:
            self._set(argument)
            return []
        hint = "state:failed  label:team=x  cost>0.1  !word  or any text"
        return [Prompt("/", "filter_set", self.filter.text, hint)]

    def _set(self, text: str) -> None:
        self.show(text)

    def _group(self, scene: Scene, argument: str) -> list[Effect]:
        if argument:
            self.group = argument
            self._groups.invalidate()
            return []
        labels = sorted(
            {
                name
                for text in {row.labels for row in scene.store.rows.values() if row.labels}
                for name in decode_labels(text)
            }
        )
        names = [NO_GROUP, *_GROUPINGS, *(f"label {name}" for name in labels[:20])]
        return [Choose("group by", tuple(("group", name, name) for name in names))]

    def _export(self, scene: Scene) -> list[Effect]:
        if self.group != NO_GROUP:
            return []
        out = io.StringIO()
        writer = csv.writer(out)
        wanted = [column for column in self._rows.columns if column.key != "progress"]
        writer.writerow([column.key for column in wanted])
        for key in self._rows.order[:EXPORTED]:
            row = scene.store.rows.get(key)
            if row is not None:
                writer.writerow([column.text(row, scene.now) for column in wanted])
        return [Export("tasks", "csv", out.getvalue())]

    def targets(self, scene: Scene, act: str) -> list[str]:
        """The marked tasks, else the one under the cursor."""
        return self._rows.chosen() if self.group == NO_GROUP else []


_GROUPINGS: Final[dict[str, Callable[[Row], str]]] = {
    "error": lambda row: row.fingerprint,
    "state": lambda row: row.state,
    "queue": lambda row: row.queue,
    "kind": lambda row: row.kind,
    "model": lambda row: row.model or "",
    "worker": lambda row: row.actor,
}


def about(scene: Scene, row: Row, width: int) -> list[Line]:
    """A task in a few lines."""
    labels = decode_labels(row.labels) if row.labels else {}
    facts = [
        (
            "submitted",
            f"{clock(row.submitted / 1000) if row.submitted else '-'}"
            f"   queue {row.queue} {row.priority}   kind {row.kind}   model {row.model or '-'}",
        ),
        (
            "attempt",
            f"{row.attempt}   failures {row.failures}   "
            f"worker {scene.store.name_of(row.actor) if row.actor else '-'}   {money(row.cost)}   "
            f"{row.usage.total:,} tokens",
        ),
        ("labels", " ".join(f"{name}={value}" for name, value in labels.items()) or "-"),
    ]
    if row.error:
        facts.insert(0, ("error", row.error))
    why = scene.answers.whys.get(row.id)
    if why:
        facts.insert(0, ("why", why))
    return [clip(line((f" {name:<10}", "dim"), text), width) for name, text in facts]


__all__ = ["Tasks", "about", "columns"]
