"""Tasks as they are: one, a list of them, what happened to one, what came of it, why it waits."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from agentflow.dashboard.rows.tasks import Task
from agentflow.errors import TaskNotFound, UsageError
from agentflow.gateway.http.call import Call, answer
from agentflow.gateway.http.problems import Refusal
from agentflow.gateway.http.route import Route
from agentflow.gateway.newest import Place, place
from agentflow.protocol import jobs
from agentflow.protocol.record import Record
from agentflow.protocol.task import TaskBody
from agentflow.views import query
from agentflow.views.api import row_json
from agentflow.views.result import Result, result_of_record
from agentflow.views.row import Row, decode_labels, label_text, row_of_record, row_of_result
from agentflow.views.why import Why

WAIT_MOST: Final = 3600.0
A_TURN: Final = 2_000
"""Rows that are looked at before others have their turn."""
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FIELDS: Final = frozenset(Task.__struct_fields__)

Seconds = Annotated[float, msgspec.Meta(ge=0, le=WAIT_MOST)]


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks; all conditions must hold, and of several values of one any.

    `label` is name=value, `text` is found in id, title, labels, error, note or model, `since` an
    instant or a span back from now such as 2h, `q` the query language of the dashboard. `fields`
    are the only ones of a task that are told, with commas between; `cursor` is the `next` of the
    page before.
    """

    state: list[str] = []
    queue: list[str] = []
    kind: list[str] = []
    label: list[str] = []
    job: str = ""
    text: str = ""
    since: str = ""
    q: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    cursor: str = ""
    fields: str = ""


