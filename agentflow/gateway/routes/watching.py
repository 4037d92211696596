"""What the page asks for: several views in one stream, and the form for a new task.

A browser opens six connections to a host for all of its tabs together, so a page takes one. `on`
names a view and what is chosen of it, as its own path does (`tasks?q=state:failed`); the events are
those of /v1/views, with the place of the `on` that each is about as its id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from agentflow.dashboard.reader import submission
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.gateway.events.streams import ALIVE_EVERY, SSE, Stream
from agentflow.gateway.http.call import Call, answer
from agentflow.gateway.http.problems import Refusal
from agentflow.gateway.http.route import Route
from agentflow.gateway.routes.looking import ViewQuery
from agentflow.gateway.routes.reading import known
from agentflow.gateway.views import Choice, Viewer, checked, sse
from agentflow.protocol.task import TaskBody

MOST: Final = 6
"""Views in one stream."""


class WatchQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which views: `overview`, `tasks?q=state:failed&number=20`, and so on."""

    on: list[str] = []


class Typed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in the fields of the form."""

    values: dict[str, str]


class FormField(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the form. A `line` with `choices` takes other values too, a `choice` none."""

    name: str
    title: str
    kind: str
    choices: list[str]
    value: str
    hint: str


class Told(msgspec.Struct, frozen=True):
    """What a task was told; null where that is gone, as it is once it has ended well."""

    task: TaskBody | None


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed, judged: `problems` by field, the command lines that do the same, what it
    would mean, and `task`, the body of POST /v1/tasks."""

    problems: dict[str, str]
    command: str
    nats: str
    estimate: list[str]
    task: dict[str, Any]


_typed = msgspec.json.Decoder(Typed)


class Gathered(Viewer):
    """One viewer of several pictures. Far behind, it gets all of them anew."""

    def __init__(self) -> None:
        super().__init__()
        self.wholes: list[Callable[[], bytes]] = []

    def put(self, piece: bytes, whole: Callable[[], bytes]) -> None:
        """Add a piece; `whole` is of one picture, and all are needed."""
        super().put(piece, lambda: b"".join(make() for make in self.wholes))


class Part(Viewer):
    """The viewer of one picture among them; what it gets carries its place."""

    def __init__(self, to: Gathered, place: int) -> None:
        super().__init__()
        self._to = to
        self._mark = b"id: %d\n" % place

    def put(self, piece: bytes, whole: Callable[[], bytes]) -> None:
        """Hand it on."""
        self._to.put(self._mark + piece, whole)

    def marked(self, piece: bytes) -> bytes:
        """A piece as it is sent."""
        return self._mark + piece


def _choice(text: str) -> Choice:
    view, _, rest = text.partition("?")
    try:
        chosen = msgspec.convert(dict(parse_qsl(rest)), ViewQuery, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(400, f"on={text[:80]}: {error}") from None
    return checked(Choice(view=view, **msgspec.structs.asdict(chosen)))


async def _watch(call: Call) -> web.StreamResponse:
    wanted = call.query(WatchQuery).on
    if not 0 < len(wanted) <= MOST:
        raise Refusal(400, f"name 1 to {MOST} views with on=")
    choices = [_choice(text) for text in wanted]
    pictures, gathered = call.gateway.pictures, Gathered()
    parts = [Part(gathered, place) for place in range(len(choices))]
    try:
        first = []
        for choice, part in zip(choices, parts, strict=True):
            first.append(part.marked(sse("snapshot", pictures.look(choice, part))))
            gathered.wholes.append(
                lambda choice=choice, part=part: part.marked(  # type: ignore[misc]
                    sse("snapshot", pictures.shown(choice))
                )
            )
        if SSE not in (call.header("Accept") or ""):
            return answer([msgspec.json.decode(_data(piece)) for piece in first])
        stream = Stream(call)
        response = await stream.open()
        await stream.write(b"".join(first))
        while stream.going:
            piece = await gathered.next(ALIVE_EVERY)
            # An event, not a comment: the page takes silence for a lost connection.
            await stream.write(piece if piece is not None else b"event: alive\ndata: {}\n\n")
    finally:
        for choice, part in zip(choices, parts, strict=True):
            pictures.leave(choice, part)
    return response


def _data(piece: bytes) -> bytes:
    return piece.partition(b"\ndata: ")[2]


def _scene(call: Call) -> Scene:
    return Dashboard(store=call.gateway.store).scene(call.gateway.now)


async def _form(call: Call) -> web.Response:
    return answer(
        [
            FormField(
                name=field.name,
                title=field.title,
                kind=field.kind,
                choices=list(field.choices),
                value=field.value,
                hint=field.hint,
            )
            for field in submission.fields(_scene(call))
            if field.name != "file"  # the gateway's files are nobody's here
        ]
    )


async def _told(call: Call) -> web.Response:
    row = await known(call, call.name)
    return answer(Told(await call.gateway.client.prompt(call.name, message=row.message)))


async def _judge(call: Call) -> web.Response:
    values = (await call.body(_typed)).values
    values.pop("file", None)
    judged = submission.check(values, call.gateway.now)
    return answer(
        Judged(
            problems=judged.problems,
            command=judged.command,
            nats=judged.nats,
            estimate=submission.estimate(_scene(call), values),
            task=judged.arguments if judged.ok else {},
        )
    )


ROUTES: Final = [
    Route(
        method="GET",
        path="/v1/watch",
        do=_watch,
        says="Several views: with Accept: text/event-stream in one stream, in which the id of an "
        "event is the place of its `on`; else as they are.",
        query=WatchQuery,
        answer=list[dict[str, Any]],
    ),
    Route(
        method="GET",
        path="/v1/submission",
        do=_form,
        says="The fields of the form for a new task, with what is known as choices.",
        answer=list[FormField],
    ),
    Route(
        method="GET",
        path="/v1/submission/like/{name}",
        do=_told,
        says="What a task was told, to submit one alike.",
        scoped=True,
        answer=Told,
    ),
    Route(
        method="POST",
        path="/v1/submission/check",
        do=_judge,
        says="What is wrong with what was typed, what it would mean, and the same as a command.",
        role="submitter",
        body=Typed,
        answer=Judged,
    ),
]
