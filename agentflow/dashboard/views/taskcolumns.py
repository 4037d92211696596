"""What a table says of a task, a column each; views choose which of them they show."""

from __future__ import annotations

from typing import Final

from agentflow.dashboard.reader.column import Column
from agentflow.dashboard.reader.scene import GLYPHS, Scene
from agentflow.dashboard.render.amounts import bar, money, short, span
from agentflow.protocol.record import State
from agentflow.views import query
from agentflow.views.row import Row, decode_labels

_RANKS: Final = {
    state: rank << 44
    for rank, state in enumerate(
        (
            *("running", "retrying", "queued", "scheduled", "waiting"),
            *("failed", "cancelled", "succeeded"),
        )
    )
}
_UNKNOWN: Final = 8 << 44
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
    if row.by:
        return f"{'dropped' if row.dropped else 'cancelled'} by {row.by}"
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
    Column(
        "title",
        "TITLE",
        18,
        lambda row, scene: row.title,
        lambda row: row.title,
        drop=2,
        grows=True,
        most=48,
    ),
    Column("last", "LAST", 20, _last, token=_last_token, drop=3, grows=True),
)


def columns(*keys: str) -> list[Column[Row]]:
    """These columns of a table of tasks, in the order in which all of them stand."""
    return [column for column in COLUMNS if column.key in keys]