class TaskList(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks, the newest first; `next` begins the following page. `complete`: the gateway has read
    all that it reads of the streams."""

    tasks: list[Task]
    next: str | None
    complete: bool


class Step(msgspec.Struct, frozen=True):
    """A record of a task's log and its sequence."""

    sequence: int
    record: Record


class History(msgspec.Struct, frozen=True):
    """All records of a task that are kept, in order."""

    id: str
    records: list[Step]


class WaitQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`wait`: seconds to wait for the task's end."""

    wait: Seconds = 0.0


class ResultQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`wait`: seconds to wait for the task's end. After a retry its result is `newer_than` the
    sequence that the retry answered with."""

    wait: Seconds = 0.0
    newer_than: Annotated[int, msgspec.Meta(ge=0)] = 0


def shown(call: Call, row: Row) -> Task:
    """A row as it is told."""
    worker = call.gateway.store.name_of(row.actor) if row.actor else None
    return Task(**row_json(row, worker))


async def known(call: Call, task_id: str) -> Row:
    """The task as the followed store has it, else as its log or a master does.

    `Cache-Control: no-cache` asks the log's leader. Raises TaskNotFound.
    """
    gateway = call.gateway
    row = None
    if call.header("Cache-Control") != "no-cache":
        row = gateway.store.rows.get(task_id)
        if row is None and (lately := gateway.admitted.get(task_id)) is not None:
            row = lately.row
    if row is None:
        row = await _read(call, task_id)
    if not call.who.reaches(row.queue):
        raise TaskNotFound(f"there is no task {task_id}", task_id=task_id)
    return row


async def _read(call: Call, task_id: str) -> Row:
    client = call.gateway.client
    last = await client.read(task_id)
    if last.record is not None:
        return row_of_record(last.record, last.sequence, detailed=True)
    found = await client.get(task_id)
    if found.id != task_id:  # a master finds one by the beginning of its id
        raise TaskNotFound(f"there is no task {task_id}", task_id=task_id)
    return row_of_result(found)


async def _get(call: Call) -> web.Response:
    return answer(shown(call, await known(call, call.name)))


async def _history(call: Call) -> web.Response:
    await known(call, call.name)
    log = await call.gateway.client.history.log(call.name)
    return answer(History(call.name, [Step(*entry) for entry in log]))


async def _prompt(call: Call) -> web.Response:
    row = await known(call, call.name)
    body = await call.gateway.client.prompt(call.name, message=row.message)
    if body is None:
        raise Refusal(410, f"what task {call.name} was told is gone: it has ended")
    return answer(body)


async def _why(call: Call) -> web.Response:
    await known(call, call.name)
    return answer(await call.gateway.client.why(call.name))


async def _result(call: Call) -> web.Response:
    wanted = call.query(ResultQuery)
    await known(call, call.name)
    return await result_of(call, call.name, wanted.wait, wanted.newer_than)


async def result_of(call: Call, task_id: str, wait: float, newer_than: int = 0) -> web.Response:
    """200 with the result of a task that has ended, or does in time; else 202 with the task."""
    client = call.gateway.client
    last = await client.read(task_id)
    ended = last.record is not None and last.record.terminal and last.sequence > newer_than
    if not ended and wait:
        future = client.expect(task_id, newer_than=newer_than)
        try:
            async with asyncio.timeout(wait):
                await asyncio.shield(future)
        except TimeoutError:
            pass
        finally:
            future.cancel()
        last = await client.read(task_id)
        ended = last.record is not None and last.record.terminal and last.sequence > newer_than
    if ended and last.record is not None:
        return answer(result_of_record(last.record, last.sequence))
    return answer(shown(call, await known(call, task_id)), 202, {"Retry-After": "1"})


async def _list(call: Call) -> web.Response:
    wanted = call.query(TaskQuery)
    test, after = _test(call, wanted), _cursor(wanted.cursor)
    found: list[Row] = []
    last: Place | None = None
    more = False
    for looked, row in enumerate(call.gateway.newest.before(after), 1):
        if looked % A_TURN == 0:
            await asyncio.sleep(0)
        if test(row):
            if len(found) == wanted.limit:
                more = True
                break
            found.append(row)
            last = place(row)
    following = _encode_cursor(last) if more and last is not None else None
    complete = call.gateway.store.known.complete
    if wanted.fields:
        chosen = _chosen(wanted.fields)
        tasks = [_some(call, row, chosen) for row in found]
        return answer({"tasks": tasks, "next": following, "complete": complete})
    listed = TaskList(tasks=[shown(call, row) for row in found], next=following, complete=complete)
    return answer(listed)


def _chosen(text: str) -> list[str]:
    chosen = [name for name in text.split(",") if name]
    if wrong := [name for name in chosen if name not in _FIELDS]:
        raise UsageError(f"there is no field {wrong[0][:40]!r}; there are {', '.join(_FIELDS)}")
    return chosen


def _some(call: Call, row: Row, chosen: list[str]) -> dict[str, Any]:
    task = shown(call, row)
    return {name: getattr(task, name) for name in chosen}


def _test(call: Call, wanted: TaskQuery) -> Callable[[Row], bool]:
    """Whether a row is among the wanted. Raises UsageError."""
    tests = list(_tests(call, wanted))
    return lambda row: all(test(row) for test in tests)


def _tests(call: Call, wanted: TaskQuery) -> Iterator[Callable[[Row], bool]]:
    now = call.gateway.now
    queues = call.who.queues
    if queues:
        yield lambda row: row.queue in queues
    for name in ("state", "queue", "kind"):
        if values := frozenset(getattr(wanted, name)):
            yield lambda row, name=name, values=values: getattr(row, name) in values  # type: ignore[misc]
    labels = [pair.partition("=") for pair in wanted.label]
    if wanted.job:
        labels.append((jobs.LABEL, "=", wanted.job))
    for name, equals, value in labels:
        if equals:
            text = label_text(name, value)
            yield lambda row, text=text: text in row.labels  # type: ignore[misc]
        else:
            yield lambda row, name=name: bool(row.labels) and name in decode_labels(row.labels)  # type: ignore[misc]
    if wanted.text:
        part = wanted.text.lower()
        yield lambda row: any(
            part in text.lower()
            for text in (row.id, row.title, row.labels, row.error, row.note, row.model)
            if text
        )
    if wanted.since:
        first = instant_of(wanted.since, now).timestamp() * 1000
        yield lambda row: (row.submitted or row.updated) >= first
    if wanted.q:
        try:
            asked = query.parse(wanted.q)
        except query.QueryError as error:
            raise UsageError(f"q: {error}") from None
        yield lambda row: asked.wants(row, now)


def instant_of(text: str, now: float) -> datetime:
    """The instant that a parameter names, itself or as a span back from now. Raises UsageError."""
    if (ago := _AGO.fullmatch(text)) is not None:
        return datetime.fromtimestamp(max(0.0, now - float(ago[1]) * _UNITS[ago[2]]), UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"since is an instant (ISO 8601) or a span such as 2h, not {text[:40]!r}"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _encode_cursor(at: Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(at)).decode().rstrip("=")


def _cursor(text: str) -> Place | None:
    if not text:
        return None
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        at: Place = msgspec.json.decode(data, type=tuple[int, str])
    except (ValueError, msgspec.MsgspecError):
        raise Refusal(400, "cursor is none of ours; take it from `next` of a page") from None
    return at


ROUTES: Final = [
    Route(
        method="GET",
        path="/v1/tasks/{name}",
        do=_get,
        says="A task as it is now, without its text.",
        scoped=True,
        answer=Task,
    ),
    Route(
        method="GET",
        path="/v1/tasks",
        do=_list,
        says="Tasks, the newest first.",
        scoped=True,
        query=TaskQuery,
        answer=TaskList,
    ),
    Route(
        method="GET",
        path="/v1/tasks/{name}/history",
        do=_history,
        says="All that happened to a task.",
        scoped=True,
        answer=History,
    ),
    Route(
        method="GET",
        path="/v1/tasks/{name}/prompt",
        do=_prompt,
        says="What a task was told to do; 410 once that is gone.",
        scoped=True,
        answer=TaskBody,
    ),
    Route(
        method="GET",
        path="/v1/tasks/{name}/result",
        do=_result,
        says="What came of a task, text and all; 202 with the task where it has not ended in time.",
        scoped=True,
        query=ResultQuery,
        answer=Result,
    ),
    Route(
        method="GET",
        path="/v1/tasks/{name}/why",
        do=_why,
        says="Why a task waits, or where it stands.",
        scoped=True,
        answer=Why,
    ),
]
