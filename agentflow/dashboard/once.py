"""One picture for scripts: `agentflow tui --once`. No terminal, no terminal library."""

from __future__ import annotations

from typing import Literal

from agentflow.dashboard.reader.dashboard import Dashboard
from agentflow.dashboard.render import json, text
from agentflow.dashboard.store.store import Store


def render(
    store: Store,
    *,
    view: str,
    format: Literal["text", "json"] = "text",
    width: int = 120,
    height: int = 36,
    ascii: bool = False,
    now: float,
) -> str:
    """A view of what is known, as text of at most this size, or whole as JSON."""
    # A snapshot listens for as long as everybody who lives needs to say so.
    store.linked_at = 0.0
    dash = Dashboard(store=store, readonly=True, ascii=ascii, view=view)
    if format == "json":
        return json.data(dash, now)
    return text.picture(dash, width, height, now)
