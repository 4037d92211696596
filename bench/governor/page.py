"""The table of docs/limits.md, from the result of `bench governor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from bench.instruments import pages

PAGE: Final = Path(__file__).parents[2] / "docs" / "limits.md"
COMMAND: Final = "python -m bench governor --page"


def refresh(result: Path) -> None:
    """Write the measured part of the page anew. Raises ValueError without its marks."""
    found = json.loads(result.read_text())
    PAGE.write_text(pages.filled(PAGE.read_text(), COMMAND, table(found)))


def table(found: dict[str, Any]) -> str:
    """The words and the rows."""
    lines = [
        pages.machine(found["machine"], 1),
        f"Each row is {found['seconds']:g} s after a ramp of {found['ramp_s']:g} s, simulated.",
        "",
        "| limit, bucket; workers x slots; at first | used | 429 | closures only: used | 429 |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in found["rows"]:
        ours, closed = row["governor"], row.get("closed")
        cells = [row["shape"], _share(ours["utilisation"], 1), _share(ours["refused"], 2)]
        cells += (
            [_share(closed["utilisation"], 1), _share(closed["refused"], 1)] if closed else ["", ""]
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(value: float, digits: int) -> str:
    return f"{value * 100:.{digits}f} %"
