"""One picture for scripts: `agentflow tui --once`. No terminal, no terminal library."""

from __future__ import annotations

from datetime import UTC
from typing import Literal

from agentflow.dashboard.rows import documents
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.dashboard.screen.picture import picture
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
    travelled: Store | None = None,
    travelled_to: float = 0.0,
    utc: bool = False,
) -> str:
    """A view of what is known, as text of at most this size, or whole as JSON.

    `travelled` is what was known at another time, which the picture is of.
    """
    # A snapshot listens for as long as everybody who lives needs to say so.
    store.linked_at = 0.0
    dash = Dashboard(store=store, readonly=True, ascii=ascii, view=view, zone=UTC if utc else None)
    dash.travelled, dash.travelled_to = travelled, travelled_to
    if format == "json":
        return documents.encode(documents.document(view, dash.scene(now)))
    return picture(dash, width, height, now)
