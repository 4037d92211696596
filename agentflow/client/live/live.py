"""All that a dashboard shows, as it comes: `async with client.live(sink)`.

Everything is heard or read from the server itself; no master is asked, but for tasks older than
what is read. So any number of dashboards cost the master nothing, and all works while none lives.

    link        connected, lost, back again
    records     the logs' newest records as rows (following.py)
    tasks       task messages that no worker has seen, as rows
    heartbeats  workers and masters
    gates       what is paused or closed
    depths      how much waits in which queue, every two seconds
    tokens      text as it is generated, of the tasks asked for
    older tasks what is unfinished and older than the records that are read: from a master

The sink is called in the event loop and must be quick; an error of its own is logged and nothing
else. Each part is a background task that starts again when it fails (parts.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Self

from agentflow.bus.streams import depths
from agentflow.bus.streams.bucket import Board
from agentflow.bus.wire.connection import Subscription
from agentflow.bus.wire.message import Message
from agentflow.client.asking import Asking
from agentflow.client.live.following import RECORDS, TASKS, Followed
from agentflow.client.live.older import older_rows
from agentflow.client.live.parts import Parts
from agentflow.client.session import Session
from agentflow.client.tasks.several import several
from agentflow.errors import BusError, MasterAbsent, NoStream, NotFound, PermissionDenied
from agentflow.protocol import control, limits, subjects
from agentflow.protocol.api import GateView
from agentflow.protocol.headers import number
from agentflow.views import feed
from agentflow.views import gates as gateviews
from agentflow.views.row import Row

_log = logging.getLogger(__name__)

NEWEST: Final = 300_000
"""Messages of a stream that are read."""
DEPTHS_EVERY: Final = 2.0
PROGRESS_EVERY: Final = 0.1
ABSENT: Final = 2.0
"""Seconds until the bucket is looked for again, or a master."""
LOST_EVERY: Final = 0.5
"""Why there is no connection may change: that often it is looked at."""
HEARD: Final = limits.HEARTBEAT + 0.5
"""Seconds in which every actor that lives has said so."""

Sink = Callable[[feed.Item], None]

_TOKENS: Final = len("agentflow.tokens.")


class Live:
    """The feed, on a connection that outlives it."""

    def __init__(
        self, session: Session, asking: Asking, sink: Sink, *, newest: int = NEWEST
    ) -> None:
        self._session = session
        self._connection = connection = session.connection
        self._js = js = session.js
        self._asking = asking
        self._sink = sink
        self._parts = Parts(connection, self._note)
        self._records = Followed(js, RECORDS, self, newest=newest)
        self._tasks = Followed(js, TASKS, self, newest=newest)
        self._subscriptions: list[Subscription] = []
        self._tokens: dict[str, Subscription] = {}
        self._unhook: list[Callable[[], None]] = []
        self._told_progress = 0.0
        self._progress: tuple[int, int, int] | None = None
        self._told_gates: list[GateView] | None = None
        self._why_lost = ""
        self._deaf_to_depths = False
        self.loaded = asyncio.Event()
        """Set once everything that is to be read has been read."""
        self.gates_known = asyncio.Event()
        self.depths_known = asyncio.Event()

    # Beginning and ending.

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen, and begin to read; returns at once."""
        connection = self._session.connection
        self._unhook = [
            connection.on_connect(self._connected),
            connection.on_disconnect(self._lost),
            connection.on_denied(lambda text: self._note("permissions", text)),
        ]
        self._link()
        self._subscriptions.append(connection.listen("agentflow.presence.*.*", self._heard))
        await self._records.start()
        await self._tasks.start()
        for name, work in (
            ("link", self._explain_loss),
            ("records", self._records.read_on),
            ("older records", self._records.read_older),
            ("tasks", self._tasks.read_on),
            ("older task messages", self._tasks.read_older),
            ("gates", self._follow_gates),
            ("depths", self._read_depths),
            ("older tasks", self._ask_for_older),
        ):
            self._parts.start(name, work)

    async def close(self) -> None:
        """End all of it; the connection stays."""
        for unhook in self._unhook:
            unhook()
        self._unhook = []
        await self._parts.close()
        await self._records.close()
        await self._tasks.close()
        for subscription in (*self._subscriptions, *self._tokens.values()):
            subscription.end()
        self._subscriptions = []
        self._tokens = {}

    # Telling.

    @property
    def now(self) -> float:
        """Seconds since 1970 by the server's clock."""
        return self._js.now().timestamp()

    def _tell(self, item: feed.Item) -> None:
        try:
            self._sink(item)
        except Exception:
            _log.exception("who takes the feed failed on %s", type(item).__name__)

    def _note(self, part: str, text: str) -> None:
        self._tell(feed.Note(at=self.now, part=part, text=text))

    def rows(self, rows: list[Row], *, live: bool) -> None:
        """See following.Told."""
        self._tell(feed.Rows(at=self.now, rows=rows, live=live))

    def anew(self, stream: str) -> None:
        """See following.Told."""
        self._tell(feed.Anew(at=self.now, stream=stream))
        if stream == subjects.RECORDS:
            # Records stood where now only the message is known: all that waits is told again.
            self._tasks.restart()

    def progress(self) -> None:
        """See following.Told."""
        done = self._records.done + self._tasks.done
        total = self._records.total + self._tasks.total
        whole = self._records.known.is_set() and self._tasks.known.is_set()
        if whole:
            done = total
            self.loaded.set()
            self._parts.well("records")
            self._parts.well("tasks")
        else:
            self.loaded.clear()
            if time.monotonic() - self._told_progress < PROGRESS_EVERY:
                return
        self._told_progress = time.monotonic()
        progress = (done, total, self._records.older)
        if progress != self._progress:
            self._progress = progress
            self._tell(feed.Loading(at=self.now, done=done, total=total, older=progress[2]))

    # The connection.

    def _link(self) -> None:
        connection = self._connection
        up = connection.connected.is_set()
        info = connection.server
        self._why_lost = "" if up else connection.last_error or "the connection was lost"
        self._tell(
            feed.Link(
                at=self.now,
                up=up,
                url=connection.options.shown,
                server=f"{info.get('server_name', '')} {info.get('version', '')}".strip(),
                detail=self._why_lost,
            )
        )

    def _connected(self) -> None:
        self._link()

    def _lost(self) -> None:
        self._link()

    async def _explain_loss(self) -> None:
        """Why it cannot be made again is known later than that it is lost.

        Who may not read the depths hears from a calm server by an answer to a ping instead.
        """
        while True:
            await asyncio.sleep(DEPTHS_EVERY if self._deaf_to_depths else LOST_EVERY)
            if self._deaf_to_depths and not self._why_lost:
                with contextlib.suppress(BusError):
                    await self._connection.flush()
                    self._link()
            error = self._connection.last_error
            if self._why_lost and error and error != self._why_lost:
                self._link()

    # Actors.

    def _heard(self, message: Message) -> None:
        beat = control.decode_heartbeat(message.data)
        if beat is not None:
            self._tell(feed.Beat(at=self.now, beat=beat))

    # Gates.

    async def _follow_gates(self) -> None:
        while True:
            board = Board(self._js)
            changed = asyncio.Event()
            board.on_change(partial(_set, changed))
            watching: asyncio.Future[None] | None = None
            try:
                await board.start()
                watching = asyncio.ensure_future(board.watch())
                while True:
                    now = datetime.fromtimestamp(self.now, UTC)
                    standing = gateviews.views(board.items(), now)
                    self._tell_gates(standing)
                    # Until a key changes, or what is closed opens by itself.
                    ends = [gate.until for gate in standing if gate.until is not None]
                    waiting = asyncio.ensure_future(changed.wait())
                    try:
                        await asyncio.wait(
                            (waiting, watching),
                            timeout=_seconds(min(ends) - now) if ends else None,
                            return_when=asyncio.FIRST_COMPLETED,
                        )
                    finally:
                        waiting.cancel()
                    if watching.done():
                        await watching
                    changed.clear()
            except PermissionDenied:
                self.gates_known.set()
                raise
            except NoStream:
                self._tell_gates([])  # nobody has used this server yet
                await asyncio.sleep(ABSENT)
            finally:
                if watching is not None:
                    watching.cancel()
                    await asyncio.wait((watching,))
                await board.close()

    def _tell_gates(self, standing: list[GateView]) -> None:
        if standing != self._told_gates:
            self._told_gates = standing
            self._tell(feed.Gates(at=self.now, gates=standing))
        self.gates_known.set()
        self._parts.well("gates")

    # Queues.

    async def _read_depths(self) -> None:
        while True:
            await self._connection.connected.wait()
            try:
                await self._read_depths_once()
            except PermissionDenied:
                self._deaf_to_depths = True
                self.depths_known.set()
                raise
            self._deaf_to_depths = False
            self._parts.well("depths")
            self.depths_known.set()
            await asyncio.sleep(DEPTHS_EVERY)

    async def _read_depths_once(self) -> None:
        try:
            reading = await depths.read(self._js)
        except NotFound:
            reading = depths.Reading({}, 0)
        dead = 0
        try:
            dead = int((await self._js.stream_info(subjects.DEAD))["state"]["messages"])
            self._parts.well("dead letters")
        except NotFound:
            pass
        except PermissionDenied as error:
            self._parts.wrong("dead letters", str(error))
        queues = [
            feed.QueueDepth(
                queue=queue,
                messages=depth.messages,
                waiting=depth.waiting,
                oldest=depth.oldest.timestamp() if depth.oldest else None,
                pulls=depth.pulls,
            )
            for queue, depth in sorted(reading.depths.items())
        ]
        self._tell(feed.Depths(at=self.now, queues=queues, first=reading.first, dead=dead))

    # Tokens.

    def follow_tokens(self, ids: Iterable[str]) -> None:
        """Hear what is generated for exactly these tasks."""
        self._session.check()
        several(ids, "ids")
        wanted = {task_id for task_id in ids if all(map(subjects.is_id, task_id.split(".")))}
        for task_id in self._tokens.keys() - wanted:
            self._tokens.pop(task_id).end()
        for task_id in wanted - self._tokens.keys():
            self._tokens[task_id] = self._connection.listen(
                subjects.tokens(task_id), self._generated
            )

    def _generated(self, message: Message) -> None:
        headers = message.headers
        self._tell(
            feed.Tokens(
                at=self.now,
                id=message.subject[_TOKENS:],
                text=message.data.decode("utf-8", "replace"),
                attempt=number(headers.get(subjects.ATTEMPT)) or 0,
                offset=number(headers.get(subjects.OFFSET)) or 0,
            )
        )

    # What is older than the records that are read.

    async def _ask_for_older(self) -> None:
        while True:
            await self.loaded.wait()
            if not self._records.older:
                return
            try:
                async for rows in older_rows(self._asking):
                    self.rows(rows, live=False)
                    await asyncio.sleep(0)
            except MasterAbsent:
                await asyncio.sleep(ABSENT)
                continue
            self._parts.well("older tasks")
            return


def _set(changed: asyncio.Event, _: str) -> None:
    changed.set()


def _seconds(span: timedelta) -> float:
    return max(0.05, span.total_seconds())


async def snapshot(
    session: Session,
    asking: Asking,
    *,
    newest: int,
    listen: float = HEARD,
    within: float = 30.0,
) -> list[feed.Item]:
    """One complete picture as a list: the feed, until all is known once.

    It takes `listen` seconds at least, in which heartbeats are heard, and `within` at most.
    """
    items: list[feed.Item] = []
    async with Live(session, asking, items.append, newest=newest) as live:
        end = time.monotonic() + within
        await asyncio.sleep(listen)
        for known in (live.loaded, live.gates_known, live.depths_known):
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    await known.wait()
            except TimeoutError:
                _log.warning("the snapshot is not complete after %g s", within)
                break
    return items
