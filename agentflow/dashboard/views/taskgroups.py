"""Tasks that have something in common: an error, a state, a queue, a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.table import Column
from agentflow.dashboard.render.amounts import money, span
from agentflow.protocol.record import State
from agentflow.views.row import Row, decode_labels

LABELS: Final = 20
"""Labels that are offered to group by."""


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
