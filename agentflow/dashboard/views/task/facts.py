"""What a task is and what it used, as names and values beside its texts."""

from __future__ import annotations

from typing import Final

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import count, money, percent, span
from agentflow.dashboard.render.lines import Line, cell, clip, line
from agentflow.dashboard.views.task.subject import Subject
from agentflow.protocol.record import State, Usage
from agentflow.views import query
from agentflow.views.row import Row, decode_labels

NAME: Final = 10

Fact = tuple[str, str, str]
"""Name, value and token."""


def facts(scene: Scene, task: Subject, width: int) -> list[Line]:
    """All of it, a fact a line."""
    row = task.row
    shown: list[Fact] = [("task", task.id, "bold")]
    if row is not None:
        shown += _what(scene, row)
        shown += _time(scene, row, task)
        shown += _used(scene, row, task)
        shown += _more(row, task)
    return [_drawn(fact, width) for fact in shown if fact[1]]


def _drawn(fact: Fact, width: int) -> Line:
    name, value, token = fact
    if token == "rule":
        return clip(line((f"{name} ", "dim"), ("─" * (width - len(name) - 1), "rule")), width)
    return clip(
        line((cell(name, NAME) + " ", "dim"), (cell(value, width - NAME - 1), token)), width
    )


def _what(scene: Scene, row: Row) -> list[Fact]:
    lost = ""
    if scene.live and row.state == State.RUNNING and row.actor:
        actor = scene.store.actors.get(row.actor)
        if actor is None:
            lost = " (silent)"
        elif actor.lost(scene.store.heard_by(scene.now)):
            lost = f" (lost {span(actor.age(scene.now))})"
    return [
        ("state", f"{scene.glyph(row.state)} {row.state}", f"state.{row.state}"),
        ("reason", row.reason or "", "text"),
        ("kind", row.kind, "text"),
        ("queue", f"{row.queue} {row.priority}", "text"),
        ("model", row.model or "", "text"),
        ("worker", scene.store.name_of(row.actor) + lost if row.actor else "", "text"),
        ("attempt", str(row.attempt) if row.attempt else "", "text"),
        ("failures", str(row.failures) if row.failures else "", "warn"),
    ]


def _time(scene: Scene, row: Row, task: Subject) -> list[Fact]:
    first = task.last.timings.first_token_s if task.last is not None else None
    # What is gone by is no wait any more, so a clock that runs would mislead.
    waits = row.resume_at is not None and row.state in (State.SCHEDULED, State.RETRYING)
    return [
        ("time", "-", "rule"),
        ("submitted", scene.clock(row.submitted / 1000) if row.submitted else "", "text"),
        ("wait", _span(query.wait(row, scene.now)), "text"),
        ("started", scene.clock(row.started / 1000) if row.started else "", "text"),
        ("first tok", _span(first), "text"),
        ("run", _span(query.run(row, scene.now)), "text"),
        ("ended", scene.clock(row.updated / 1000) if row.finished else "", "text"),
        ("goes on", scene.clock((row.resume_at or 0) / 1000) if waits else "", "warn"),
    ]


def _span(seconds: float | None) -> str:
    return "" if seconds is None else span(seconds)


def _used(scene: Scene, row: Row, task: Subject) -> list[Fact]:
    usage: Usage = row.usage
    whole = usage.total - usage.output_tokens
    cached = usage.cache_read_input_tokens
    out = usage.output_tokens
    if task.text is not None and row.state == State.RUNNING and task.text.counted:
        out += task.text.counted
    cost = money(row.cost) if row.cost is not None else "no price known"
    return [
        ("tokens", "-", "rule"),
        ("in", count(whole) if whole else "", "text"),
        ("cached", f"{count(cached)}  {percent(cached, whole)}" if cached else "", "text"),
        (
            "written",
            count(usage.cache_creation_input_tokens) if usage.cache_creation_input_tokens else "",
            "text",
        ),
        ("out", count(out) if out else "", "text"),
        ("cost", cost if row.cost or row.cost is None or row.finished else "", "bold"),
        ("ended by", row.stop_reason or "", "text"),
        ("answers", "SIMULATED" if row.simulated else "", "warn"),
    ]


def _more(row: Row, task: Subject) -> list[Fact]:
    labels = decode_labels(row.labels) if row.labels else {}
    shown: list[Fact] = [("labels", "-", "rule")] if labels else []
    shown += [(name, value, "text") for name, value in labels.items()]
    request = task.last.request_id if task.last is not None else None
    shown.append(("known as", "-", "rule"))
    shown += [
        ("sequence", count(row.sequence) if row.sequence else "", "text"),
        ("message", row.message or (task.last.message if task.last else ""), "text"),
        ("request", request or "", "text"),
        ("group", row.fingerprint, "text"),
    ]
    return shown
