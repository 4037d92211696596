"""The events: what happened, the newest last, and what was done from here.

While the end is followed the window moves with it. Whoever looks back looks at a list that stands
still, with a count of what came since.
"""

from __future__ import annotations

import shlex
from typing import Final

from agentflow.dashboard.reader.effects import Copy, Effect, Export, Prompt
from agentflow.dashboard.reader.scene import Receipt, Scene
from agentflow.dashboard.reader.view import View, Way
from agentflow.dashboard.render.amounts import money, span
from agentflow.dashboard.render.lines import EMPTY, Hit, Line, cell, clip, line, rule
from agentflow.dashboard.store.store import Event
from agentflow.protocol.record import State
from agentflow.views import pattern, query
from agentflow.views.pattern import Pattern
from agentflow.views.query import QueryError
from agentflow.views.row import Row

ID: Final = 22
NARROW_ID: Final = 14
RECEIPTS: Final = 8


class Events(View):
    """The view."""

    name = "events"
    title = "Events"

    def __init__(self) -> None:
        self.follow = True
        self.receipts = False
        """Whether what was done from here is shown."""
        self.filter = ""
        self._pattern: Pattern | None = None
        self._inverse = False
        self._shown: list[Event] = []
        self._newest: Event | None = None
        """The newest event when looking back began."""
        self._at = 0
        self._top = 0
        self._height = 1

    def show(self, argument: str) -> None:
        """Show the receipts, or the events with a text."""
        if argument == "receipts":
            self.receipts = not self.receipts
        else:
            self._filter(argument)

    # Drawing.

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """The events that find room; below them the receipts where they are asked for."""
        below = self._receipts(scene, width, height) if self.receipts else []
        room = max(1, height - len(below) - 1)
        self._refresh(scene)
        self._height = room
        self._scroll()
        since = self._since(scene)
        right = f"{scene.glyph('running')} follow" if self.follow else "f follows"
        if since:
            right = f"{since:,} newer   {right}"
        title = f"events  /{self.filter}" if self.filter else "events"
        lines = [rule(title, width, f"{len(self._shown):,}   {right}")]
        for at, event in enumerate(self._shown[self._top : self._top + room], self._top):
            made = event_line(scene, event, width)
            if at == self._at and not self.follow:
                _, *rest = made.runs
                made = made._replace(base="cursor", runs=(("▌", "mark"), *rest))
            lines.append(made)
        if not self._shown:
            text = "nothing with that text" if self.filter else "nothing happened yet"
            lines.append(clip(line((f"  {text}", "dim")), width))
        blank = clip(EMPTY, width)
        return [*(lines + [blank] * height)[: room + 1], *below]

    def _refresh(self, scene: Scene) -> None:
        if self.follow or not self._shown:
            self._shown = [each for each in scene.store.events if self._wants(scene, each)]
            self._newest = scene.store.events[-1] if scene.store.events else None
        if self.follow:
            self._at = max(0, len(self._shown) - 1)
        self._at = min(self._at, max(0, len(self._shown) - 1))

    def _wants(self, scene: Scene, event: Event) -> bool:
        if self._pattern is None:
            return True
        return self._pattern.found(text_of(scene, event)) is not self._inverse

    def _since(self, scene: Scene) -> int:
        if self.follow:
            return 0
        number = 0
        for event in reversed(scene.store.events):
            if event is self._newest:
                break
            number += self._wants(scene, event)
        return number

    def _scroll(self) -> None:
        last = max(0, len(self._shown) - self._height)
        self._top = min(max(self._top, self._at - self._height + 1), self._at, last)

    def _receipts(self, scene: Scene, width: int, height: int) -> list[Line]:
        room = min(RECEIPTS, max(2, height // 3))
        lines = [rule("done from here", width, f"{len(scene.receipts):,}   @ hides")]
        if not scene.receipts:
            lines.append(clip(line(("  nothing was done from here", "dim")), width))
        for receipt in scene.receipts[-room:]:
            lines.append(receipt_line(scene, receipt, width))
        return lines

    # Commands.

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Move, follow, filter, open, copy, export."""
        match command:
            case "move" | "half" | "page" | "end":
                return self._move(command, int(argument))
            case "follow":
                self.follow = not self.follow
                return []
            case "receipts":
                self.receipts = not self.receipts
                return []
            case "filter" if not argument:
                return [Prompt("/", "filter_set", self.filter, "any text; !text leaves out")]
            case "filter" | "filter_set":
                self._filter(argument)
                return []
            case "back" if self.filter or not self.follow or self.receipts:
                self._filter("")
                self.follow, self.receipts = True, False
                return []
            case "copy" if (event := self._event()) is not None:
                text = event.row.id if event.row is not None else text_of(scene, event)
                return [Copy(text, "the id" if event.row is not None else "the event")]
            case "copy_command" if (event := self._event()) is not None and event.row is not None:
                return [Copy(f"agentflow get {shlex.quote(event.row.id)}", "the command")]
            case "export":
                texts = (f"{scene.clock(each.at)} {text_of(scene, each)}" for each in self._shown)
                return [Export("events", "txt", "\n".join(texts) + "\n")]
        return None

    def chosen(self) -> Way | None:
        """The task of the event under the cursor."""
        event = self._event()
        if event is None or event.row is None:
            return None
        return Way("open_task", event.row.id)

    def _event(self) -> Event | None:
        return self._shown[self._at] if self._at < len(self._shown) else None

    def _move(self, command: str, by: int) -> list[Effect]:
        rows = {
            "move": by,
            "half": by * max(1, self._height // 2),
            "page": by * max(1, self._height - 1),
            "end": by * len(self._shown),
        }[command]
        last = max(0, len(self._shown) - 1)
        self._at = min(last, max(0, self._at + rows))
        # Looking back stops the window; the end starts it again.
        self.follow = self._at == last and rows > 0
        return []

    def _filter(self, text: str) -> None:
        self._inverse = text.startswith("!") and len(text) > 1
        wanted = text[1:] if self._inverse else text
        try:
            self._pattern = pattern.compile(wanted) if wanted else None
        except pattern.PatternError as error:
            raise QueryError(f"{wanted} is no pattern: {error}") from None
        self.filter, self.follow = text, True


def text_of(scene: Scene, event: Event) -> str:
    """An event as text."""
    if event.row is None:
        return f"{event.subject} {event.text}"
    return f"{event.row.id} {event.row.state} {happened(scene, event.row)}"


def event_line(scene: Scene, event: Event, width: int) -> Line:
    """An event in one line."""
    row = event.row
    name = ID if width >= 90 else NARROW_ID
    if row is None:
        made = line(
            " ",
            (f"{scene.clock(event.at)} ", "dim"),
            (cell(event.subject, name) + " ", "text"),
            (event.text, event.token),
        )
        return clip(made, width)
    made = line(
        " ",
        (f"{scene.clock(event.at)} ", "dim"),
        (cell(row.id, name) + " ", "text"),
        (f"{scene.glyph(row.state)} {row.state:<10}", f"state.{row.state}"),
        (happened(scene, row), "dim"),
    )
    return clip(made, width)._replace(hits=(Hit(0, width, "open_task", row.id),))


def receipt_line(scene: Scene, receipt: Receipt, width: int) -> Line:
    """What was done in one line."""
    sign = "✓" if receipt.ended and receipt.token == "ok" else "✗" if receipt.ended else "…"
    made = line(
        (f" {scene.clock(receipt.at)} ", "dim"),
        (f"{sign} ", receipt.token),
        (receipt.text, receipt.token),
        (f"   {receipt.command}", "text"),
    )
    return clip(made, width)


def happened(scene: Scene, row: Row) -> str:
    """What a record of a task says, beside its state."""
    worker = scene.store.name_of(row.actor) if row.actor else ""
    match row.state:
        case State.SUCCEEDED:
            return f"after {span(query.run(row, scene.now))}  {money(row.cost)}  on {worker}"
        case State.FAILED:
            return f"({row.reason or 'failed'})  {row.error or ''}"
        case State.RETRYING | State.SCHEDULED:
            at = scene.clock(row.resume_at / 1000) if row.resume_at else "-"
            return f"until {at}  {row.error or row.reason or ''}"
        case State.RUNNING:
            return f"attempt {row.attempt} on {worker}  {row.note or ''}"
        case State.QUEUED:
            return f"in {row.queue}  {row.reason or ''}"
    return row.reason or ""
