"""The dashboard's views as typed rows and cells, made once for all who look at the same.

A picture is a view with what somebody chose of it: a filter, an order, a part of the rows. Whoever
looks gets it whole at first (`snapshot`) and then what has changed (`patch`), once a second at
most. Fifty pages that show the same cost the making of one; one that nobody looks at costs nothing.

    snapshot   {"view": ..., "head": {...}, "document": {...}, "grid": {...}}
    patch      the same, with only those fields of head and document that changed; of the grid
               `rows` has those that changed, and `order` the keys of all where that changed
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from agentflow.client import Client
from agentflow.dashboard.feed.answers import Answering
from agentflow.dashboard.reader import query
from agentflow.dashboard.reader.effects import Fetch
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.cells import Grid, GridRow
from agentflow.dashboard.rows import documents
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.dashboard.store.store import Store
from agentflow.dashboard.store.totals import series
from agentflow.dashboard.views.costs import PERIODS
from agentflow.errors import NotConnected, UsageError

_log = logging.getLogger(__name__)

VIEWS: Final = ("overview", "tasks", "workers", "queues", "costs", "dead", "events")
EVERY: Final = 1.0
"""Seconds between two makings of a picture."""
LOOK_EVERY: Final = 0.1
ROWS_MOST: Final = 1000
BEHIND: Final = 64
"""Pieces that may wait for a viewer; then it gets a new snapshot instead."""
WIDE, TALL = 240, 60
"""A size at which every table is drawn."""
BARE: Final = frozenset({"tasks"})
"""Views whose document is a part of their table."""
_HEAD: Final = frozenset(documents.Document.__struct_fields__)

_encoder = msgspec.json.Encoder()


class World(Protocol):
    """What pictures are made of."""

    @property
    def store(self) -> Store:
        """The followed store."""

    @property
    def client(self) -> Client:
        """The client. Raises NotConnected."""

    @property
    def now(self) -> float:
        """Seconds since 1970, by the server's clock."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to see: `q` filters, `sort` is a column's key (`-` before it turns it
    round), `first` and `number` are the rows of the table.

    `by` groups: tasks by a field or `label NAME`, costs too, dead letters `one` by one; `inside` is
    one cause of dead letters, `period` of costs hour, day, week or all.
    """

    view: str
    q: str = ""
    sort: str = ""
    first: int = 0
    number: int = 100
    by: str = ""
    inside: str = ""
    period: str = ""


class Charts(msgspec.Struct, frozen=True, kw_only=True):
    """Series, the newest last: ends and failures in each ten seconds of the last ten minutes, and
    of the last hour's minutes tokens in and out and US dollars.
    """

    done: list[int]
    failed: list[int]
    tokens_in: list[int]
    tokens_out: list[int]
    cost_usd: list[float]


class Viewer:
    """Somebody who looks at a picture: pieces wait for it as (event, data)."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._ready = asyncio.Event()

    def put(self, piece: bytes, whole: Callable[[], bytes]) -> None:
        """Add a piece; one who is far behind gets the whole picture instead of what it missed."""
        if len(self._pieces) >= BEHIND:
            self._pieces = [whole()]
        else:
            self._pieces.append(piece)
        self._ready.set()

    async def next(self, timeout: float) -> bytes | None:
        """What waits, None where nothing came in time."""
        if not self._pieces:
            self._ready.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._ready.wait()
            except TimeoutError:
                return None
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class Picture:
    """One choice of a view, and who looks at it."""

    def __init__(self, world: World, choice: Choice) -> None:
        self.choice = choice
        self.viewers: set[Viewer] = set()
        self._world = world
        self._dash = Dashboard(store=world.store, readonly=True, view=choice.view)
        self._head: dict[str, Any] = {}
        self._document: dict[str, Any] = {}
        self._grid: Grid | None = None
        self._fetching: set[asyncio.Task[None]] = set()
        self._answering: Answering | None = None
        self.made = 0.0
        self.revision = -1
        _choose(self._dash, choice, world.now)

    @property
    def due(self) -> bool:
        """Whether it is time to make it again."""
        return time.monotonic() - self.made >= EVERY

    def close(self) -> None:
        """Nobody looks any more."""
        for task in self._fetching:
            task.cancel()
        self._dash.close()

    def make(self) -> None:
        """Make it anew, and give all who look what has changed."""
        scene = self._scene()
        before = (self._head, self._document, self._grid)
        self._take(scene)
        if not before[0] or not self.viewers:
            return
        patch = {
            "head": _changed(before[0], self._head),
            "document": _changed(before[1], self._document),
            "grid": _grid_patch(before[2], self._grid),
        }
        told = {name: part for name, part in patch.items() if part}
        if told:
            piece = sse("patch", told)
            for viewer in self.viewers:
                viewer.put(piece, lambda: sse("snapshot", self.snapshot()))

    def snapshot(self) -> dict[str, Any]:
        """All of it."""
        if not self._head:
            self._take(self._scene())
        return {
            "view": self.choice.view,
            "head": self._head,
            "document": self._document,
            "grid": self._grid,
        }

    def _scene(self) -> Scene:
        now = self._world.now
        for effect in self._dash.wanted(now):
            if isinstance(effect, Fetch):
                self._fetch(effect)
        return self._dash.scene(now)

    def _take(self, scene: Scene) -> None:
        self.made, self.revision = time.monotonic(), scene.store.revision
        choice, view = self.choice, self._dash.here
        view.body(scene, WIDE, TALL)  # brings its table up to date
        table = view.table
        if table is not None and choice.view != "events":
            self._grid = table.grid(scene, choice.first, choice.number)
        self._head = documents.head(scene)
        self._document = _document(choice.view, scene)

    def _fetch(self, effect: Fetch) -> None:
        try:
            client = self._world.client
        except NotConnected:
            return
        if self._answering is None:
            self._answering = Answering(client, self._dash, lambda: self._world.now)
        task = asyncio.get_running_loop().create_task(
            self._answering.fetch(effect), name=f"reads {effect.what}"
        )
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)


