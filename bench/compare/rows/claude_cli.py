"""AgentFlow's kind `claude-cli`: a whole Claude Code for each task, in a folder of its own."""

from __future__ import annotations

from bench.compare import sizes
from bench.compare.rows.design import Design, Site, Size, cli_missing, worker


def size(cli: str | None) -> Size | None:
    """The worker, without the SDK that it does not import, and the CLI."""
    ours = sizes.of_python("agentflow-nats", without=("anthropic",))
    if cli is None or ours is None:
        return None
    return Size(ours.own_mb + sizes.file_mb(cli), ours.interpreter_mb, "the worker; the CLI")


def versions(cli: str | None) -> dict[str, str]:
    """Of the CLI."""
    return {"Claude Code": sizes.said(cli, "--version").split()[0]} if cli else {}


def _command(site: Site, slots: int, processes: int) -> list[str]:
    return worker(site, slots, processes, "--kinds", "claude-cli")


DESIGN = Design(
    name="claude-cli",
    title="AgentFlow, CLI per task",
    text="AgentFlow's kind `claude-cli` as it is: a Claude Code a task, with a HOME and a folder "
    "of its own, and a guard that ends what it leaves behind",
    kind="claude-cli",
    command=_command,
    missing=cli_missing,
    versions=versions,
    size=size,
    runs_cli=True,
)

LEAN = Design(
    name="claude-cli-lean",
    title="AgentFlow, CLI --bare per task",
    text="kind `claude-cli` with `bare` and without tools: the least that a run of the CLI can be",
    kind="claude-cli",
    params={"bare": True, "tools": []},
    command=_command,
    missing=cli_missing,
    versions=versions,
    size=size,
    runs_cli=True,
    alternative=True,
)
