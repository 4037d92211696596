"""The texts of a task: its output, its message, its last record. Each gives lines for a pane."""

from __future__ import annotations

import msgspec

from agentflow.dashboard.reader.pane import Sheet
from agentflow.dashboard.reader.remedies import remedy
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.tokens import MOST
from agentflow.dashboard.render.lines import Line, line, rule, wrap
from agentflow.dashboard.views.task.history import error_text
from agentflow.dashboard.views.task.subject import Subject
from agentflow.protocol import record as records
from agentflow.protocol.record import PARKED, Record, State
from agentflow.protocol.task import TaskBody
from agentflow.views import display

GONE = "the prompt is kept only while the task is queued, running, parked or failed"
NOT_RECORDED = "not recorded: the text of a run is not stored"


def result_text(record: Record) -> str:
    """What a task gave: its text, else its value as JSON."""
    if record.text is not None:
        return record.text
    return pretty(record.value) if record.value is not None else ""


def pretty(value: object) -> str:
    """Any value as JSON for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def output(scene: Scene, task: Subject, width: int, *, wrapped: bool) -> Sheet:
    """What it gave, or gives just now; before that, what went wrong."""
    head = _wrong(scene, task, width)
    record = task.ended
    if record is not None and record.state == State.SUCCEEDED:
        return [*head, *_text(result_text(record), width, wrapped)] or [_dim("it gave nothing")]
    if task.text is not None and task.text.text:
        whole = task.text
        text = whole.lines(width) if wrapped else display.safe(whole.text).split("\n")
        if head:
            head.append(rule(f"text of attempt {whole.attempt}", width))
        return [*head, *text] if head else text
    if head:
        return head
    return [_dim(_nothing(scene, task))]


def _nothing(scene: Scene, task: Subject) -> str:
    """Why there is no text."""
    row = task.row
    if task.problem:
        return f"it cannot be read: {task.problem}"
    if row is None:
        if not scene.live:
            return "there is no record of it at that time"
        return f"there is no task {task.id} in the records" if task.read else "reading ..."
    if row.finished and not task.read:
        return "reading ..."
    if row.state == State.RUNNING:
        return "no text yet" if scene.live else NOT_RECORDED
    if row.state == State.CANCELLED:
        return "it was cancelled"
    return "it has not started"


def _wrong(scene: Scene, task: Subject, width: int) -> list[str | Line]:
    """The error of a task that failed or waits for its next try, and what to do."""
    row, record = task.row, task.last
    if row is None or row.state not in (State.FAILED, *PARKED):
        return []
    error = row.error or ""
    if record is not None and record.error is not None and record.state == row.state:
        error = error_text(record.error)
    if not error:
        return []
    advised = remedy(row.reason, error)
    again = ""
    if row.state in PARKED and row.resume_at is not None:
        again = f", tried again at {scene.clock(row.resume_at / 1000)}"
    lines: list[str | Line] = [
        line((f" {row.state} ({row.reason or 'failed'}){again}", f"state.{row.state}"))
    ]
    lines += [line((f"   {part}", "crit")) for part in wrap(error, width - 4)]
    lines.append(line((f" {advised.cause}", "warn")))
    lines += [line((f"   {part}", "warn")) for part in wrap(advised.advice, width - 4)]
    return lines


def _text(text: str, width: int, wrapped: bool) -> list[str]:
    more = len(text) - MOST
    text = text[:MOST]
    lines = wrap(text, width) if wrapped else display.safe(text).split("\n")
    if more > 0:
        lines.append(f"[{more:,} more characters: O shows and e exports all of it]")
    return lines if text else []


def prompt(scene: Scene, task: Subject, width: int, *, wrapped: bool) -> Sheet:
    """Its message: what it is asked and how."""
    if task.body is None:
        if task.problem:
            return [_dim(f"it cannot be read: {task.problem}")]
        return [_dim(GONE if task.read else "reading ...")]
    sheet: list[str | Line] = [
        line((f" {name:<13}", "dim"), value) for name, value in message_facts(task.body)
    ]
    for title, text in (("system", task.body.system), ("prompt", task.body.prompt)):
        if text:
            sheet.append(rule(title, width))
            sheet += _text(text, width, wrapped)
    return sheet


def message_facts(body: TaskBody) -> list[tuple[str, str]]:
    """The fields of a message that are no long text."""
    fields = []
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if value is None or name in ("prompt", "system"):
            continue
        if name == "labels":
            text = " ".join(f"{label}={each}" for label, each in value.items())
        elif isinstance(value, str):
            text = value
        else:
            text = msgspec.json.encode(value).decode().strip('"')
        fields.append((name, display.one_line(text)))
    return fields


def raw(task: Subject, width: int, *, wrapped: bool) -> Sheet:
    """The last record as JSON."""
    if task.last is None:
        return [_dim("no record: no worker has seen it yet" if task.read else "reading ...")]
    return _text(record_json(task.last), width, wrapped)


def record_json(record: Record) -> str:
    """A record as JSON that a terminal may show."""
    data = msgspec.json.format(records.encode(record), indent=2)
    return display.safe_json(data.decode())


def _dim(text: str) -> Line:
    return line((f" {text}", "dim"))
