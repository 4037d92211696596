"""What the dashboard is started with."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agentflow.config import Connect


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """From the command line.

    `replay` plays a recording instead of a live feed, at `speed` times its own pace; `record` keeps
    one. `theme` "" is the terminal's own choice. `utc` has times in UTC. `simulated` says that
    the whole stack is a demonstration. `newest` bounds how many messages of a stream are read.
    """

    connect: Connect
    view: str = "overview"
    readonly: bool = False
    record: Path | None = None
    replay: Path | None = None
    speed: float = 1.0
    theme: str = ""
    ascii: bool = False
    utc: bool = False
    simulated: bool = False
    newest: int = 300_000
