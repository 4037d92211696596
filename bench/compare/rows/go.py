"""A Go worker that executes the CLI for each task: the design the document argues against."""

from __future__ import annotations

import shutil

from bench.compare import sizes
from bench.compare.rows.design import (
    BUILT,
    INSTALL,
    QUEUE,
    WORKERS,
    Design,
    Size,
    cli_missing,
    program,
)

BINARY = BUILT / "go" / "worker"


def _missing(cli: str | None) -> str | None:
    if program(BINARY) is None:
        return f"it is not built: {INSTALL}" if shutil.which("go") else "go is not installed"
    source = WORKERS / "go" / "main.go"
    if BINARY.stat().st_mtime < source.stat().st_mtime:
        return f"the program is older than its source: {INSTALL}"
    return cli_missing(cli)


def _size(cli: str | None) -> Size | None:
    if cli is None or program(BINARY) is None:
        return None
    return Size(sizes.file_mb(BINARY) + sizes.file_mb(cli), 0.0, "the Go binary; the CLI")


def _versions(cli: str | None) -> dict[str, str]:
    cli_version = {"Claude Code": sizes.said(cli, "--version").split()[0]} if cli else {}
    return {"go": sizes.said("go", "env", "GOVERSION"), **cli_version}


DESIGN = Design(
    name="go",
    title="Go, claude -p per task",
    text="a Go program that takes the same tasks over NATS and runs `claude -p` for each",
    kind="claude-p",
    command=lambda site, slots, processes: [str(BINARY), QUEUE, str(slots)],
    missing=_missing,
    versions=_versions,
    size=_size,
    runs_cli=True,
)
