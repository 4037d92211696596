"""The log of a task, a record a line: what happened when, what it cost, and why it went on so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentflow.dashboard.reader.remedies import remedy
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import money, short, span
from agentflow.dashboard.render.lines import Line, Run, cell, clip, line, rule, wrap
from agentflow.dashboard.views.task.subject import Entry
from agentflow.protocol.record import PARKED, Failure, Record, State
from agentflow.rules.records import micro
from agentflow.views import display

INDENT: Final = "     "
INLINE: Final = 24
"""Columns that what a record says must have to stand in its own line."""

_HEADINGS: Final = (
    ("SEQUENCE", 10, True),
    ("TIME", 8, False),
    ("AFTER", 5, True),
    ("STATE", 11, False),
    ("FAIL", 4, True),
    ("WORKER", 10, False),
    ("TOKENS", 7, True),
    ("COST", 8, True),
)


def history(scene: Scene, log: Sequence[Entry], width: int) -> list[Line]:
    """The records, each attempt under its own heading."""
    if not log:
        return [clip(line((" no record: no worker has seen it yet", "dim")), width)]
    cells = [cell(title, room, right) for title, room, right in _HEADINGS]
    lines = [clip(line((" " + " ".join(cells) + "  WHAT", "heading")), width)]
    before: Record | None = None
    if log[0][1].follows:
        lines.append(clip(line((INDENT + "earlier records are no longer kept", "dim")), width))
    for sequence, record in log:
        if record.state == State.RUNNING and (before is None or record.attempt != before.attempt):
            name = scene.store.name_of(record.actor)
            lines.append(rule(f"attempt {record.attempt}", width, name))
        lines += _record(scene, sequence, record, before, width, last=sequence == log[-1][0])
        before = record
    return lines


def _record(
    scene: Scene, sequence: int, record: Record, before: Record | None, width: int, *, last: bool
) -> list[Line]:
    tokens, cost = _step(record, before)
    values = (
        f"{sequence:,}",
        scene.clock(record.time.timestamp()),
        span(_after(record, before)),
        f"{scene.glyph(record.state)} {record.state}",
        str(record.failures) if record.failures else "",
        scene.store.name_of(record.actor),
        tokens,
        cost,
    )
    runs: list[Run] = [(" ", "text")]
    for (title, room, right), value in zip(_HEADINGS, values, strict=True):
        token = f"state.{record.state}" if title == "STATE" else "text"
        runs.append((cell(value, room, right) + " ", token))
    says, more = _says(scene, record), []
    used = sum(display.columns(text) for text, _ in runs)
    if says and display.columns(says) <= width - used - 1:
        runs.append((f" {says}", "dim"))
    elif says and width - used > INLINE and record.error is None:
        runs.append((f" {display.one_line(says, width - used - 1)}", "dim"))
    elif says:
        more = _indented(says, width, "dim")
    lines = [clip(line(*runs), width), *more]
    if record.error is not None:
        lines += _indented(error_text(record.error), width, "crit" if last else "dim")
        if last:
            lines += _indented(_remedy(record), width, "warn")
    return lines


def _step(record: Record, before: Record | None) -> tuple[str, str]:
    """Tokens and money since the record before; the sums of a record whose one is gone: `Σ`."""
    known = before is not None or not record.follows
    tokens = record.usage.total - (before.usage.total if before else 0)
    text = f"{'' if known else 'Σ'}{short(tokens)}" if tokens else ""
    if record.cost_usd is None:
        return text, "unknown" if tokens else ""
    spent = micro(record.cost_usd)
    if before is not None and before.cost_usd is not None:
        spent -= micro(before.cost_usd)
    return text, f"{'' if known else 'Σ'}{money(spent)}" if spent else ""


def _after(record: Record, before: Record | None) -> float | None:
    """Seconds since the record before; of the first one since the submission."""
    if before is not None:
        return (record.time - before.time).total_seconds()
    if record.follows or record.timings.submitted is None:
        return None
    return (record.time - record.timings.submitted).total_seconds()


def _says(scene: Scene, record: Record) -> str:
    """What a record says besides its state."""
    parts = []
    if record.reason:
        parts.append(record.reason)
    if record.state in PARKED and record.resume_at is not None:
        parts.append(f"until {scene.clock(record.resume_at.timestamp())}")
    if record.progress is not None:
        parts.append(f"{100 * record.progress:.0f}%")
    if record.note:
        parts.append(record.note)
    if record.stop_reason:
        parts.append(f"stopped: {record.stop_reason}")
    if record.truncated:
        parts.append("text cut to fit")
    if record.request_id and record.state != State.RUNNING:
        parts.append(record.request_id)
    if not record.readable:
        parts.append(f"of a later version ({record.v})")
    return display.one_line(", ".join(parts))


def error_text(error: Failure) -> str:
    """An error with all that is known of it."""
    facts = [
        f"status {error.status}" if error.status is not None else "",
        error.code or "",
        error.request_id or "",
    ]
    known = ", ".join(fact for fact in facts if fact)
    return f"{error.type}{f' ({known})' if known else ''}: {error.message}"


def _remedy(record: Record) -> str:
    assert record.error is not None
    advised = remedy(record.reason, error_text(record.error))
    return f"{advised.cause}: {advised.advice}"


def _indented(text: str, width: int, token: str) -> list[Line]:
    return [
        clip(line((INDENT + part, token)), width) for part in wrap(text, width - len(INDENT) - 1)
    ]


__all__ = ["error_text", "history"]
