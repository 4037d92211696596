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
from tui.model.amounts import bar, money, short, span
from tui.model.effects import Choose, Copy, Effect, Export, Fetch, Prompt
from tui.model.lines import Line, clip, line, rule
from tui.model.remedies import remedy
from tui.model.scene import GLYPHS, Scene
from tui.model.store import Store
from tui.model.table import Column, Table

NO_GROUP: Final = "none"
PREVIEWS: Final = (0, 5, 10)
EXPORTED: Final = 100_000
LABELS: Final = 20
"""Labels that are offered to group by."""
GROUPED: Final = 3.0
"""Seconds between two countings of groups: each looks at every task."""

_RANKS: Final = {
    state: rank << 44
    for rank, state in enumerate(
        ("running", "retrying", "queued", "scheduled", "failed", "cancelled", "succeeded")
    )
}
_UNKNOWN: Final = 7 << 44
_LATEST: Final = 1 << 43
_PRIORITIES: Final = {"high": 0, "normal": 1, "low": 2}


def _by_state(row: Row) -> int:
    """What runs first, the oldest on top; what ended last, the newest on top."""
    rank = _RANKS.get(row.state, _UNKNOWN)
    if row.finished:
        return rank + _LATEST - row.updated
    return rank + (row.started or row.submitted or row.updated)


def _by_wait(row: Row) -> int:
    """How long it waited; whatever waits still has waited longer than that."""
    begun = row.submitted or row.updated
    return row.started - begun if row.started is not None else _LATEST - begun


def _state_token(row: Row, scene: Scene) -> str:
    return f"state.{row.state}" if row.state in GLYPHS else "text"


def _progress(row: Row, scene: Scene) -> str:
    if row.progress is None:
        return ""
    return f"{bar(row.progress, 6)} {100 * row.progress:3.0f}%"


def _last(row: Row, scene: Scene) -> str:
    """What there is to say of a task in one line."""
    if row.state in (State.FAILED, State.RETRYING) and row.error:
        return row.error
    if row.resume_at is not None and row.state in (State.SCHEDULED, State.RETRYING):
        return f"at {scene.clock(row.resume_at / 1000)}  {row.reason or ''}"
    if row.note and not row.finished:
        return row.note
    labels = decode_labels(row.labels) if row.labels else {}
    return " ".join(f"{name}={value}" for name, value in labels.items())


def _last_token(row: Row, scene: Scene) -> str:
    return "state.failed" if row.state == State.FAILED else "dim"


def _cost(row: Row, scene: Scene) -> str:
    # Of what is not at an end nothing is known before its first attempt has one.
    return money(row.cost) if row.cost or row.finished else ""


def _input(row: Row, scene: Scene) -> str:
    tokens = row.usage.total - row.usage.output_tokens
    return short(tokens) if tokens else ""


def _output(row: Row, scene: Scene) -> str:
    tokens = row.usage.output_tokens
    if row.state == State.RUNNING and (flow := scene.store.flow(row)) is not None:
        tokens += flow.tokens
    return short(tokens) if tokens else ""


def _rate(row: Row, scene: Scene) -> str:
    if row.state != State.RUNNING or (flow := scene.store.flow(row)) is None:
        return ""
    return f"{flow.rate:,.0f}"


