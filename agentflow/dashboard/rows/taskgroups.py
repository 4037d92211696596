"""Tasks that have something in common: an error, a state, a queue, a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agentflow.dashboard.reader.scene import Scene
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
        text = known.get(row.labels)
        if text is None:
            text = known[row.labels] = decode_labels(row.labels).get(label, "")
        return text

    return value


def label_names(scene: Scene) -> list[str]:
    """The names of the labels that tasks have."""
    texts = {row.labels for row in scene.store.rows.values() if row.labels}
    return sorted({name for text in texts for name in decode_labels(text)})[:LABELS]
