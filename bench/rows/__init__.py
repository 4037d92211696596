"""The designs that are compared, one file each, in the order of the tables."""

from __future__ import annotations

from typing import Final

from bench.rows import agent_sdk, alone, claude_cli, claude_p, go, node, raw_http, sdk
from bench.rows.design import Design

DESIGNS: Final[tuple[Design, ...]] = (
    alone.DESIGN,
    raw_http.DESIGN,
    sdk.DESIGN,
    node.DESIGN,
    agent_sdk.DESIGN,
    claude_cli.DESIGN,
    claude_cli.LEAN,
    claude_p.DESIGN,
    go.DESIGN,
)

BY_NAME: Final = {design.name: design for design in DESIGNS}
