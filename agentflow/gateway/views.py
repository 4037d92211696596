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
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol

import msgspec

from agentflow.client import Client
from agentflow.dashboard.feed.answers import Answering
from agentflow.dashboard.reader.effects import Fetch
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.cells import Grid, GridRow
from agentflow.dashboard.rows import documents
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.dashboard.store.store import Store
from agentflow.dashboard.store.totals import series
from agentflow.dashboard.views.costs import PERIODS
from agentflow.errors import NotConnected, UsageError
from agentflow.views import query

_log = logging.getLogger(__name__)

DASHBOARD: Final = ("overview", "tasks", "workers", "queues", "costs", "dead", "events")
READ: Final = ("jobs", "limits", "budgets")
"""Views of what no record tells; it is read while somebody looks (listings.py)."""
VIEWS: Final = (*DASHBOARD, *READ)
EVERY: Final = 1.0
"""Seconds between two makings of a picture."""
LOOK_EVERY: Final = 0.1
KEPT: Final = 10.0
"""Seconds for which an order is kept that nobody looks at: whoever scrolls comes back to it."""
BOARDS: Final = 32
"""Orders above which none is kept that nobody looks at."""
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
    one cause of dead letters, `period` of costs minute, hour, day or all. `fields` are those of the
    document that are wanted, with commas between; none named: all.
    """

    view: str
    q: str = ""
    sort: str = ""
    first: int = 0
    number: int = 100
    by: str = ""
    inside: str = ""
    period: str = ""
    fields: str = ""


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


class Board:
    """A dashboard that pictures share which show other rows of the same order."""

    def __init__(self, world: World, choice: Choice) -> None:
        self.choice = choice
        drawn = choice.view if choice.view in DASHBOARD else "overview"
        self.dash = Dashboard(store=world.store, readonly=True, view=drawn)
        self.pictures = 0
        self.left = 0.0
        """When the last picture was given up."""
        self._world = world
        self._reading: set[asyncio.Task[None]] = set()
        self._answering: Answering | None = None
        try:
            if drawn == choice.view:
                _choose(self.dash, choice, world.now)
        except UsageError:
            self.dash.close()
            raise

    def close(self) -> None:
        """Nobody looks any more."""
        for task in self._reading:
            task.cancel()
        self.dash.close()

    def scene(self) -> Scene:
        """What is to be drawn; what is lacking for it is being read."""
        now = self._world.now
        for effect in self.dash.wanted(now):
            if isinstance(effect, Fetch):
                self._fetch(effect)
        if self.choice.inside and self.choice.view == "dead":
            # A cause that was not known yet may be now.
            self.dash.here.inside = self.choice.inside  # type: ignore[attr-defined]
        return self.dash.scene(now)

    def _fetch(self, effect: Fetch) -> None:
        try:
            client = self._world.client
        except NotConnected:
            return
        if self._answering is None:
            self._answering = Answering(client, self.dash, lambda: self._world.now)
        self.read(self._answering.fetch(effect), effect.what)

    def read(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Begin to read something; it ends with the board."""
        task = asyncio.get_running_loop().create_task(work, name=f"reads {what}")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)


class Picture:
    """One choice of a view, and who looks at it."""

    every = EVERY

    def __init__(self, world: World, choice: Choice, board: Board) -> None:
        self.choice = choice
        self.viewers: set[Viewer] = set()
        self._world = world
        self._board = board
        board.pictures += 1
        self._head: dict[str, Any] = {}
        self._document: dict[str, Any] = {}
        self._grid: Grid | None = None
        self.made = 0.0
        self.revision = -1

    @property
    def due(self) -> bool:
        """Whether it is time to make it again."""
        return time.monotonic() - self.made >= self.every

    def close(self) -> None:
        """Nobody looks any more."""
        self._board.pictures -= 1
        self._board.left = time.monotonic()

    def make(self) -> None:
        """Make it anew, and give all who look what has changed."""
        scene = self._board.scene()
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
            self._take(self._board.scene())
        return {
            "view": self.choice.view,
            "head": self._head,
            "document": self._document,
            "grid": self._grid,
        }

    def _take(self, scene: Scene) -> None:
        self.made, self.revision = time.monotonic(), scene.store.revision
        choice, view = self.choice, self._board.dash.here
        view.body(scene, WIDE, TALL)  # brings its table up to date
        table = view.table
        if table is not None and choice.view != "events":
            self._grid = table.grid(scene, choice.first, choice.number)
        self._head = documents.head(scene)
        self._document = _chosen(_document(choice.view, scene), choice.fields)


class Pictures:
    """The pictures that somebody looks at. `sorts` are those views that another class makes."""

    def __init__(self, world: World, sorts: Mapping[str, type[Picture]] | None = None) -> None:
        self._world = world
        self._sorts = sorts or {}
        self._boards: dict[Choice, Board] = {}
        self._open: dict[Choice, Picture] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def look(self, choice: Choice, viewer: Viewer) -> dict[str, Any]:
        """Look at a picture from now on; returns it as it is. Raises UsageError."""
        picture = self._open.get(choice)
        if picture is None:
            made = self._sorts.get(choice.view, Picture)
            picture = made(self._world, choice, self._board(choice))
        try:
            snapshot = picture.snapshot()
        except BaseException:
            if not picture.viewers:
                picture.close()
            raise
        self._open[choice] = picture
        picture.viewers.add(viewer)
        self._wake.set()
        return snapshot

    def shown(self, choice: Choice) -> dict[str, Any]:
        """A picture that somebody looks at, as it is."""
        return self._open[choice].snapshot()

    def leave(self, choice: Choice, viewer: Viewer) -> None:
        """Look no more."""
        picture = self._open.get(choice)
        if picture is not None:
            picture.viewers.discard(viewer)
            if not picture.viewers:
                del self._open[choice]
                picture.close()

    def _board(self, choice: Choice) -> Board:
        """The dashboard of a choice, whichever of its rows are shown. Raises UsageError."""
        same = msgspec.structs.replace(choice, first=0, number=0, fields="")
        board = self._boards.get(same)
        if board is None:
            if len(self._boards) >= BOARDS:
                self._tidy(0.0)
            board = self._boards[same] = Board(self._world, choice)
        return board

    def _tidy(self, kept: float = KEPT) -> None:
        """Give up dashboards that nobody has looked at for a while."""
        before = time.monotonic() - kept
        for choice, board in list(self._boards.items()):
            if not board.pictures and board.left <= before:
                del self._boards[choice]
                board.close()

    async def run(self) -> None:
        """Make the pictures anew until cancelled."""
        while True:
            self._tidy()
            if not self._open and not self._boards:
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


def _chosen(document: dict[str, Any], fields: str) -> dict[str, Any]:
    names = fields.split(",") if fields else document
    return {name: document[name] for name in names if name in document}


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