COLUMNS: Final[tuple[Column[Row], ...]] = (
    Column("id", "ID", 18, lambda row, scene: row.id, lambda row: row.id, grows=True, most=26),
    Column(
        "state",
        "STATE",
        11,
        lambda row, scene: f"{scene.glyph(row.state)} {row.state}",
        _by_state,
        _state_token,
    ),
    Column("queue", "QUEUE", 9, lambda row, scene: row.queue, lambda row: row.queue, drop=4),
    Column("kind", "KIND", 9, lambda row, scene: row.kind, lambda row: row.kind, drop=5),
    Column(
        "priority",
        "PRI",
        4,
        lambda row, scene: row.priority if row.priority != "normal" else "",
        lambda row: _PRIORITIES.get(row.priority, 3),
        drop=10,
    ),
    Column(
        "worker",
        "WORKER",
        8,
        lambda row, scene: scene.store.name_of(row.actor) if row.actor else "",
        lambda row: row.actor,
        drop=6,
    ),
    Column(
        "attempt",
        "ATT",
        3,
        lambda row, scene: str(row.attempt) if row.attempt else "",
        lambda row: row.attempt,
        right=True,
        drop=7,
    ),
    Column(
        "wait",
        "WAIT",
        5,
        lambda row, scene: span(query.wait(row, scene.now)),
        _by_wait,
        right=True,
        drop=9,
        falling=True,
    ),
    Column(
        "run",
        "RUN",
        5,
        lambda row, scene: span(query.run(row, scene.now)),
        lambda row: -(row.started or _LATEST),
        right=True,
        drop=1,
        falling=True,
    ),
    Column(
        "age",
        "AGE",
        5,
        lambda row, scene: span(query.age(row, scene.now)),
        lambda row: -(row.submitted or row.updated),
        right=True,
        drop=2,
        falling=True,
    ),
    Column("progress", "PROGRESS", 11, _progress, lambda row: row.progress or 0.0, drop=11),
    Column("rate", "TOK/S", 5, _rate, right=True, drop=12),
    Column(
        "in",
        "IN",
        6,
        _input,
        lambda row: row.usage.total - row.usage.output_tokens,
        right=True,
        drop=8,
        falling=True,
    ),
    Column(
        "out",
        "OUT",
        6,
        _output,
        lambda row: row.usage.output_tokens,
        right=True,
        drop=8,
        falling=True,
    ),
    Column(
        "cost",
        "COST",
        7,
        _cost,
        lambda row: row.cost or 0,
        right=True,
        drop=3,
        falling=True,
    ),
    Column(
        "model",
        "MODEL",
        18,
        lambda row, scene: row.model or "",
        lambda row: row.model or "",
        drop=13,
    ),
    Column("last", "LAST", 20, _last, token=_last_token, drop=2, grows=True),
)


def columns(*keys: str) -> list[Column[Row]]:
    """These columns of a table of tasks, in the order in which all of them stand."""
    return [column for column in COLUMNS if column.key in keys]


EMPTY: Final = "no tasks yet: n submits one"


@dataclass(slots=True)
class Group:
    """Tasks that have something in common; `example` is the error that they share."""

    name: str
    tasks: int = 0
    running: int = 0
    failed: int = 0
    succeeded: int = 0
    cost: int = 0
    newest: int = 0
    example: str = ""

    def add(self, row: Row) -> None:
        """Count a task."""
        self.tasks += 1
        self.running += row.state == State.RUNNING
        self.failed += row.state == State.FAILED
        self.succeeded += row.state == State.SUCCEEDED
        self.cost += row.cost or 0
        self.newest = max(self.newest, row.updated)


def _number(
    key: str,
    title: str,
    width: int,
    read: Callable[[Group], int],
    *,
    token: str = "text",
    drop: int = 0,
) -> Column[Group]:
    return Column(
        key,
        title,
        width,
        lambda g, scene: f"{read(g):,}",
        read,
        lambda g, scene: token if read(g) else "dim",
        right=True,
        drop=drop,
        falling=True,
    )


def _named(group: Group, scene: Scene) -> str:
    if group.example and group.name:
        return f"{group.name}  {group.example}"
    return group.name or "(none)"


