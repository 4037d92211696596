"""`claude -p` for each task from a Python worker, with nothing round it."""

from __future__ import annotations

from bench.compare.rows import claude_cli
from bench.compare.rows.design import Design, cli_missing, worker

DESIGN = Design(
    name="claude-p",
    title="Python, claude -p per task",
    text="`claude -p PROMPT --output-format json` from a handler of AgentFlow's worker: one HOME "
    "for all, no workspace, no guard, the CLI's own default model",
    kind="claude-p",
    command=lambda site, slots, processes: worker(
        site, slots, processes, "bench.workers.claude_p:app"
    ),
    missing=cli_missing,
    versions=claude_cli.versions,
    size=claude_cli.size,
    runs_cli=True,
)
