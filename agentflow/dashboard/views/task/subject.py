"""What is known of one task at the moment that is looked at: row, log, message, generated text."""

from __future__ import annotations

from dataclasses import dataclass

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.tokens import TokenText
from agentflow.protocol.record import Record
from agentflow.protocol.task import TaskBody
from agentflow.views.row import Row, row_of_record

Entry = tuple[int, Record]
"""Sequence and record."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A task. `read` says whether its log and message have been asked for and came.

    `log` ends with the record that the picture shows: at another time, and while the picture is
    frozen, what was stored later is not there yet.
    """

    id: str
    row: Row | None
    log: list[Entry]
    body: TaskBody | None
    read: bool
    problem: str
    text: TokenText | None

    @property
    def last(self) -> Record | None:
        """The last record."""
        return self.log[-1][1] if self.log else None

    @property
    def ended(self) -> Record | None:
        """The record that ended it, where it has ended."""
        last = self.last
        if last is None or not last.terminal or (self.row is not None and not self.row.finished):
            return None
        return last


def subject(scene: Scene, task_id: str) -> Subject:
    """All of it."""
    answers = scene.answers
    row = scene.store.rows.get(task_id)
    log = answers.logs.get(task_id, [])
    if row is not None:
        log = [entry for entry in log if entry[0] <= row.sequence]
    elif not scene.live:
        log = [entry for entry in log if entry[1].time.timestamp() <= scene.now]
    if row is None and log:
        sequence, record = log[-1]
        # Older than what the feed reads, or let go of.
        row = row_of_record(record, sequence, detailed=True)
    return Subject(
        id=task_id,
        row=row,
        log=log,
        body=answers.prompts.get(task_id),
        read=task_id in answers.logs,
        problem=answers.problems.get(("log", task_id), ""),
        text=scene.texts.get(task_id) if scene.live else None,
    )
