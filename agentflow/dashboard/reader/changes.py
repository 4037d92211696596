"""Which rows have changed since a view looked at them last, whichever store it looks at."""

from __future__ import annotations

from agentflow.dashboard.store.store import Store


class Changes:
    """One view's watch over the store that it shows."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        """Ids of changed rows; whoever has looked at them empties it."""
        self._store: Store | None = None

    def watch(self, store: Store) -> bool:
        """Watch this store from now on; True where it is another one, of which all is new."""
        if store is self._store:
            return False
        self.close()
        self._store, self.ids = store, store.watch()
        return True

    def close(self) -> None:
        """Watch no more."""
        if self._store is not None:
            self._store.unwatch(self.ids)
            self._store = None
