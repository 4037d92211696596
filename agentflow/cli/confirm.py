"""Ask a person before something is done to many tasks."""

from __future__ import annotations

import sys
from typing import Final

import click

from agentflow.errors import UsageError

UNASKED: Final = 100
"""Up to so many tasks nobody is asked."""


def confirm(count: int, what: str, yes: bool, *, unasked: int = UNASKED) -> None:
    """Go on only where that is wanted. Raises UsageError, click.Abort.

    `what` is the sentence that says what will be done to how many; up to `unasked` of them nobody
    is asked, which is none for what cannot be undone.
    """
    if yes or count <= unasked:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what}; nothing was done, say --yes to go on")
    # On stderr: stdout may be read by a program.
    click.confirm(f"{what}. Go on?", abort=True, err=True)


def counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
