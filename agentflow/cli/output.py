"""What commands print: JSON lines for programs, plain text and tables for people.

Everything that came from elsewhere goes through views/display.py first.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from agentflow.views.display import columns, fit, one_line, safe, safe_json

SIMULATED: Final = "SIMULATED"

_COLOURS: Final = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "retrying": "yellow",
    "lost": "red",
}


def coloured(stream: Any = None) -> bool:
    """Whether colours may be used."""
    stream = stream or sys.stdout
    return bool(stream and stream.isatty()) and not os.environ.get("NO_COLOR")


def show(text: str = "") -> None:
    """Print for people."""
    click.echo(safe(text))


def show_styled(text: str) -> None:
    """Print what is safe already, colours included."""
    click.echo(text)


def show_raw(text: str) -> None:
    """Print a part of a text as it comes, without a line break."""
    click.echo(safe(text), nl=False)
    sys.stdout.flush()


def warn(text: str) -> None:
    """Say something beside the output."""
    click.echo(f"agentflow: {safe(text)}", err=True)


def note(text: str) -> None:
    """Say something beside the output that is no warning."""
    click.echo(safe(text), err=True)


def show_json(value: Any) -> None:
    """Print a JSON line."""
    click.echo(safe_json(msgspec.json.encode(value).decode()))


def heading(text: str) -> str:
    """A table's heading or a field's name."""
    return click.style(text, bold=True) if coloured() else text


def state_text(text: str) -> str:
    """A state in its colour."""
    colour = _COLOURS.get(text.split(" ")[0])
    return click.style(text, fg=colour) if colour and coloured() else text


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, state: int = -1) -> None:
    """Print aligned columns; the last one is cut to what the terminal has left.

    `state` is the column to colour.
    """
    clean = [[one_line(cell) for cell in row] for row in rows]
    widths = [
        max(columns(name), *(columns(row[at]) for row in clean)) if clean else columns(name)
        for at, name in enumerate(headings)
    ]
    terminal = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 0
    if terminal:
        used = sum(widths[:-1]) + 2 * (len(widths) - 1)
        widths[-1] = min(widths[-1], max(10, terminal - used))
    click.echo(heading(_row(headings, widths)))
    for row in clean:
        cells = [fit(cell, width) for cell, width in zip(row, widths, strict=True)]
        shown = _row(cells, widths)
        if state >= 0 and coloured():
            start = sum(widths[:state]) + 2 * state
            width = len(cells[state])
            # Only the coloured column is looked for; those before it hold ids and counts.
            at = shown.find(cells[state], max(0, start - 8))
            shown = shown[:at] + state_text(cells[state]) + shown[at + width :]
        click.echo(shown)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell + " " * (width - columns(cell)) for cell, width in zip(cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def fields(pairs: Iterable[tuple[str, str | None]]) -> None:
    """Print names and values, one a line; those without a value are left out."""
    present = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in present), default=0)
    for name, value in present:
        click.echo(f"{heading(name.ljust(width))}  {one_line(value)}")


def ago(instant: datetime | None) -> str:
    """How long ago, short."""
    return "" if instant is None else seconds((datetime.now(UTC) - instant).total_seconds())


def seconds(value: float | None) -> str:
    """A duration, short."""
    if value is None:
        return ""
    value = max(0.0, value)
    if value < 10:
        return f"{value:.1f}s"
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if value >= 2 * size:
            return f"{value / size:.0f}{unit}"
    return f"{value:.0f}s"


def money(dollars: float | None) -> str:
    """A cost; unknown is said."""
    if dollars is None:
        return "unknown"
    return f"${dollars:.2f}" if dollars >= 1 or dollars == 0 else f"${dollars:.6f}".rstrip("0")


def size(count: int | None) -> str:
    """Bytes, short."""
    return "" if count is None else f"{count / 1024 / 1024:.0f} MB"


def when(instant: datetime | None) -> str | None:
    """An instant in local time."""
    if instant is None:
        return None
    return instant.astimezone().strftime("%Y-%m-%d %H:%M:%S")
