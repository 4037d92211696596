"""The command palette: every key of the table that is valid here, found by its words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from agentflow.dashboard.reader import keys
from agentflow_tui.host import Host


class KeyCommands(Provider):
    """What Textual's palette asks for. Nothing in it comes from outside: no text needs care."""

    def _offers(self) -> list[tuple[str, str, Callable[[], None]]]:
        app = self.app
        if not isinstance(app, Host):
            return []
        offers: dict[tuple[str, str], tuple[str, str, Callable[[], None]]] = {}
        for key in keys.keys_of(app.dash.view, readonly=app.dash.readonly):
            # Of two keys for one thing the first is named.
            offers.setdefault(
                (key.command, key.argument),
                (key.title, keys.named(key.key), partial(app.press, key.key)),
            )
        return list(offers.values())

    async def discover(self) -> Hits:
        """All of them, before anything is typed."""
        for title, name, run in self._offers():
            yield DiscoveryHit(title, run, help=f"key {name}")

    async def search(self, query: str) -> Hits:
        """Those that have the letters typed."""
        matcher = self.matcher(query)
        for title, name, run in self._offers():
            score = matcher.match(title)
            if score > 0:
                yield Hit(score, matcher.highlight(title), run, help=f"key {name}")
