"""Claude Code that stays, driven by the claude-agent-sdk."""

from __future__ import annotations

import os
from pathlib import Path

from bench.compare import sizes
from bench.compare.rows.design import BUILT, INSTALL, ROOT, Design, Site, Size, worker

VENV = BUILT / "agent-sdk"


def _packages() -> Path | None:
    return next(VENV.glob("lib/python3*/site-packages"), None)


def _missing(_: str | None) -> str | None:
    packages = _packages()
    if packages is None or not (packages / "claude_agent_sdk").is_dir():
        return f"claude-agent-sdk is not installed: {INSTALL}"
    return None


def _size(_: str | None) -> Size | None:
    packages = _packages()
    ours = sizes.of_python("agentflow-nats", without=("anthropic",))
    if packages is None or ours is None:
        return None
    own = ours.own_mb + sizes.folder_mb(packages, without=("pip", "setuptools"))
    return Size(own, ours.interpreter_mb, "the worker; claude-agent-sdk with the CLI it brings")


def _versions(_: str | None) -> dict[str, str]:
    packages = _packages()
    if packages is None:
        return {}
    cli = packages / "claude_agent_sdk" / "_bundled" / "claude"
    return {
        **sizes.versions("claude-agent-sdk", path=str(packages)),
        "Claude Code": sizes.said(str(cli), "--version").split()[0],
    }


def _environment(site: Site) -> dict[str, str]:
    # Its own packages first, in the versions that it was installed with.
    return {"PYTHONPATH": f"{_packages()}{os.pathsep}{ROOT}"}


DESIGN = Design(
    name="agent-sdk",
    title="Claude Code that stays",
    text="ClaudeSDKClient of claude-agent-sdk within AgentFlow's worker: a CLI process a slot that "
    "lives on, and a conversation that grows with each task",
    kind="agent-sdk",
    command=lambda site, slots, processes: worker(
        site, slots, processes, "bench.workers.agent_sdk:app"
    ),
    environment=_environment,
    missing=_missing,
    versions=_versions,
    size=_size,
    runs_cli=True,
    stays=True,
)