GROUP_COLUMNS: Final[list[Column[Group]]] = [
    Column("name", "GROUP", 20, _named, lambda g: g.name, grows=True),
    _number("tasks", "TASKS", 9, lambda g: g.tasks),
    _number("running", "RUNNING", 8, lambda g: g.running, drop=3),
    _number("succeeded", "DONE", 9, lambda g: g.succeeded, drop=2),
    _number("failed", "FAILED", 8, lambda g: g.failed, token="state.failed"),
    Column(
        "cost",
        "COST",
        9,
        lambda g, scene: money(g.cost),
        lambda g: g.cost,
        right=True,
        drop=1,
        falling=True,
    ),
    Column(
        "newest",
        "LAST",
        6,
        lambda g, scene: span(scene.now - g.newest / 1000),
        lambda g: -g.newest,
        right=True,
        drop=4,
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
        self._given = False
        """Whether another view set the filter: then `back` leads there."""
        self._rows: Table[Row] = Table(COLUMNS, sort="state", empty=EMPTY)
        self._groups: Table[Group] = Table(GROUP_COLUMNS, sort="tasks", reverse=True)
        self._found: dict[str, Group] = {}
        self._store: Store | None = None
        self._changed: set[str] | None = None

    @property
    def table(self) -> Table[Any]:
        """Tasks, or groups of them."""
        return self._rows if self.group == NO_GROUP else self._groups

    def show(self, text: str) -> None:
        """Show the tasks of another view's choice."""
        self._set(text)
        self._given = True

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
        if self._store is not store:
            if self._store is not None and self._changed is not None:
                self._store.unwatch(self._changed)
            self._store, self._changed = store, store.watch()
            self._rows.invalidate()
            self._groups.invalidate()
        wants, now = self.filter.wants, scene.now
        if self.group == NO_GROUP:
            changed = None if self.filter.timed else self._changed
            wanted = (lambda row: wants(row, now)) if self.filter.tests else None
            self._rows.refresh(store.rows, now, changed=changed, wanted=wanted)
        elif self._groups.due(now):
            # Whatever has an error neither runs nor is done.
            self._groups.hidden = {"running", "succeeded"} if self.group == "error" else set()
            key = ("groups", self.group, self.filter.text)
            self._found = scene.lately(key, lambda: self._grouped(scene), GROUPED)
            self._groups.refresh(self._found, now)

    def _grouped(self, scene: Scene) -> dict[str, Group]:
        found: dict[str, Group] = {}
        read = grouping(self.group)
        by_error = self.group == "error"
        wants = self.filter.wants if self.filter.tests else None
        for row in scene.store.rows.values():
            if wants is not None and not wants(row, scene.now):
                continue
            name = read(row)
            group = found.get(name)
            if group is None:
                group = found[name] = Group(name)
            group.add(row)
            if by_error and row.error:
                group.example = row.error
        return found

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
        if known.evicted or known.older:
            right += " newest"
        below = self._preview(scene, width, height) if self.group == NO_GROUP else []
        room = max(2, height - 1 - len(below))
        found = [rule(title, width, right + marked), *table.lines(width, room, scene)]
        return found + below

    def _preview(self, scene: Scene, width: int, height: int) -> list[Line]:
        room = min(PREVIEWS[self.preview], height // 2)
        row = self._rows.item()
        if not room or row is None:
            return []
        found = [rule(f"preview {row.id}", width, "enter opens  + _ size")]
        found += about(scene, row, width)
        return (found + [clip(line(), width)] * room)[:room]

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
                return [Copy(f"agentflow get {chosen}", "the command")] if chosen else []
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
        out = io.StringIO()
        writer = csv.writer(out)
        wanted = [each for each in COLUMNS if each.key not in ("state", "progress")]
        writer.writerow(["state", *(column.key for column in wanted), "error"])
        for key in self._rows.order[:EXPORTED]:
            row = scene.store.rows.get(key)
            if row is not None:
                texts = [column.text(row, scene) for column in wanted]
                writer.writerow([row.state, *texts, row.error or ""])
        return [Export("tasks", "csv", out.getvalue())]

    def targets(self, scene: Scene, act: str) -> list[str]:
        """The marked tasks, else the one under the cursor."""
        return self._rows.chosen() if self.group == NO_GROUP else []


GROUPINGS: Final[dict[str, Callable[[Row], str]]] = {
    "error": lambda row: row.fingerprint,
    "state": lambda row: row.state,
    "queue": lambda row: row.queue,
    "kind": lambda row: row.kind,
    "model": lambda row: row.model or "",
    "worker": lambda row: row.actor,
}


def grouping(name: str) -> Callable[[Row], str]:
    """What tasks are grouped by: one of `GROUPINGS`, or `label NAME`."""
    if (read := GROUPINGS.get(name)) is not None:
        return read
    label = name.removeprefix("label ")
    # Thousands of tasks have the same labels, so their text is read once.
    known: dict[str, str] = {"": ""}

    def value(row: Row) -> str:
        found = known.get(row.labels)
        if found is None:
            found = known[row.labels] = decode_labels(row.labels).get(label, "")
        return found

    return value


def label_names(scene: Scene) -> list[str]:
    """The names of the labels that tasks have."""
    texts = {row.labels for row in scene.store.rows.values() if row.labels}
    return sorted({name for text in texts for name in decode_labels(text)})[:LABELS]


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


__all__ = ["COLUMNS", "Tasks", "about", "columns", "grouping", "label_names"]
