"""The events: what happened, the newest last, and what was done from here."""

from __future__ import annotations

from typing import Any

from agentflow.protocol.record import State
from agentflow.rules.projection import Row
from tui.model import query
from tui.model.amounts import clock, money, span
from tui.model.effects import Effect
from tui.model.lines import Hit, Line, cell, clip, line, rule
from tui.model.scene import Scene
from tui.model.store import Event
from tui.model.table import Table


class Events:
    """The view."""

    name: str = "events"
    title: str = "Events"

    @property
    def table(self) -> Table[Any] | None:
        """There is none."""
        return None

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """The events that find room."""
        events = list(scene.store.events)[-(height - 1) :]
        return [
            rule("events", width),
            *(event_line(scene, event, width) for event in events),
        ]

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Nothing of its own yet."""
        return None

    def targets(self, scene: Scene, act: str) -> list[str]:
        """Nothing can be done to an event."""
        return []


def event_line(scene: Scene, event: Event, width: int) -> Line:
    """An event in one line."""
    row = event.row
    if row is None:
        made = line(
            (f" {clock(event.at)} ", "dim"),
            (cell(event.subject, 14) + " ", "text"),
            (event.text, event.token),
        )
        return clip(made, width)
    made = line(
        (f" {clock(event.at)} ", "dim"),
        (cell(row.id, 14) + " ", "text"),
        (f"{scene.glyph(row.state)} {row.state} ", f"state.{row.state}"),
        (happened(scene, row), "dim"),
    )
    return clip(made, width)._replace(hits=(Hit(0, width, "open_task", row.id),))


def happened(scene: Scene, row: Row) -> str:
    """What a record of a task says, beside its state."""
    worker = scene.store.name_of(row.actor) if row.actor else ""
    match row.state:
        case State.SUCCEEDED:
            return f"after {span(query.run(row, scene.now))}  {money(row.cost)}  on {worker}"
        case State.FAILED:
            return f"({row.reason or 'failed'})  {row.error or ''}"
        case State.RETRYING | State.SCHEDULED:
            at = clock(row.resume_at / 1000) if row.resume_at else "-"
            return f"until {at}  {row.error or row.reason or ''}"
        case State.RUNNING:
            return f"attempt {row.attempt} on {worker}  {row.note or ''}"
        case State.QUEUED:
            return f"in {row.queue}  {row.reason or ''}"
    return row.reason or ""