class Pictures:
    """The pictures that somebody looks at."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: dict[Choice, Picture] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def look(self, choice: Choice, viewer: Viewer) -> dict[str, Any]:
        """Look at a picture from now on; returns it as it is. Raises UsageError."""
        picture = self._open.get(choice)
        if picture is None:
            picture = Picture(self._world, choice)
        snapshot = picture.snapshot()
        self._open[choice] = picture
        picture.viewers.add(viewer)
        self._wake.set()
        return snapshot

    def leave(self, choice: Choice, viewer: Viewer) -> None:
        """Look no more."""
        picture = self._open.get(choice)
        if picture is not None:
            picture.viewers.discard(viewer)
            if not picture.viewers:
                del self._open[choice]
                picture.close()

    async def run(self) -> None:
        """Make the pictures anew until cancelled."""
        while True:
            if not self._open:
                self._wake.clear()
                await self._wake.wait()
            for picture in list(self._open.values()):
                if picture.due and picture.viewers:
                    try:
                        picture.make()
                    except Exception:
                        _log.exception("the view %s failed", picture.choice.view)
                        picture.made = time.monotonic()
                    await asyncio.sleep(0)
            await asyncio.sleep(LOOK_EVERY)


def sse(event: str, data: Any) -> bytes:
    """A server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), _encoder.encode(data))


def checked(choice: Choice) -> Choice:
    """The choice, within its bounds. Raises UsageError naming what to correct."""
    if choice.view not in VIEWS:
        raise UsageError(f"there is no view {choice.view[:40]!r}; there are {', '.join(VIEWS)}")
    if choice.view == "tasks":
        try:
            query.parse(choice.q)
        except query.QueryError as error:
            raise UsageError(f"q: {error}") from None
    if choice.period and choice.period not in PERIODS:
        raise UsageError(f"period is one of {', '.join(PERIODS)}")
    return msgspec.structs.replace(
        choice, first=max(0, choice.first), number=min(max(0, choice.number), ROWS_MOST)
    )


def _choose(dash: Dashboard, choice: Choice, now: float) -> None:
    view = dash.here
    if choice.by:
        match choice.view:
            case "tasks":
                dash.do("group", choice.by, now)
            case "costs":
                view.by = choice.by  # type: ignore[attr-defined]  # it is that view
            case "dead":
                view.flat = choice.by == "one"  # type: ignore[attr-defined]
    if choice.inside and choice.view == "dead":
        view.inside = choice.inside  # type: ignore[attr-defined]
    if choice.period and choice.view == "costs":
        view.period = choice.period  # type: ignore[attr-defined]
    if choice.q:
        dash.do("filter_set", choice.q, now)
    table = view.table
    if table is not None and choice.sort:
        key = choice.sort.removeprefix("-")
        if not any(each.key == key and each.sort is not None for each in table.columns):
            known = ", ".join(each.key for each in table.columns if each.sort is not None)
            raise UsageError(f"there is no column {key[:40]!r} to sort by; there are {known}")
        table.sort, table.reverse = key, choice.sort.startswith("-")
        table.invalidate()


def _document(view: str, scene: Scene) -> dict[str, Any]:
    if view in BARE:
        return {}
    written = documents.document(view, scene)
    document = {
        name: getattr(written, name) for name in written.__struct_fields__ if name not in _HEAD
    }
    if view == "overview":
        document["charts"] = charts(scene)
    return document


def charts(scene: Scene) -> Charts:
    """What the overview draws."""
    totals, now = scene.store.totals, int(scene.now)
    minutes = totals.minutes(now // 60 - 1, 60)
    return Charts(
        done=series(totals.ends, now, 60, 10),
        failed=series(totals.failures, now, 60, 10),
        tokens_in=[spend.all_input for spend in minutes],
        tokens_out=[spend.output for spend in minutes],
        cost_usd=[spend.cost / 1e6 for spend in minutes],
    )


def _changed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in now.items() if before.get(name) != value}


def _grid_patch(before: Grid | None, now: Grid | None) -> dict[str, Any]:
    """What of a table changed; `order` where other rows are there, or in another order."""
    if before is None or now is None:
        return {} if now is None else msgspec.structs.asdict(now)
    patch: dict[str, Any] = {
        name: value
        for name in ("headings", "first", "total", "sort", "reverse")
        if (value := getattr(now, name)) != getattr(before, name)
    }
    old: dict[str, GridRow] = {row.key: row for row in before.rows}
    rows = [row for row in now.rows if old.get(row.key) != row]
    if rows:
        patch["rows"] = rows
    order = [row.key for row in now.rows]
    if order != [row.key for row in before.rows]:
        patch["order"] = order
    return patch
