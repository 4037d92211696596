"""Whose results a file holds: those of this job alone, or the job does not touch it."""

from __future__ import annotations

from agentflow.errors import UsageError
from agentflow.job.ledger import Results
from agentflow.job.source import Item
from agentflow.job.spec import JobSpec, Tasks
from agentflow.rules.routes.models import undated
from agentflow.views.ledger import Line

_NAMED = 5
"""Lines that are named; a file has either a few foreign ones or nothing else."""


def check(results: Results, items: Tasks, spec: JobSpec) -> None:
    """Raise UsageError for results of other lines, of changed ones or of another model."""
    foreign = set(results.ids())
    changed: list[str] = []
    for item in items:
        if item.id not in foreign:
            continue
        foreign.remove(item.id)
        line = results.get(item.id)
        if line is not None and line.request and line.request != item.request:
            changed.append(_changed(line, item))
    if changed:
        raise UsageError(
            f"{spec.results} holds results of other requests under the same ids:\n"
            + _listed(changed)
            + "\nOne id is one request: give these lines other ids, or leave them out."
        )
    if foreign and spec.replace:
        asked = {item.request for item in items}
        foreign = {name for name in foreign if not _is_of(results.get(name), asked)}
    if foreign and not spec.append:
        raise UsageError(
            f"{spec.results} holds {len(foreign)} result{'s' if len(foreign) > 1 else ''} "
            "of other requests than these:\n"
            + _listed(_foreign(results, items, foreign))
            + "\nName another file with -o, or keep them beside the new ones with --append."
        )


def _is_of(line: Line | None, requests: set[str]) -> bool:
    return line is not None and line.request in requests


def _foreign(results: Results, items: Tasks, foreign: set[str]) -> list[str]:
    lines = [line for name in foreign if (line := results.get(name)) is not None]
    lines = sorted(lines, key=lambda line: line.line)[: _NAMED + 1]
    there = {line.line: line for line in lines}
    now = {item.line: item for item in items if item.line in there}
    return [
        _changed(line, now[line.line])
        if line.line in now
        else f"line {line.line}, task {line.id}: the input has no such line"
        for line in lines
    ]


def _changed(line: Line, item: Item) -> str:
    wanted = item.body.model or (item.body.params or {}).get("model")
    where = f"line {line.line}, task {line.id}"
    if isinstance(wanted, str) and line.model and undated(line.model) != undated(wanted):
        return f"{where}: of model {line.model}, now {wanted} is asked"
    return f"{where}: its text, model or parameters have changed since"


def _listed(sentences: list[str]) -> str:
    more = "\n  ..." if len(sentences) > _NAMED else ""
    return "\n".join(f"  {sentence}" for sentence in sentences[:_NAMED]) + more
